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
import { laneConstants, laneVariants } from "../head/logits.ts";
import * as cpu from "./sampling.cpu.ts";

/** The id of a row from which no token can be drawn: a logit is NaN or +∞, or all are −∞. */
export const noSample = 0xffffffff;

const samplingKernel = defineKernel({
  name: "sample",
  axes: { rows: "map" },
  bindings: {
    logits: { access: "read", axis: "rows" },
    counters: { access: "read", axis: "rows" },
    words: { access: "read", axis: "rows" },
    score: { access: "update", axis: "rows" },
    picked: { access: "update", axis: "rows" },
    id: { access: "update", axis: "rows" },
  },
  params: {
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
  uses: ["flat-workgroup", "philox", "random-values"],
  constants: { LANES: 64 },
  variants: laneVariants,
  workgroups: ({ rows }) => [rows],
});

/** The best score of each row so far. */
export interface Samples {
  /** [R], its score: z / τ with the noise. */
  readonly score: Tensor;
  /** [R], its z / τ (z itself when greedy); NaN if the row has no sample. */
  readonly picked: Tensor;
  /** [R] u32, `noSample` if the row has none. */
  readonly id: Tensor;
}

export interface SamplingSettings {
  /** Philox key of the noise. */
  readonly key: readonly [number, number];
  /** τ; 0 is greedy: no noise, ties to the lowest id. */
  readonly temperature: number;
  /** [R, ≥ V] u32: the word of every id, given instead of drawn. For tests with known answers. */
  readonly words?: Tensor;
}

/**
 * @param logits  any tensor with R rows of the logits' dtype and backend
 * @param id      [R] u32, for the ids. Default: a new tensor
 */
export function emptySamples(logits: Tensor, id?: Tensor): Samples {
  const { backend, rows, dtype } = logits;
  return {
    score: empty(backend, [rows], dtype, memoryLabel("head", "sampling.score")),
    picked: empty(backend, [rows], dtype, memoryLabel("head", "sampling.picked")),
    id: id ?? empty(backend, [rows], "u32", memoryLabel("head", "sampling.id")),
  };
}

/**
 * Processes a chunk of logits. Chunks come in the order of their columns; the first begins at column 0.
 * @param logits    [R, ≥ columns.count] f32, of ids columns.start …; further columns are ignored
 * @param columns   start: a multiple of 4, since four ids share a counter
 * @param counters  [R, 4] u32: {position | turn << 24, rollout, word of the prompt, 0}
 * @param samples   from `emptySamples`, changed
 * @throws ShapeError when shapes do not match, or a chunk begins inside a four
 */
export function sampleChunk(
  logits: Tensor,
  columns: { readonly start: number; readonly count: number },
  counters: Tensor,
  samples: Samples,
  { key, temperature, words }: SamplingSettings,
): void {
  expectShape("sampleChunk: counters", counters.shape, [logits.rows, 4], "Each row of logits has its own counter.");
  if (columns.start % 4 !== 0 || columns.count > logits.rowSize)
    throw new ShapeError(
      `sampleChunk: columns: expected a start that is a multiple of 4 and at most ${logits.rowSize} of them, got ` +
        `${columns.count} from ${columns.start}. Four ids share a counter.`,
    );
  run(
    samplingKernel,
    { logits, counters, words: words ?? counters, ...samples },
    {
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
