// The numbers of an evaluation: for people, and as evaluation.json with every conversation beside it (docs/formats.md).
import { join } from "node:path";
import { ensureFolder, gzipMember, writeAtomic } from "../engine/host/index.ts";
import { meanOf, standardDeviation } from "./advantage.ts";
import { summariseRollouts } from "./evaluation.ts";
import type { Rollout } from "./rollout.ts";
import { reachOfMean } from "./statistics/distributions.ts";
import { passAtK } from "./statistics/pass-at-k.ts";

/** A mean over prompts, with half of its 95% interval (Student's t); null with fewer than two prompts. */
export interface MeanOverPrompts {
  readonly mean: number;
  readonly reach: number | null;
}

export interface EvaluationNumbers {
  readonly prompts: number;
  readonly rollouts: number;
  readonly reward: MeanOverPrompts;
  /** Unbiased, for k = 1, 2, 4, … and the number of rollouts. */
  readonly passAtK: readonly ({ readonly k: number } & MeanOverPrompts)[];
  readonly passReward: number;
  /** Null if the environment asks for no form, or does not score turns. */
  readonly formatShare: number | null;
  readonly quality: number | null;
  /** Mean of each reward function before its weight; empty if there is one only. */
  readonly rewards: Readonly<Record<string, number>>;
  readonly truncatedShare: number;
  readonly lastTruncatedShare: number;
  readonly failed: number;
  readonly tokens: { readonly mean: number; readonly min: number; readonly max: number };
}

/** @param each  rollouts per prompt; those of a prompt stand together. The interval counts prompts, since its rollouts are not independent */
export function evaluationNumbers(rollouts: readonly Rollout[], each: number, passReward: number): EvaluationNumbers {
  const prompts = rollouts.length / each;
  // A rollout whose environment failed has no reward. Means leave it out, and a prompt without any reward as well.
  const groups = Array.from({ length: prompts }, (_, p) =>
    rollouts
      .slice(p * each, (p + 1) * each)
      .filter(({ failure }) => failure === null)
      .map(({ reward }) => reward),
  ).filter((rewards) => rewards.length > 0);
  const overPrompts = (values: readonly number[]): MeanOverPrompts => ({
    mean: meanOf(values),
    reach: reachOfMean(standardDeviation(values, "sample") / Math.sqrt(values.length), values.length),
  });
  const ks = new Set([each]);
  for (let k = 1; k < each; k *= 2) ks.add(k);
  const summary = summariseRollouts(rollouts);
  const lengths = rollouts.map(({ tokens }) => tokens);
  return {
    prompts,
    rollouts: each,
    reward: overPrompts(groups.map(meanOf)),
    passAtK: [...ks]
      .sort((a, b) => a - b)
      .map((k) => ({ k, found: groups.flatMap((rewards) => passAtK(rewards, passReward, k) ?? []) }))
      .filter(({ found }) => found.length > 0) // failures may leave every prompt fewer than k rollouts
      .map(({ k, found }) => ({ k, ...overPrompts(found) })),
    passReward,
    formatShare: summary.formatShare ?? null,
    quality: summary.quality ?? null,
    rewards: summary.rewards,
    truncatedShare: summary.truncatedShare,
    lastTruncatedShare: summary.lastTruncatedShare,
    failed: summary.failed,
    tokens: {
      mean: summary.meanTokens,
      min: lengths.reduce((least, length) => Math.min(least, length), Number.POSITIVE_INFINITY),
      max: lengths.reduce((most, length) => Math.max(most, length), 0),
    },
  };
}

/** For people, one line each. */
export function evaluationLines(numbers: EvaluationNumbers): string[] {
  const { prompts, rollouts, reward, tokens, failed } = numbers;
  const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;
  const withReach = ({ mean, reach }: MeanOverPrompts): string =>
    `${mean.toFixed(3)}${reach === null ? "" : ` ± ${reach.toFixed(3)}`}`;
  return [
    `Reward: ${withReach(reward)}   (${prompts} prompts × ${rollouts}; ±: half of a 95% interval over prompts)`,
    ...numbers.passAtK.map(
      ({ k, ...of }) =>
        `pass@${k}: ${withReach(of)}${k === 1 ? `   (share of rollouts with a reward of at least ${numbers.passReward})` : ""}`,
    ),
    ...Object.entries(numbers.rewards).map(([name, mean]) => `Mean of ${name}, before its weight: ${mean.toFixed(3)}`),
    ...(numbers.formatShare === null ? [] : [`Turns in the requested form: ${percent(numbers.formatShare)}`]),
    ...(numbers.quality === null
      ? []
      : [`Mean score of ${numbers.formatShare === null ? "the" : "these"} turns: ${numbers.quality.toFixed(3)}`]),
    `Rollouts with an answer cut off: ${percent(numbers.truncatedShare)}; with the last one cut off: ${percent(numbers.lastTruncatedShare)}`,
    `Tokens per rollout: ${tokens.mean.toFixed(1)} (${tokens.min} to ${tokens.max})`,
    ...(failed === 0 ? [] : [`Rollouts in which the environment failed, left out of the means: ${failed}`]),
  ];
}

/** Writes evaluation.json and every conversation, one per line. */
export function writeEvaluation(
  folder: string,
  about: Readonly<Record<string, unknown>>,
  numbers: EvaluationNumbers,
  rollouts: readonly Rollout[],
): void {
  ensureFolder(folder);
  const lines = rollouts.map(({ episode, rollout, reward, parts, tokens, isTruncated, failure, messages }) =>
    JSON.stringify({ episode, rollout, reward, ...parts, tokens, isTruncated, failure, messages }),
  );
  writeAtomic(join(folder, "conversations.jsonl.gz"), gzipMember(`${lines.join("\n")}\n`));
  writeAtomic(
    join(folder, "evaluation.json"),
    `${JSON.stringify({ schemaVersion: 1, ...about, ...numbers }, null, 1)}\n`,
  );
}
