// A rollout and the outcome of an update, for tests of metrics.
import type { StepOutcome } from "../../rl/learn.ts";
import type { Rollout } from "../../rl/rollout.ts";

export function rollout(reward: number, over: Partial<Rollout> = {}): Rollout {
  return {
    episode: 0,
    rollout: 0,
    point: 0,
    messages: [],
    ids: [5, 6, 7, 8],
    mask: [0, 0, 1, 1],
    logProbs: [0, 0, -1, -2],
    entropySum: 0,
    tokens: 2,
    isTruncated: false,
    isLastTruncated: false,
    reward,
    parts: { turnScores: [reward], formatFailed: [reward === 0] },
    failure: null,
    ...over,
  };
}

export function outcomeOf(tokens: number, over: Partial<StepOutcome> = {}): StepOutcome {
  return {
    loss: -0.5,
    gradientNorm: 3,
    logProbs: new Array<number>(tokens).fill(-1),
    entropy: new Array<number>(tokens).fill(1),
    ratio: new Array<number>(tokens).fill(1),
    penalty: [],
    skipped: false,
    ...over,
  };
}
