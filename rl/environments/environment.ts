// What a task is to the rest of the program: a list of episodes made from a seed, each of which asks, answers back and
// scores. Nothing here knows tokens or models, so an environment can be tested, and written, without either.
//
// An environment may throw, from any of its functions: whoever rolls out catches it, and it costs that rollout only,
// which is recorded with its cause and counted. `scoreEpisode` turns a malformed reward into such an error.
import { SettingsError } from "../../engine/host/index.ts";
import type { PythonRandom } from "./python/random.ts";

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** The verdict on one conversation. */
export interface Reward {
  /** What the policy is trained on. Any finite number; within 0 to 1 for the environments that come with the program. */
  reward: number;
  parts: {
    /** The share of each turn, in the environment's own measure. One entry for each turn that the episode asks for. */
    turnScores: readonly number[];
    /** Per turn: the answer did not have the form that was asked for, so that its content could not even be judged. */
    formatFailed: readonly boolean[];
  };
}

/** One task of an environment. It holds no state: the same messages always get the same answer. */
export interface Episode {
  /** Position in the environment's list, from 0. */
  readonly index: number;
  /** The first user message. Token noise is keyed by it, so two episodes should not share one. */
  readonly prompt: string;
  /** How many answers the episode asks for if nothing ends it early. */
  readonly turns: number;
  /** The user's next message after a conversation that ends with the assistant's, or null when the episode is over. */
  nextUserTurn(messages: readonly Message[]): string | null;
  /** Judges the assistant's messages, in order. A missing one is an answer that was never given. */
  score(completions: readonly string[]): Reward;
}

/** An environment: a name for messages, and the list of episodes that a seed stands for. */
export interface Environment {
  readonly name: string;
  /** The same seed gives the same episodes in the same order; they may be endless, and are made as they are asked for. */
  episodes(seed: number): Iterable<Episode>;
}

/** One turn of a dialogue with a correct answer, in the form asked for and without it. */
export interface WorkedTurn {
  user: string;
  formatted: string;
  bare: string;
}

/** An episode that knows its own right answers. */
export interface WorkedEpisode extends Episode {
  readonly workedTurns: readonly WorkedTurn[];
}

/** An environment that can make worked dialogues, for supervised training. */
export interface WorkedEnvironment extends Environment {
  episodes(seed: number): Iterable<WorkedEpisode>;
  /** One episode from a stream of the caller's, apart from every list. */
  draw(random: PythonRandom, index: number): WorkedEpisode;
}

/** The episodes of one seed by position. A list that ends begins again: that is the next pass over a finite data set. */
export class EpisodeList<E extends Episode = Episode> {
  readonly #source: string;
  readonly #iterator: Iterator<E>;
  readonly #made: E[] = [];
  #complete = false;

  constructor(environment: { readonly name: string; episodes(seed: number): Iterable<E> }, seed: number) {
    this.#source = environment.name;
    this.#iterator = environment.episodes(seed)[Symbol.iterator]();
  }

  /** @throws SettingsError when the environment has no episode at all */
  at(position: number): E {
    while (!this.#complete && this.#made.length <= position) {
      const { done, value } = this.#iterator.next();
      if (done) this.#complete = true;
      else this.#made.push(value);
    }
    if (this.#made.length === 0)
      throw new SettingsError(
        `${this.#source}: expected at least one episode, got none. Every row of its data was unfit for the settings.`,
      );
    return this.#made[position % this.#made.length];
  }

  /** `count` episodes from `start` on. */
  slice(start: number, count: number): E[] {
    return Array.from({ length: count }, (_, i) => this.at(start + i));
  }
}

/** Scores a conversation. @throws Error when the environment's reward is not a finite number or its parts do not fit */
export function scoreEpisode(episode: Episode, completions: readonly string[]): Reward {
  const verdict = episode.score(completions);
  const { turnScores, formatFailed } = verdict.parts;
  if (!Number.isFinite(verdict.reward))
    throw new Error(`episode ${episode.index}: expected a finite reward, got ${verdict.reward}`);
  if (turnScores.length !== episode.turns || formatFailed.length !== episode.turns)
    throw new Error(
      `episode ${episode.index}: expected parts for ${episode.turns} turns, ` +
        `got ${turnScores.length} scores and ${formatFailed.length} format flags`,
    );
  return verdict;
}
