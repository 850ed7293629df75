// Evaluation: the mean reward of a policy on episodes that training does not use; in training one rollout each.
import type { Chat, Model } from "../model/index.ts";
import { meanOf, variance } from "./advantage.ts";
import type { Environment } from "./environments/environment.ts";
import { episodeList } from "./environments/environment.ts";
import { type Rollout, type RolloutRequest, type RolloutSettings, rollOut } from "./rollout.ts";

export interface Evaluation {
  /** Mean over rollouts, with the standard error of that mean: sample deviation / sqrt(rollouts). */
  reward: number;
  rewardStandardError: number;
  /** Share of turns in the requested form, and the mean score of those turns. */
  formatShare: number;
  quality: number;
  /** Shares of rollouts with any answer cut off, and with the last answer cut off. */
  truncatedShare: number;
  lastTruncatedShare: number;
  /** Mean tokens per rollout: all its answers, end tokens included. */
  meanTokens: number;
  rollouts: Rollout[];
}

export interface EvaluationSettings extends Omit<RolloutSettings, "purpose" | "step"> {
  episodes: number;
  episodeSeed: number;
  /** Rollouts per episode. Default 1. */
  rollouts?: number;
}

export async function evaluate(
  model: Model,
  chat: Chat,
  environment: Environment,
  settings: EvaluationSettings,
): Promise<Evaluation> {
  const requests = evaluatedRollouts(environment, settings);
  const rollouts = await rollOut(model, chat, requests, { ...settings, purpose: "evaluate", step: 0 });
  return summariseRollouts(rollouts);
}

/** The requests that an evaluation rolls out. @throws SettingsError when there are too few different episodes */
export function evaluatedRollouts(
  environment: Environment,
  { episodes, episodeSeed, rollouts = 1 }: Pick<EvaluationSettings, "episodes" | "episodeSeed" | "rollouts">,
): RolloutRequest[] {
  return episodeList(environment, episodeSeed)
    .distinct(episodes)
    .flatMap((episode) => Array.from({ length: rollouts }, (_, rollout) => ({ episode, rollout })));
}

/** Computes the numbers of an evaluation from its rollouts. */
export function summariseRollouts(rollouts: readonly Rollout[]): Evaluation {
  const rewards = rollouts.map(({ reward }) => reward);
  const turns = rollouts.flatMap(({ parts }) =>
    parts.turnScores.map((score, i) => ({ score, failed: parts.formatFailed[i] })),
  );
  const formed = turns.filter(({ failed }) => !failed);
  return {
    reward: meanOf(rewards),
    rewardStandardError: Math.sqrt(variance(rewards, "sample") / rollouts.length),
    formatShare: formed.length / turns.length,
    quality: meanOf(formed.map(({ score }) => score)),
    truncatedShare: meanOf(rollouts.map(({ isTruncated }) => (isTruncated ? 1 : 0))),
    lastTruncatedShare: meanOf(rollouts.map(({ isLastTruncated }) => (isLastTruncated ? 1 : 0))),
    meanTokens: meanOf(rollouts.map(({ tokens }) => tokens)),
    rollouts: [...rollouts],
  };
}
