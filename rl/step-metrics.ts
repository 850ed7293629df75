// The metrics of one training step. A name that TRL has means TRL's quantity, so that curves of both can be laid over one
// another; all others are ours. docs/metrics.md defines each and says which is which.
import { meanOf, standardDeviation } from "./advantage.ts";
import { summariseRollouts } from "./evaluate.ts";
import type { StepOutcome } from "./learn.ts";
import type { Rollout } from "./rollout.ts";
import { ratioStatistics } from "./token-weights.ts";

/** A group's rewards count as equal up to this sample deviation. TRL's bound (torch.isclose to 0). */
const zeroDeviation = 1e-8;

export interface MeasuredStep {
  /** The rollouts of each prompt. */
  readonly groups: readonly (readonly Rollout[])[];
  /** One per rollout, groups one after another. */
  readonly advantages: readonly number[];
  readonly outcome: StepOutcome;
  readonly settings: {
    readonly clipLow: number;
    readonly clipHigh: number;
    readonly learningRate: number;
  };
}

/** The record of a step, without what the trainer knows alone (`num_tokens`, the loss scale). */
export function stepMetrics({ groups, advantages, outcome, settings }: MeasuredStep): Record<string, number> {
  const rollouts = groups.flat();
  const summary = summariseRollouts(rollouts);
  const rewards = groups.map((group) => group.map(({ reward }) => reward));
  const { clipLow, clipHigh, learningRate } = settings;
  const ratios = ratioStatistics(
    outcome.ratio,
    rollouts.map(({ tokens }, i) => ({ tokens, advantage: advantages[i] })),
    { clipLow, clipHigh, ratioLow: 0, ratioHigh: Number.POSITIVE_INFINITY },
  );
  const differences = samplerDifferences(rollouts, outcome.logProbs);
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
    loss: outcome.loss,
    entropy: meanOf(outcome.entropy),
    "clip_ratio/low_mean": ratios.clippedLow,
    "clip_ratio/high_mean": ratios.clippedHigh,
    "sampling/sampling_logp_difference/mean": meanOf(differences),
    "sampling/sampling_logp_difference/max": differences.reduce((largest, d) => Math.max(largest, d), 0),
    grad_norm: outcome.gradientNorm,
    learning_rate: learningRate,
  };
}

/** Tokens of prompts and answers as TRL counts them: later user turns of a conversation are not among them. */
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
