// Gumbel-max sampling: id = argmax_v z_v / τ − ln E(word of v), which draws v with probability softmax(z / τ). The
// words are Philox of the token's own counter, so a draw does not depend on the batch. Two policies that use the same
// counter are coupled: where their distributions agree, they draw the same token.
//
// The maximum is computed over vocabulary chunks, and the best score so far is stored per row, so [R, V] need not
// exist.

import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { memoryLabel } from "../../memory-purpose.ts";
import { expectShape } from "../../op.ts";
import { run } from "../../run.ts";
import { empty, type Tensor } from "../../tensor.ts";
import { bindPickRows, laneConstants, laneVariants, type PickRows, pickRowParams } from "../head/logits.ts";
import * as cpu from "./sampling.cpu.ts";

/** The id of a row from which no token can be drawn: a logit is NaN or +∞, or all are −∞. */
export const noSample = 0xffffffff;

// Over the segments of logits, each dispatch draws from the rows that it holds.
const samplingKernel = defineKernel({
  name: "sample",
  axes: { picks: "map", source: "reduce" },
  bindings: {
    logits: { access: "read", axis: "source" },
    rowOf: { access: "read", axis: "picks" },
    counters: { access: "read", axis: "picks" },
    words: { access: "read", axis: "picks" },
    score: { access: "update", axis: "picks" },
    picked: { access: "update", axis: "picks" },
    id: { access: "update", axis: "picks" },
  },
  params: {
    ...pickRowParams,
    /** The chunk contains ids columnStart …, in rows of `stride`. */
    stride: "u32",
    columns: "u32",
    columnStart: "u32",
    isFirst: "u32",
    temperature: "f32",
    key0: "u32",
    key1: "u32",
    hasWords: "u32",
    wordsStride: "u32",
    /** The value of `picked` in a row without a sample. */
    absent: "f32",
  },
  cpu: cpu.sample,
  wgsl: new URL("./sampling.wgsl", import.meta.url),
  uses: ["flat-workgroup", "philox", "random-values", "pick-row"],
  constants: { LANES: 64 },
  variants: laneVariants,
  workgroups: ({ picks }) => [picks],
});

/** The best score of each draw so far. */
export interface Samples {
  /** [P], its score: z / τ with the noise. */
  readonly score: Tensor;
  /** [P], its z / τ (z itself when greedy); NaN if there is no sample. */
  readonly picked: Tensor;
  /** [P] u32, `noSample` if there is none. */
  readonly id: Tensor;
}

export interface SamplingSettings {
  /** Philox key of the noise. */
  readonly key: readonly [number, number];
  /** τ; 0 is greedy: no noise, ties to the lowest id. */
  readonly temperature: number;
  /** [P, ≥ V] u32: the word of every id, given instead of drawn. For tests with known answers. */
  readonly words?: Tensor;
  /** Where several draws are from one row. Default: one from each row. */
  readonly picks?: PickRows | null;
}

/**
 * @param logits  any tensor of the logits' dtype and backend
 * @param id      [P] u32, for the ids. Default: a new tensor
 * @param picks   P. Default: as many as rows of `logits`
 */
export function emptySamples({ backend, dtype, rows }: Tensor, id?: Tensor, picks = rows): Samples {
  return {
    score: empty(backend, [picks], dtype, memoryLabel("head", "sampling.score")),
    picked: empty(backend, [picks], dtype, memoryLabel("head", "sampling.picked")),
    id: id ?? empty(backend, [picks], "u32", memoryLabel("head", "sampling.id")),
  };
}

/**
 * Processes a chunk of logits. Chunks come in the order of their columns; the first begins at column 0.
 * @param logits    [R, ≥ columns.count] f32, of ids columns.start …; further columns are ignored
 * @param columns   start: a multiple of 4, since four ids share a counter
 * @param counters  [P, 4] u32: {position | turn << 24, rollout, word of the prompt, 0}
 * @param samples   from `emptySamples`, changed
 * @throws ShapeError when shapes do not match, or a chunk begins inside a four
 */
export function sampleChunk(
  logits: Tensor,
  columns: { readonly start: number; readonly count: number },
  counters: Tensor,
  samples: Samples,
  { key, temperature, words, picks = null }: SamplingSettings,
): void {
  const draws = picks === null ? logits.rows : picks.rowOf.rows;
  expectShape("sampleChunk: counters", counters.shape, [draws, 4], "Each draw has its own counter.");
  if (columns.start % 4 !== 0 || columns.count > logits.rowSize)
    throw new ShapeError(
      `sampleChunk: columns: expected a start that is a multiple of 4 and at most ${logits.rowSize} of them, got ` +
        `${columns.count} from ${columns.start}. Four ids share a counter.`,
    );
  const { rowOf, params } = bindPickRows(picks, counters);
  run(
    samplingKernel,
    { logits, rowOf, counters, words: words ?? counters, ...samples },
    {
      ...params,
      stride: logits.rowSize,
      columns: columns.count,
      columnStart: columns.start,
      isFirst: columns.start === 0 ? 1 : 0,
      temperature,
      key0: key[0],
      key1: key[1],
      hasWords: words === undefined ? 0 : 1,
      wordsStride: words?.rowSize ?? 0,
      absent: Number.NaN,
    },
    { constants: laneConstants(logits.backend) },
  );
}
