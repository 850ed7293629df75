// Evaluation: the mean reward of a policy on episodes that training does not use; in training one rollout each.
import type { Chat, Model } from "../model/index.ts";
import { meanOf, variance } from "./advantage.ts";
import { type Answers, proposal, type RolloutDraft } from "./drafts.ts";
import type { Environment } from "./environments/environment.ts";
import { episodeList } from "./environments/environment.ts";
import type { EarlierAnswers } from "./kept-evaluations.ts";
import { type Rollout, type RolloutRequest, type RolloutSettings, rollOut } from "./rollout.ts";

export interface Evaluation {
  /** Mean over rollouts, with the standard error of that mean: sample deviation / sqrt(rollouts). */
  reward: number;
  rewardStandardError: number;
  /** Share of turns in the requested form; undefined if the environment asks for none. */
  formatShare: number | undefined;
  /** Mean score of the turns in the requested form; undefined if the environment does not score turns, or none has the form. */
  quality: number | undefined;
  /** Mean of each reward function before its weight, by name; empty if the environment has one only. */
  rewards: Readonly<Record<string, number>>;
  /** Rollouts whose environment failed. They have no reward, and the means above leave them out. */
  failed: number;
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
  /** Answers to the same requests by nearly the same weights, which are proposed as drafts. They change no bit. */
  earlier?: EarlierAnswers | null;
}

export async function evaluate(
  model: Model,
  chat: Chat,
  environment: Environment,
  settings: EvaluationSettings,
): Promise<Evaluation> {
  const { earlier = null } = settings;
  const requests = evaluatedRollouts(environment, settings).map((request) => {
    const said = earlier?.(request) ?? null;
    return said === null ? request : { ...request, draft: draftFrom(said) };
  });
  const rollouts = await rollOut(model, chat, requests, { ...settings, purpose: "evaluate", step: 0 });
  return summariseRollouts(rollouts);
}

const draftFrom =
  (said: Answers): RolloutDraft =>
  (before, answer) =>
    proposal([said], before, answer);

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
  const scored = rollouts.filter(({ failure }) => failure === null);
  const rewards = scored.map(({ reward }) => reward);
  const flags = scored.flatMap(({ parts }) => parts.formatFailed ?? []);
  const formed = scored.flatMap(({ parts: { turnScores = [], formatFailed } }) =>
    turnScores.filter((_, turn) => formatFailed?.[turn] !== true),
  );
  return {
    reward: meanOf(rewards),
    rewardStandardError: Math.sqrt(variance(rewards, "sample") / rewards.length),
    formatShare: flags.length === 0 ? undefined : flags.filter((failed) => !failed).length / flags.length,
    quality: formed.length === 0 ? undefined : meanOf(formed),
    rewards: meansByName(scored.map(({ parts }) => parts.rewards ?? {})),
    failed: rollouts.length - scored.length,
    truncatedShare: meanOf(rollouts.map(({ isTruncated }) => (isTruncated ? 1 : 0))),
    lastTruncatedShare: meanOf(rollouts.map(({ isLastTruncated }) => (isLastTruncated ? 1 : 0))),
    meanTokens: meanOf(rollouts.map(({ tokens }) => tokens)),
    rollouts: [...rollouts],
  };
}

/** The mean of each name over the records that have it. */
function meansByName(records: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const names = [...new Set(records.flatMap((record) => Object.keys(record)))];
  return Object.fromEntries(
    names.map((name) => [name, meanOf(records.flatMap((record) => (name in record ? [record[name]] : [])))]),
  );
}
