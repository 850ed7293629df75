// The batch of a training step: its rollouts, and what an update needs to know about each of them. Two settings leave
// rollouts out of the updates. train.equalGroups "drop" drops groups whose rewards are all equal, from which nothing can
// be learnt, and train.maxRedraws draws other prompts in their place (dynamic sampling, Yu et al. 2025). And
// train.maskTruncated leaves out rollouts with an answer that was cut off. Rollouts whose environment failed are always
// left out.
import { batchAdvantages } from "./advantage.ts";
import type { EpisodeList } from "./environments/environment.ts";
import type { PolicyExample } from "./learn.ts";
import { type Rollout, type RolloutRequest, requestsFrom } from "./rollout.ts";
import { tokenWeights } from "./token-weights.ts";
import type { TrainValues } from "./training-settings.ts";

export interface StepBatch {
  /** Every rollout of the step, by prompt, in the order in which they were drawn. */
  readonly groups: readonly (readonly Rollout[])[];
  /** One per rollout, groups one after another; 0 in dropped groups. */
  readonly advantages: readonly number[];
  /** Which rollouts the updates use, likewise. */
  readonly used: readonly boolean[];
  /** The used ones, with their advantages and token weights. */
  readonly examples: readonly (Rollout & PolicyExample)[];
  /** Number of groups that were dropped. */
  readonly dropped: number;
}

export type BatchSettings = Pick<
  TrainValues,
  | "promptsPerStep"
  | "rolloutsPerPrompt"
  | "maxNewTokens"
  | "advantage"
  | "advantageEpsilon"
  | "normalisation"
  | "equalGroups"
  | "maxRedraws"
  | "maskTruncated"
>;

/**
 * Draws the groups of a step. With redraws, every round after the first draws as many prompts as groups are missing.
 * @param first  position of the first prompt in the list of episodes
 */
export async function drawGroups(
  episodes: EpisodeList,
  first: number,
  settings: BatchSettings,
  rollOutAll: (requests: readonly RolloutRequest[]) => Promise<readonly Rollout[]>,
): Promise<Rollout[][]> {
  const { promptsPerStep, rolloutsPerPrompt: G, equalGroups, maxRedraws } = settings;
  const groups: Rollout[][] = [];
  const copies = new Map<string, Set<number>>();
  let missing = promptsPerStep;
  for (let round = 0; missing > 0 && round <= (equalGroups === "drop" ? maxRedraws : 0); round++) {
    const rollouts = await rollOutAll(requestsFrom(episodes, first + groups.length, missing, G, copies));
    for (let g = 0; g < missing; g++) groups.push(rollouts.slice(g * G, (g + 1) * G));
    missing = promptsPerStep - groups.filter((group) => !isEqual(group)).length;
  }
  return groups;
}

/** Whether all rewards of a group are equal, so that every advantage is 0. */
function isEqual(group: readonly Rollout[]): boolean {
  const scored = group.filter(hasReward);
  return scored.every(({ reward }) => reward === scored[0].reward);
}

/** False if the environment failed: the rollout is treated as if it had not been drawn. */
const hasReward = ({ failure }: Rollout): boolean => failure === null;

/**
 * What the updates learn from the groups of a step. Dropped groups count nowhere: not among the groups, rollouts and tokens
 * that a loss is divided by, nor in the deviation of the batch. A rollout that is left out because it was cut off keeps its
 * place among the rollouts and its group's rewards; only its tokens are gone. A rollout whose environment failed has no
 * reward and counts nowhere either: its group is the others.
 */
export function stepBatch(groups: readonly (readonly Rollout[])[], settings: BatchSettings): StepBatch {
  const { advantage, advantageEpsilon, normalisation, maxNewTokens, equalGroups, maskTruncated } = settings;
  const isKept = groups.map((group) => equalGroups === "keep" || !isEqual(group));
  const keptGroups = groups.map((group, g) => (isKept[g] ? group.filter(hasReward) : []));
  const kept = keptGroups.flat();
  const groupOf = keptGroups.flatMap((group, g) => group.map(() => g));
  const ofKept = batchAdvantages(
    advantage,
    kept.map(({ reward }) => reward),
    keptGroups.map(({ length }) => length),
    advantageEpsilon,
  );
  const isUsed = ({ isTruncated }: Rollout): boolean => !(maskTruncated && isTruncated);
  const weights = tokenWeights(
    normalisation,
    kept.map((rollout, i) => ({ tokens: isUsed(rollout) ? rollout.tokens : 0, group: groupOf[i] })),
    maxNewTokens,
  );
  let next = 0;
  const places = groups.flatMap((group, g) => group.map((rollout) => (isKept[g] && hasReward(rollout) ? next++ : -1)));
  return {
    groups,
    advantages: places.map((place) => (place < 0 ? 0 : ofKept[place])),
    used: groups.flat().map((rollout, i) => places[i] >= 0 && isUsed(rollout)),
    examples: kept.flatMap((rollout, i) =>
      isUsed(rollout) ? [{ ...rollout, advantage: ofKept[i], tokenWeight: weights[i] }] : [],
    ),
    dropped: isKept.filter((one) => !one).length,
  };
}
