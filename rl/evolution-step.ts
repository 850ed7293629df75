// A step of evolution strategies: the rollouts of every member, their fitness, the update. All members answer the same
// prompts with the same sampling noise (common random numbers), so two members differ by their weights alone.
import { SlotWeights, type WeightedStream } from "../engine/index.ts";
import type { Chat, Model } from "../model/index.ts";
import { meanOf, standardDeviation } from "./advantage.ts";
import type { EpisodeList } from "./environments/environment.ts";
import { type EvolutionUpdate, fitnessOf, type Generation, stepToMember, streamsOf } from "./evolution.ts";
import type { TrainableModel } from "./learn.ts";
import { trainingRewards } from "./random-rewards.ts";
import { type Rollout, type RolloutSettings, rollOut, trainingRollouts } from "./rollout.ts";
import { completionMetrics } from "./step-metrics.ts";
import type { TrainValues } from "./training-settings.ts";

/** What one step of evolution strategies is about. */
export function generationOf({ seed, evolve }: TrainValues, step: number): Generation {
  return { seed, step, settings: evolve };
}

export interface MemberJob {
  readonly model: TrainableModel;
  readonly chat: Chat;
  readonly episodes: EpisodeList;
  readonly train: TrainValues;
  readonly step: number;
  readonly sampling: RolloutSettings;
}

/**
 * The rollouts of each member: all prompts, one after another. At most `train.evolve.membersAtOnce` members' weights are in
 * memory at a time; their number changes no bit.
 */
export async function rollOutMembers(job: MemberJob): Promise<(readonly Rollout[])[]> {
  const { model, chat, episodes, train, step, sampling } = job;
  const { population, membersAtOnce, rollouts } = train.evolve;
  const requests = trainingRollouts(episodes, step, train.promptsPerStep, rollouts);
  const size = Math.min(membersAtOnce, population);
  const slots = new SlotWeights(model.weights, size);
  const perturbed: Model = { ...model, weights: slots };
  const members: (readonly Rollout[])[] = [];
  try {
    for (let first = 0; first < population; first += size) {
      const count = Math.min(size, population - first);
      placeMembers(slots, generationOf(train, step), first, count);
      const points = Array.from({ length: count }, (_, point) => point);
      const drawn = await rollOut(
        perturbed,
        chat,
        points.flatMap((point) => requests.map((request) => ({ ...request, point }))),
        sampling,
      );
      for (const point of points) {
        const own = drawn.slice(point * requests.length, (point + 1) * requests.length);
        members.push(trainingRewards(train, step, requests, own, first + point));
      }
    }
  } finally {
    slots.free();
  }
  return members;
}

/** Writes the weights of members first … first + count − 1 into the slots. */
export function placeMembers(slots: SlotWeights, generation: Generation, first: number, count: number): void {
  slots.placeAlong(Array.from({ length: count }, (_, point) => () => [stepToMember(generation, first + point)]));
}

/** Each member's mean reward over the rollouts that the environment scored; null if there is none. */
export function memberRewards(members: readonly (readonly Rollout[])[]): (number | null)[] {
  return members.map((rollouts) => {
    const scored = rollouts.filter(({ failure }) => failure === null).map(({ reward }) => reward);
    return scored.length === 0 ? null : meanOf(scored);
  });
}

/** Mean rewards and fitness of the members of a step. */
export interface Ranked {
  readonly rewards: readonly (number | null)[];
  readonly fitness: readonly number[];
}

export function rankMembers({ evolve }: TrainValues, members: readonly (readonly Rollout[])[]): Ranked {
  const rewards = memberRewards(members);
  return { rewards, fitness: fitnessOf(evolve.fitness, rewards) };
}

/** The record of a step, without what the trainer adds. docs/metrics.md defines each metric. */
export function evolutionMetrics(
  { evolve }: TrainValues,
  members: readonly (readonly Rollout[])[],
  { rewards }: Ranked,
  { norm, cosine }: EvolutionUpdate,
): Record<string, number> {
  const rollouts = members.flat();
  const known = rewards.filter((reward) => reward !== null);
  const tokens = rollouts.reduce((sum, one) => sum + one.tokens, 0);
  const { reward, ...completions } = completionMetrics(rollouts);
  return {
    reward,
    reward_std: standardDeviation(
      rollouts.filter(({ failure }) => failure === null).map((one) => one.reward),
      "sample",
    ),
    "evolve/member_reward_std": standardDeviation(known, "population"),
    "evolve/member_reward_min": known.length === 0 ? 0 : Math.min(...known),
    "evolve/member_reward_max": known.length === 0 ? 0 : Math.max(...known),
    ...completions,
    entropy: tokens === 0 ? 0 : rollouts.reduce((sum, one) => sum + one.entropySum, 0) / tokens,
    "evolve/update_norm": norm,
    ...(cosine !== null && { "evolve/update_cosine": cosine }),
    learning_rate: evolve.learningRate,
  };
}

const savedName = (number: number): string => `evolve/fitness/${number}`;

/** The fitness of a step's members, as numbers of the saved state: with them the step can be drawn again. */
export function savedFitness(fitness: readonly number[] | null): Record<string, number> {
  return Object.fromEntries((fitness ?? []).map((value, member) => [savedName(member), value]));
}

/** The fitness of the members of the last step, from a saved state; null before the first. */
export function restoredFitness(
  own: Readonly<Record<string, number>> | undefined,
  { evolve, method }: TrainValues,
): readonly number[] | null {
  if (method !== "evolve" || own === undefined) return null;
  const found = Array.from({ length: evolve.population }, (_, member) => own[savedName(member)] ?? Number.NaN);
  return found.some(Number.isNaN) ? null : found;
}

/** The sum of Gaussians that was the step before, from its members' fitness; null if there was none. */
export function previousStreams(
  train: TrainValues,
  step: number,
  fitness: readonly number[] | null,
): WeightedStream[] | null {
  return fitness === null ? null : streamsOf(generationOf(train, step - 1), fitness);
}
