// KL and R between all pairs of checkpoints, a part of T3: how far in KL training moved, and what reward it gained there.
// KL(π_from ‖ π_to) is on the completions of `from`, so the matrix is not symmetric.
import { FileError, type OnDamage, writeAtomic } from "../../engine/host/index.ts";
import { isBeside } from "../direction-settings.ts";
import { type ByRollout, readReference } from "../files/cells.ts";
import { pairPath, pairsSummaryPath, raysFolder } from "../files/layout.ts";
import { readPair } from "../files/pair-files.ts";
import { readRayPoints } from "../files/ray-files.ts";
import type { StudySettings } from "../settings.ts";
import { difference, type Estimand } from "./estimands.ts";
import type { Estimate } from "./intervals.ts";
import { promptInterval, ratioOfSums } from "./leave-one-out.ts";
import type { PromptMaps } from "./prompt-maps.ts";
import { meanOfPrompts } from "./rays/ray-field.ts";

export const PAIRS_SCHEMA_VERSION = 1;

export interface CheckpointPair {
  readonly from: number;
  readonly to: number;
  /** `kl_token` of KL(π_from ‖ π_to), over prompts. */
  readonly kl: Estimate;
  /** R(to) − R(from), paired over prompts; null if one of them is not measured. */
  readonly gain: Estimate | null;
}

/** A slice with the rewards of each prompt. */
interface MappedSlice {
  readonly step: number;
  readonly maps: Pick<PromptMaps, "cells" | "reward">;
}

/**
 * Reads the pairs, and writes landscape/pairs.json if there are any.
 * @param gap  told what is missing, in a sentence
 */
export function summarisePairs(
  folder: string,
  settings: StudySettings,
  slices: readonly MappedSlice[],
  say: OnDamage,
  gap: (sentence: string) => void,
): CheckpointPair[] {
  const { steps, pairs: isAsked } = settings.landscape;
  if (!isAsked) return [];
  const rewards = new Map(steps.map((step) => [step, ownRewards(folder, step, settings, slices, say)]));
  const found = steps.flatMap((from) =>
    steps.flatMap((to): CheckpointPair[] => {
      const record = from === to ? null : readPair(folder, from, to);
      const tokens = record === null ? null : (readReference(folder, from)?.tokens ?? null);
      if (record === null || tokens === null) return [];
      if (tokens.length !== record.reference.kl.length)
        throw new FileError(
          `${pairPath(folder, from, to)}: it has ${record.reference.kl.length} prompts, reference.json ${tokens.length}. Restore the files ` +
            "from a copy.",
        );
      const sums = (of: ByRollout): number[] => of.map((prompt) => prompt.reduce((sum, one) => sum + one, 0));
      const [before, after] = [rewards.get(from) ?? null, rewards.get(to) ?? null];
      return [
        {
          ...{ from, to, kl: promptInterval(ratioOfSums(sums(record.reference.kl), sums(tokens))) },
          gain: before === null || after === null ? null : promptInterval(difference(meanOf(after), meanOf(before))),
        },
      ];
    }),
  );
  const wanted = steps.length * (steps.length - 1);
  if (found.length < wanted) gap(`Pairs of checkpoints: ${found.length} of ${wanted} are scored.`);
  const unknown = steps.filter((step) => rewards.get(step) === null);
  if (unknown.length > 0)
    gap(
      `Pairs of checkpoints: the reward of step ${unknown.join(", ")} itself is not measured (neither a map's centre nor rays), so pairs ` +
        "with it have KL alone.",
    );
  if (found.length > 0)
    writeAtomic(
      pairsSummaryPath(folder),
      `${JSON.stringify({ schemaVersion: PAIRS_SCHEMA_VERSION, pairs: found }, null, 1)}\n`,
    );
  return found;
}

const meanOf = (rewards: ArrayLike<number>): Estimand =>
  ratioOfSums(
    rewards,
    Array.from(rewards, () => 1),
  );

/** The checkpoint's mean reward on each prompt: from the centre of a map, else from its rays. */
function ownRewards(
  folder: string,
  step: number,
  { landscape }: StudySettings,
  slices: readonly MappedSlice[],
  say: OnDamage,
): ArrayLike<number> | null {
  const maps = slices.find((slice) => slice.step === step)?.maps;
  const centre = maps?.cells.findIndex(({ alpha, beta }) => alpha === 0 && beta === 0) ?? -1;
  if (maps !== undefined && centre >= 0 && !isBeside(landscape.centre)) return maps.reward.map((map) => map[centre]);
  if (landscape.rays.count === 0) return null;
  const origin = readRayPoints(folder, raysFolder(folder, step), step, say)?.cells.find(({ i }) => i < 0);
  return origin === undefined ? null : meanOfPrompts(origin.rollouts.reward);
}
