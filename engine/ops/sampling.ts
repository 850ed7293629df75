// Gumbel-max sampling: id = argmax_v z_v / τ − ln E(word of v), which draws v with probability softmax(z / τ). The words are
// Philox of a counter of the token's own, so a draw does not depend on the batch, and two policies that see the same counter
// are coupled: they say the same where they agree.
//
// The maximum is found over vocabulary chunks with the best so far kept for each row, so that [R, V] need not exist.
import { defineKernel } from "../kernel.ts";
import { run } from "../run.ts";
import { empty, type Tensor } from "../tensor.ts";
import * as cpu from "./sampling.cpu.ts";

/** What a row has as its best id while no logit was comparable: all were NaN or −∞. */
export const noSample = 0xffffffff;

const samplingKernel = defineKernel({
  name: "sample",
  axes: { rows: "map" },
  bindings: {
    logits: { access: "read", axis: "rows" },
    counters: { access: "read", axis: "rows" },
    score: { access: "update", axis: "rows" },
    picked: { access: "update", axis: "rows" },
    id: { access: "update", axis: "rows" },
  },
  /** The chunk holds ids columnStart …; τ = 0 is greedy. */
  params: { stride: "u32", columns: "u32", columnStart: "u32", isFirst: "u32", temperature: "f32", key0: "u32", key1: "u32" },
  cpu: cpu.sample,
  wgsl: new URL("./sampling.wgsl", import.meta.url),
  uses: ["flat-workgroup", "philox", "random-values"],
  constants: { LANES: 32 },
  workgroups: ({ rows }) => [rows],
});

/** The best of each row so far: its score, its logit / τ (the logit itself when greedy), and its id. */
export interface Samples {
  readonly score: Tensor; // [R]
  readonly picked: Tensor; // [R]
  readonly id: Tensor; // [R] u32
}

export interface SamplingSettings {
  /** Philox key of the noise. */
  readonly key: readonly [number, number];
  /** τ; 0 is greedy: no noise, ties to the lowest id. */
  readonly temperature: number;
}

/** @param logits  any tensor with R rows of the logits' dtype and backend */
export function emptySamples(logits: Tensor): Samples {
  const { backend, rows, dtype } = logits;
  return {
    score: empty(backend, [rows], dtype, "sampling.score"),
    picked: empty(backend, [rows], dtype, "sampling.picked"),
    id: empty(backend, [rows], "u32", "sampling.id"),
  };
}

/**
 * Takes a chunk of logits into account; chunks come in order of their columns, the one at column 0 first.
 * @param logits       [R, ≥ columns.count] f32, of ids columns.start …; what is beyond the columns is not read
 * @param columns      start: a multiple of 4
 * @param counters     [R, 4] u32: {position | turn << 24, rollout, word of the prompt, 0}
 * @param samples      from `emptySamples`, changed
 */
export function sampleChunk(
  logits: Tensor,
  columns: { readonly start: number; readonly count: number },
  counters: Tensor,
  samples: Samples,
  { key, temperature }: SamplingSettings,
): void {
  run(
    samplingKernel,
    { logits, counters, ...samples },
    {
      stride: logits.rowSize,
      columns: columns.count,
      columnStart: columns.start,
      isFirst: columns.start === 0 ? 1 : 0,
      temperature,
      key0: key[0],
      key1: key[1],
    },
  );
}
