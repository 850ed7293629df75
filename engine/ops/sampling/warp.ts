// Logits processors before sampling, in the order of transformers:
//
//   repetition penalty   z ← z / ρ if z > 0, z · ρ if z ≤ 0, for every id that already occurs in the row's text (once each)
//   temperature          z ← z / τ
//   top-k                z ← −∞ unless z is at least the k-th largest
//   top-p                z ← −∞ unless the probabilities of all larger z sum to less than p
//
// Both cuts have one form: every z has a weight (1, or its probability), and the kept ids are those from the largest z
// down to the first at which the weights reach a target (k, or p). So whether an id is kept depends on the values
// alone: equal values are kept or cut together, while transformers' top-p splits them by the order of its sort. The
// largest z is always kept.
//
// The draw is the Gumbel-max of sampling.ts with the same noise. So if an id is drawn without a cut, it is also drawn
// with every cut that keeps it.
// Sources: Keskar et al. 2019 (penalty), Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p).

import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { memoryLabel } from "../../memory-purpose.ts";
import { expectShape } from "../../op.ts";
import { run } from "../../run.ts";
import { empty, type Tensor } from "../../tensor.ts";
import { laneConstants, laneVariants } from "../head/logits.ts";
import * as cpu from "./warp.cpu.ts";

export interface Warping {
  /** How many of the largest logits are kept; 0: all. */
  readonly topK: number;
  /** Probability that the kept ids together reach, above 0; 1: all are kept. */
  readonly topP: number;
  /** ρ, from 1 / largestPenalty to largestPenalty; 1: none. */
  readonly repetitionPenalty: number;
}

/** Largest ρ: beyond it, or below its inverse, penalised f32 logits could overflow. */
export const largestPenalty = 1e9;

export const noWarping: Warping = { topK: 0, topP: 1, repetitionPenalty: 1 };

const scaleKernel = defineKernel({
  name: "warpScale",
  axes: { rows: "map" },
  bindings: {
    logits: { access: "read", axis: "rows" },
    seen: { access: "read", axis: "rows" },
    warped: { access: "write", axis: "rows" },
  },
  params: { columns: "u32", width: "u32", seenWidth: "u32", hasSeen: "u32", penalty: "f32", temperature: "f32" },
  cpu: cpu.warpScale,
  wgsl: new URL("./warp-scale.wgsl", import.meta.url),
  workgroups: ({ rows, columns }) => [Math.ceil(columns / 256), rows, 1],
});

const cutKernel = defineKernel({
  name: "warpCut",
  axes: { rows: "map" },
  bindings: { warped: { access: "update", axis: "rows" } },
  params: {
    columns: "u32",
    width: "u32",
    /** Weights: 1 each, or the softmax's probabilities. */
    isCount: "u32",
    reach: "f32",
  },
  cpu: cpu.warpCut,
  wgsl: new URL("./warp-cut.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: { LANES: 64 },
  variants: laneVariants,
  workgroups: ({ rows }) => [rows],
});

/** Words of a set of ids below `vocabulary`: id v is bit v mod 32 of word ⌊v / 32⌋. */
export function seenWords(vocabulary: number): number {
  return Math.ceil(vocabulary / 32);
}

/** Adds ids to a set of `seenWords` words. */
export function markSeen(words: Uint32Array, ids: Iterable<number>): void {
  for (const id of ids) words[id >>> 5] |= 1 << (id & 31);
}

/** Whether there is anything to do: cuts do not change a greedy choice. */
export function warps({ topK, topP, repetitionPenalty }: Warping, temperature: number): boolean {
  return repetitionPenalty !== 1 || (temperature > 0 && (topK > 0 || topP < 1));
}

/**
 * @throws Error when a value is out of its bounds
 */
export function expectWarping(what: string, { topK, topP, repetitionPenalty }: Warping): void {
  if (!Number.isInteger(topK) || topK < 0)
    throw new Error(`${what}: topK: expected an integer from 0 (off) on, got ${topK}.`);
  if (!(topP > 0 && topP <= 1))
    throw new Error(`${what}: topP: expected a number above 0, at most 1 (off), got ${topP}.`);
  if (!(repetitionPenalty >= 1 / largestPenalty && repetitionPenalty <= largestPenalty))
    throw new Error(
      `${what}: repetitionPenalty: expected a number from ${1 / largestPenalty} to ${largestPenalty}, 1 for none, ` +
        `got ${repetitionPenalty}.`,
    );
}

/**
 * Warped logits, −∞ if an id is cut: a new tensor of the innermost scope. If a row contains NaN or +∞, so does the
 * result.
 * @param logits       [R, ≥ columns] f32, of all ids of the vocabulary; further columns are ignored
 * @param temperature  τ; 0 (greedy): neither divided nor cut
 * @param seen         [R, seenWords(columns)] u32: the ids of each row's text so far; may be null only without a
 *         penalty
 * @returns            [R, the width of logits], to be sampled at temperature 1, or at 0 when greedy
 * @throws ShapeError when seen has another shape, or is missing
 */
export function warpLogits(
  logits: Tensor,
  columns: number,
  temperature: number,
  seen: Tensor | null,
  { topK, topP, repetitionPenalty }: Warping,
): Tensor {
  const { rows, rowSize: width } = logits;
  if (seen !== null)
    expectShape("warpLogits: seen", seen.shape, [rows, seenWords(columns)], "It has a bit for each id of each row.");
  else if (repetitionPenalty !== 1)
    throw new ShapeError("warpLogits: seen: expected the ids of each row's text, got null. The penalty needs them.");
  const warped = empty(logits.backend, logits.shape, logits.dtype, memoryLabel("head", "warped logits"));
  run(
    scaleKernel,
    { logits, seen: seen ?? logits, warped },
    {
      columns,
      width,
      seenWidth: seen?.rowSize ?? 0,
      hasSeen: seen === null || repetitionPenalty === 1 ? 0 : 1,
      penalty: repetitionPenalty,
      temperature: temperature === 0 ? 1 : temperature,
    },
  );
  const cut = (isCount: 0 | 1, reach: number): void =>
    run(cutKernel, { warped }, { columns, width, isCount, reach }, { constants: laneConstants(logits.backend) });
  if (temperature > 0 && topK > 0 && topK < columns) cut(1, topK);
  if (temperature > 0 && topP < 1) cut(0, topP);
  return warped;
}
