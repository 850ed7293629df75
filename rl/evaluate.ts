// Evaluation: the mean reward of a policy on episodes kept apart from training, one rollout each.
import type { Chat, Model } from "../model/index.ts";
import type { Environment } from "./environments/environment.ts";
import { EpisodeList } from "./environments/environment.ts";
import { type Rollout, type RolloutRequest, type RolloutSettings, rollOut } from "./rollout.ts";

export interface Evaluation {
  /** Mean over rollouts, with the standard error of that mean. */
  reward: number;
  rewardStandardError: number;
  /** Share of turns in the form asked for, and the mean score of those turns. */
  formatShare: number;
  quality: number;
  truncatedShare: number;
  meanTokens: number;
  rollouts: Rollout[];
}

export interface EvaluationSettings extends Omit<RolloutSettings, "purpose" | "step"> {
  episodes: number;
  episodeSeed: number;
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

/** What an evaluation rolls out. @throws SettingsError when there are fewer different episodes */
export function evaluatedRollouts(
  environment: Environment,
  { episodes, episodeSeed }: Pick<EvaluationSettings, "episodes" | "episodeSeed">,
): RolloutRequest[] {
  return new EpisodeList(environment, episodeSeed).distinct(episodes).map((episode) => ({ episode, rollout: 0 }));
}

/** The numbers of an evaluation from its rollouts. */
export function summariseRollouts(rollouts: readonly Rollout[]): Evaluation {
  const n = rollouts.length;
  const mean = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;
  const rewards = rollouts.map(({ reward }) => reward);
  const reward = mean(rewards);
  const variance = rewards.reduce((sum, r) => sum + (r - reward) ** 2, 0) / Math.max(n - 1, 1);
  const turns = rollouts.flatMap(({ parts }) =>
    parts.turnScores.map((score, i) => ({ score, failed: parts.formatFailed[i] })),
  );
  const formed = turns.filter(({ failed }) => !failed);
  return {
    reward,
    rewardStandardError: Math.sqrt(variance / n),
    formatShare: formed.length / turns.length,
    quality: formed.length === 0 ? 0 : mean(formed.map(({ score }) => score)),
    truncatedShare: mean(rollouts.map(({ isTruncated }) => (isTruncated ? 1 : 0))),
    meanTokens: mean(rollouts.map(({ tokens }) => tokens)),
    rollouts: [...rollouts],
  };
}
