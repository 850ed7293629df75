// Reward and KL from the checkpoint outwards: their means over rings of cells, with intervals over prompts.
import { reachOfMean } from "../../rl/index.ts";
import { ringMeans } from "./map-features.ts";
import { meanMap, type PromptMaps } from "./prompt-maps.ts";
import { spread } from "./statistics.ts";

/** One ring: the cells whose distance to the checkpoint is the same after rounding to whole grid steps. */
export interface RingPoint {
  ring: number;
  cells: number;
  /** Mean of `kl_token` over the ring's cells, nats. */
  klToken: number;
  /** Mean of R over the ring's cells. */
  reward: number;
  /** Half the width of the reward's 95% interval; null for one prompt. */
  rewardReach: number | null;
}

/**
 * Reward against KL by ring. A prompt's value in a ring is its mean reward over the ring's cells; the mean over prompts
 * is the ring's reward, and its interval is Student's t over these values. So neighbouring cells do not count as
 * independent. The cells share prompts and noise, and so do the rings: their intervals are not independent.
 */
export function ringCurve({ cells, reward, kl }: PromptMaps): RingPoint[] {
  const ofPrompts = reward.map((map) => ringMeans(cells, map));
  return ringMeans(cells, meanMap(kl)).map(({ ring, cells: count, mean: klToken }, k) => {
    const { mean, standardError } = spread(ofPrompts.map((rings) => rings[k].mean));
    return {
      ...{ ring, cells: count, klToken },
      reward: mean,
      rewardReach: standardError === null ? null : reachOfMean(standardError, reward.length),
    };
  });
}
