// Where a conversation at a grid point first differs from the checkpoint's.
//
// A grid point samples with the noise of the checkpoint's own completion of the same prompt and number. So the two
// conversations are the same token by token up to the first token that the perturbation changed. That place is stored
// for every rollout that has such a completion.

import type { Answers } from "../../rl/index.ts";
import type { CellRecord } from "../files/cells.ts";
import type { MeasuredRollout } from "./under-way.ts";

/** Stored for a conversation that is the checkpoint's to its end. */
export const neverDiffers = -1;

/**
 * Assistant tokens before the first one that differs, counted over all turns; `neverDiffers` if there is none. If one
 * answer is the beginning of the other, the first token that only one of them has is the first that differs.
 */
export function firstDifference(answers: Answers, checkpoints: Answers): number {
  let before = 0;
  for (let turn = 0; turn < Math.max(answers.length, checkpoints.length); turn++) {
    const answer = answers[turn] ?? [];
    const other = checkpoints[turn] ?? [];
    for (let t = 0; t < Math.max(answer.length, other.length); t++) if (answer[t] !== other[t]) return before + t;
    before += answer.length;
  }
  return neverDiffers;
}

/**
 * The field of a grid point's record. Left out if an earlier version measured one of the rollouts, because it did not
 * keep the place.
 * @param byPrompt  [prompt][rollout]
 * @param both      prompts, and rollouts per prompt, of the checkpoint's own completions
 */
export function firstDifferences(
  byPrompt: readonly (readonly Pick<MeasuredRollout, "firstDifference">[])[],
  both: { readonly prompts: number; readonly rolloutsPerPrompt: number },
): Pick<CellRecord, "firstDifference"> {
  const shared = byPrompt.slice(0, both.prompts).map((of) => of.slice(0, both.rolloutsPerPrompt));
  const places = shared.map((of) => of.flatMap(({ firstDifference: place }) => place ?? []));
  return places.every((of, p) => of.length === shared[p].length) ? { firstDifference: places } : {};
}
