// The metrics of one training step. A metric with a name that TRL uses is TRL's quantity, so that curves of both
// programs can be compared. Other names are defined only here. docs/metrics.md defines each metric and marks those of
// TRL.
import { meanOf, standardDeviation } from "./advantage.ts";
import { summariseRollouts } from "./evaluation.ts";
import type { StepOutcome } from "./learn.ts";
import type { PolicyLoss } from "./policy-loss.ts";
import type { Rollout } from "./rollout.ts";
import { type RatioStatistics, ratioStatistics } from "./token-weights.ts";

/** A group's rewards count as equal if their sample deviation is at most this. TRL's bound (torch.isclose to 0). */
const zeroDeviation = 1e-8;

export interface MeasuredStep {
  /** All rollouts of the step, by prompt. */
  readonly groups: readonly (readonly Rollout[])[];
  /** One per rollout, groups one after another. */
  readonly advantages: readonly number[];
  /** Which of these rollouts the updates used, and so `outcomes` are about. Default: all. */
  readonly used?: readonly boolean[];
  /** One entry per update on these rollouts, at least one. Metrics of updates are averaged over them. */
  readonly outcomes: readonly StepOutcome[];
  /** Of the first of these updates. */
  readonly learningRate: number;
  readonly settings: {
    readonly clipLow: number;
    readonly clipHigh: number;
    readonly ratioLow: number;
    readonly ratioHigh: number;
    readonly ratioCap: number;
    readonly importanceLevel: "token" | "sequence";
    readonly loss: PolicyLoss["kind"];
    readonly klCoefficient: number;
  };
}

/** The record of a step, without the metrics that the trainer adds (`num_tokens`, the loss scale). */
export function stepMetrics(step: MeasuredStep): Record<string, number> {
  const { groups, advantages, used, outcomes, learningRate, settings } = step;
  const rollouts = groups.flat();
  const scored = groups.map((group) => group.filter(({ failure }) => failure === null));
  const rewards = scored.filter(({ length }) => length > 0).map((group) => group.map(({ reward }) => reward));
  const isUsed = (_: unknown, i: number): boolean => used?.[i] ?? true;
  const counted = rollouts.map(({ tokens }, i) => ({ tokens, advantage: advantages[i] })).filter(isUsed);
  const ratios = outcomes.map(({ ratio }) => statisticsAt(settings.importanceLevel, ratio, counted, settings));
  const sampled = rollouts.filter(isUsed);
  const differences = samplerDifferences(sampled, outcomes[0].logProbs);
  const sizes = differences.map(Math.abs);
  const drifts = sequenceRatios(sampled, differences);
  const overUpdates = (quantity: keyof RatioStatistics): number => meanOf(ratios.map((one) => one[quantity]));
  const { reward, ...completions } = completionMetrics(rollouts);
  // Of no tokens there is no mean and no extreme: a 0 would read as collapsed entropy, or as ratios far below 1.
  const ofTokens = (metrics: Record<string, number>): Record<string, number> =>
    counted.some(({ tokens }) => tokens > 0) ? metrics : {};
  return {
    reward,
    reward_std: standardDeviation(rewards.flat(), "sample"),
    reward_group_std: meanOf(rewards.map((group) => standardDeviation(group, "population"))),
    frac_reward_zero_std: meanOf(rewards.map((group) => (standardDeviation(group, "sample") <= zeroDeviation ? 1 : 0))),
    ...completions,
    loss: meanOf(outcomes.map(({ loss }) => loss)),
    ...ofTokens({
      ...(settings.klCoefficient > 0 && { kl: meanOf(outcomes.map(({ penalty }) => meanOf(penalty))) }),
      entropy: meanOf(outcomes.map(({ entropy }) => meanOf(entropy))),
      ...lossShares(settings.loss, overUpdates),
      "ratio/mean": overUpdates("ratioMean"),
      "ratio/min": least(ratios.map(({ ratioMin }) => ratioMin)),
      "ratio/max": largest(ratios.map(({ ratioMax }) => ratioMax)),
      "sampling/sampling_logp_difference/mean": meanOf(sizes),
      "sampling/sampling_logp_difference/max": largest(sizes),
      "sampling/importance_sampling_ratio/min": least(drifts),
      "sampling/importance_sampling_ratio/mean": meanOf(drifts),
      "sampling/importance_sampling_ratio/max": largest(drifts),
      "mismatch_kl/mean": meanOf(differences.map((difference) => Math.expm1(difference) - difference)),
    }),
    grad_norm: meanOf(outcomes.map(({ gradientNorm }) => gradientNorm)),
    learning_rate: learningRate,
  };
}

