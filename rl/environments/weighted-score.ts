// Several reward functions with weights, as one scorer.
import type { Episode, Reward } from "./environment.ts";
import { shown } from "./user-values.ts";

export interface RewardFunction {
  /** Default 1. */
  readonly weight?: number;
  score(completions: readonly string[], signal?: AbortSignal): number | Promise<number>;
}

/**
 * A scorer whose reward is Σ weight · score. Each function's mean is the metric `rewards/NAME/mean`, before its weight.
 * It is asynchronous only if one of the functions is. If one fails, the conversation has no reward.
 * @throws Error when a weight is not a finite number; the scorer, when a function gives none
 */
export function weightedScore(functions: Readonly<Record<string, RewardFunction>>): Episode["score"] {
  const entries = Object.entries(functions).map(([name, { weight = 1 }]) => ({
    name,
    weight: finite(weight, `weightedScore: the weight of ${name}`),
  }));
  const total = (scores: readonly number[]): Reward => {
    const found = entries.map(({ name }, i) => finite(scores[i], `the reward function ${name}`));
    return {
      reward: found.reduce((sum, score, i) => sum + score * entries[i].weight, 0),
      parts: { rewards: Object.fromEntries(entries.map(({ name }, i) => [name, found[i]])) },
    };
  };
  return (completions, signal) => {
    const scores: (number | Promise<number>)[] = [];
    try {
      for (const { name } of entries) scores.push(functions[name].score(completions, signal));
    } catch (thrown) {
      // Those that were asked before may fail later, and then nobody waits for them.
      for (const asked of scores) Promise.resolve(asked).catch(() => {});
      throw thrown;
    }
    const isNumber = (score: number | Promise<number>): score is number => typeof score === "number";
    return scores.every(isNumber) ? total(scores) : Promise.all(scores).then(total);
  };
}

/** A module in JavaScript may give anything. */
function finite(value: number, what: string): number {
  if (Number.isFinite(value)) return value;
  throw new Error(`${what}: expected a finite number, got ${shown(value)}`);
}
