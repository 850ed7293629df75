// The metrics of one training step. A metric with a name that TRL uses is TRL's quantity, so that curves of both
// programs can be compared. Other names are defined only here. docs/metrics.md defines each metric and marks those of
// TRL.
import { meanOf, standardDeviation } from "./advantage.ts";
import { summariseRollouts } from "./evaluate.ts";
import type { PolicyLoss, StepOutcome } from "./learn.ts";
import type { Rollout } from "./rollout.ts";
import { type RatioStatistics, ratioStatistics } from "./token-weights.ts";

/** A group's rewards count as equal if their sample deviation is at most this. TRL's bound (torch.isclose to 0). */
const zeroDeviation = 1e-8;

export interface MeasuredStep {
  /** Number of rollouts per prompt. */
  readonly groups: readonly (readonly Rollout[])[];
  /** One per rollout, groups one after another. */
  readonly advantages: readonly number[];
  /** One entry per update on these rollouts, at least one. Metrics of updates are averaged over them. */
  readonly outcomes: readonly StepOutcome[];
  /** Of the first of these updates. */
  readonly learningRate: number;
  readonly settings: {
    readonly clipLow: number;
    readonly clipHigh: number;
    readonly ratioLow: number;
    readonly ratioHigh: number;
    readonly loss: PolicyLoss["kind"];
    readonly klCoefficient: number;
  };
}

/** The record of a step, without the metrics that the trainer adds (`num_tokens`, the loss scale). */
export function stepMetrics({
  groups,
  advantages,
  outcomes,
  learningRate,
  settings,
}: MeasuredStep): Record<string, number> {
  const rollouts = groups.flat();
  const summary = summariseRollouts(rollouts);
  const rewards = groups.map((group) => group.map(({ reward }) => reward));
  const counted = rollouts.map(({ tokens }, i) => ({ tokens, advantage: advantages[i] }));
  const ratios = outcomes.map(({ ratio }) => ratioStatistics(ratio, counted, settings));
  const differences = samplerDifferences(rollouts, outcomes[0].logProbs);
  const overUpdates = (quantity: keyof RatioStatistics): number => meanOf(ratios.map((one) => one[quantity]));
  return {
    reward: summary.reward,
    reward_std: standardDeviation(rewards.flat(), "sample"),
    reward_group_std: meanOf(rewards.map((group) => standardDeviation(group, "population"))),
    frac_reward_zero_std: meanOf(rewards.map((group) => (standardDeviation(group, "sample") <= zeroDeviation ? 1 : 0))),
    "completions/mean_length": summary.meanTokens,
    "completions/clipped_ratio": summary.lastTruncatedShare,
    "completions/truncated_share": summary.truncatedShare,
    "completions/format_share": summary.formatShare,
    "completions/quality": summary.quality,
    "completions/failed": rollouts.filter(({ failure }) => failure !== null).length,
    loss: meanOf(outcomes.map(({ loss }) => loss)),
    ...(settings.klCoefficient > 0 && { kl: meanOf(outcomes.map(({ penalty }) => meanOf(penalty))) }),
    entropy: meanOf(outcomes.map(({ entropy }) => meanOf(entropy))),
    ...lossShares(settings.loss, overUpdates),
    "sampling/sampling_logp_difference/mean": meanOf(differences),
    "sampling/sampling_logp_difference/max": differences.reduce((largest, d) => Math.max(largest, d), 0),
    grad_norm: meanOf(outcomes.map(({ gradientNorm }) => gradientNorm)),
    learning_rate: learningRate,
  };
}

/** The shares of tokens that the loss clips or drops. */
function lossShares(
  kind: PolicyLoss["kind"],
  shareOf: (quantity: keyof RatioStatistics) => number,
): Record<string, number> {
  switch (kind) {
    case "clipped":
      return { "clip_ratio/low_mean": shareOf("clippedLow"), "clip_ratio/high_mean": shareOf("clippedHigh") };
    case "masked-importance":
      return { "dropped_ratio/low_mean": shareOf("droppedLow"), "dropped_ratio/high_mean": shareOf("droppedHigh") };
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

/** |log p by the scorer − log p by the sampler| of each assistant token. @param logProbs  the scorer's, rollouts in order */
function samplerDifferences(rollouts: readonly Rollout[], logProbs: readonly number[]): number[] {
  const sampled = rollouts.flatMap((rollout) => rollout.logProbs.filter((_, t) => rollout.mask[t] === 1));
  return logProbs.map((logProb, i) => Math.abs(logProb - sampled[i]));
}