/** Mean reward, lengths and shares of rollouts. */
export function completionMetrics(rollouts: readonly Rollout[]): Record<string, number> & { readonly reward: number } {
  const summary = summariseRollouts(rollouts);
  const lengths = rollouts.map(({ tokens }) => tokens);
  const terminated = rollouts.filter(({ isLastTruncated }) => !isLastTruncated).map(({ tokens }) => tokens);
  return {
    reward: summary.reward,
    "completions/mean_length": summary.meanTokens,
    "completions/min_length": least(lengths),
    "completions/max_length": largest(lengths),
    "completions/mean_terminated_length": meanOf(terminated),
    "completions/min_terminated_length": least(terminated),
    "completions/max_terminated_length": largest(terminated),
    "completions/clipped_ratio": summary.lastTruncatedShare,
    "completions/truncated_share": summary.truncatedShare,
    ...present("completions/format_share", summary.formatShare),
    ...present("completions/quality", summary.quality),
    ...Object.fromEntries(Object.entries(summary.rewards).map(([name, mean]) => [`rewards/${name}/mean`, mean])),
    "completions/failed": summary.failed,
  };
}

/** A metric that some environments do not have. */
export function present(name: string, value: number | undefined): Record<string, number> {
  return value === undefined ? {} : { [name]: value };
}

/** The largest of numbers that are not negative; 0 of none. */
function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), 0);
}

/** The least number; 0 of none. */
function least(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((one, value) => Math.min(one, value));
}

/**
 * Statistics over the tokens; or, if a ratio belongs to a whole rollout, over the rollouts, where one without tokens has
 * the ratio 1, as in TRL.
 */
function statisticsAt(
  level: MeasuredStep["settings"]["importanceLevel"],
  ratios: readonly number[],
  rollouts: readonly { readonly tokens: number; readonly advantage: number }[],
  bounds: MeasuredStep["settings"],
): RatioStatistics {
  if (level === "token") return ratioStatistics(ratios, rollouts, bounds);
  let next = 0;
  const ofRollouts = rollouts.map(({ tokens }) => {
    const ratio = tokens === 0 ? 1 : ratios[next];
    next += tokens;
    return ratio;
  });
  return ratioStatistics(
    ofRollouts,
    rollouts.map(({ advantage }) => ({ tokens: 1, advantage })),
    bounds,
  );
}

/** The shares of ratios that the loss clips, drops or caps. */
function lossShares(
  kind: PolicyLoss["kind"],
  shareOf: (quantity: keyof RatioStatistics) => number,
): Record<string, number> {
  switch (kind) {
    case "clipped":
      return {
        "clip_ratio/low_mean": shareOf("clippedLow"),
        "clip_ratio/low_min": shareOf("clippedLowMin"),
        "clip_ratio/high_mean": shareOf("clippedHigh"),
        "clip_ratio/high_max": shareOf("clippedHighMax"),
        "clip_ratio/region_mean": shareOf("clippedLow") + shareOf("clippedHigh"),
      };
    case "masked-importance":
      return { "dropped_ratio/low_mean": shareOf("droppedLow"), "dropped_ratio/high_mean": shareOf("droppedHigh") };
    case "cispo":
      return { cispo_clip_ratio: shareOf("capped") };
    case "sapo":
      return {};
    default:
      return kind satisfies never;
  }
}

/** Number of tokens of prompts and answers as TRL counts them: without the later user turns of a conversation. */
export function countedTokens(rollouts: readonly Pick<Rollout, "mask" | "tokens">[]): number {
  return rollouts.reduce((sum, { mask, tokens }) => {
    const firstAnswer = mask.indexOf(1);
    return sum + (firstAnswer < 0 ? mask.length : firstAnswer) + tokens;
  }, 0);
}

/** log p by the scorer − log p by the sampler, of each assistant token. @param logProbs  the scorer's, rollouts in order */
function samplerDifferences(rollouts: readonly Rollout[], logProbs: readonly number[]): number[] {
  const sampled = rollouts.flatMap((rollout) => rollout.logProbs.filter((_, t) => rollout.mask[t] === 1));
  return logProbs.map((logProb, i) => logProb - sampled[i]);
}

/** p by the scorer / p by the sampler, of each rollout as a whole. */
function sequenceRatios(rollouts: readonly Rollout[], differences: readonly number[]): number[] {
  let next = 0;
  return rollouts.map(({ tokens }) => {
    const sum = differences.slice(next, next + tokens).reduce((a, b) => a + b, 0);
    next += tokens;
    return Math.exp(sum);
  });
}
