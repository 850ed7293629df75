// Several reward functions with weights, as one scorer.
import type { Episode, Reward } from "./environment.ts";

export interface RewardFunction {
  /** Default 1. */
  readonly weight?: number;
  score(completions: readonly string[], signal?: AbortSignal): number | Promise<number>;
}

/**
 * A scorer whose reward is Σ weight · score. Each function's mean is the metric `rewards/NAME/mean`, before its weight.
 * It is asynchronous only if one of the functions is.
 */
export function weightedScore(functions: Readonly<Record<string, RewardFunction>>): Episode["score"] {
  const entries = Object.entries(functions);
  const total = (scores: readonly number[]): Reward => ({
    reward: scores.reduce((sum, score, i) => sum + score * (entries[i][1].weight ?? 1), 0),
    parts: { rewards: Object.fromEntries(entries.map(([name], i) => [name, scores[i]])) },
  });
  return (completions, signal) => {
    const scores = entries.map(([, one]) => one.score(completions, signal));
    const isNumber = (score: number | Promise<number>): score is number => typeof score === "number";
    return scores.every(isNumber) ? total(scores) : Promise.all(scores).then(total);
  };
}
