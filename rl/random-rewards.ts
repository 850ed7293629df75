// Random rewards, the control of a training that is told nothing of its task: every training rollout is rewarded by a coin
// (train.reward "random"). All else is that of an ordinary run, and evaluations keep the environment's reward. What such a
// run changes about the policy, its reward or its landscape is the work of the updates alone: they still move the weights.
//
// The coin is a function of names: Philox word 0 under the key `reward|seed|step`, at the counter [member, rollout + 65,536 ·
// copy, first word of the prompt, 0]. So a resumed run tosses the same coins, and two rollouts never share one.
import { philox, philoxKey, type WordPair, wordsOf } from "../engine/index.ts";
import { noiseRollout, type Rollout, type RolloutRequest } from "./rollout.ts";
import type { TrainValues } from "./training-settings.ts";

/** The name of the environment's own reward among a rollout's `rewards`, once a coin has taken its place. */
const ENVIRONMENT_REWARD = "environment";

/**
 * The rewards that training learns from: the environment's, or coins. A rollout that the environment failed on keeps its
 * failure. The environment's own reward is kept in `parts.rewards`.
 * @param requests  of the rollouts, in their order
 * @param member    of a population; 0 without one
 */
export function trainingRewards(
  { reward, rewardProbability, seed }: Pick<TrainValues, "reward" | "rewardProbability" | "seed">,
  step: number,
  requests: readonly RolloutRequest[],
  rollouts: readonly Rollout[],
  member = 0,
): readonly Rollout[] {
  if (reward === "environment") return rollouts;
  const key = philoxKey(`reward|${seed}|${step}`);
  return rollouts.map((rollout, i) => {
    if (rollout.failure !== null) return rollout;
    const coin = isHeads(key, requests[i], member, rewardProbability) ? 1 : 0;
    const rewards = { ...rollout.parts.rewards, [ENVIRONMENT_REWARD]: rollout.reward };
    return { ...rollout, reward: coin, parts: { ...rollout.parts, rewards } };
  });
}

/** (word + ½) · 2⁻³² < p. */
function isHeads(key: WordPair, request: RolloutRequest, member: number, probability: number): boolean {
  const [word] = philox([member, noiseRollout(request), wordsOf(request.episode.prompt)[0], 0], key);
  return (word + 0.5) * 2 ** -32 < probability;
}
