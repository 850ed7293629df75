// What a task is to the rest of the program: a list of episodes made from a seed, each of which asks, answers back and
// scores. Nothing here knows tokens or models, so an environment can be tested, and written, without either.
//
// An environment may throw, from any of its functions: whoever rolls out catches it, and it costs that rollout only,
// which is recorded with its cause and counted. `scoreEpisode` turns a malformed reward into such an error.
import { SettingsError, type SettingsTree, type Values } from "../../engine/host/index.ts";

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
  /** What its episodes are made from, for messages: a file's path, a generator. */
  readonly source?: string;
  /** The files it was opened from. */
  readonly files?: readonly EnvironmentFile[];
  /** The same seed gives the same episodes in the same order; they may be endless, and are made as they are asked for. */
  episodes(seed: number): Iterable<Episode>;
}

/** A file that an environment reads, known by its content; made by `environmentFile`. */
export interface EnvironmentFile {
  /** The environment's setting that names it. */
  readonly setting: string;
  readonly path: string;
  readonly sha256: string;
}

/** How an environment becomes known to settings (registry.ts). */
export interface EnvironmentKind<T extends SettingsTree> {
  /** Letters, digits and single hyphens: the value of `environment.name`, and the section of its settings. */
  readonly name: string;
  readonly settings: T;
  /** Problems between its settings, each a line that begins with a setting's name: "minTurns: 3 is above maxTurns, 2". */
  check?(values: Values<T>): string[];
  /** @throws SettingsError, FileError when the settings or the files that they name are no good */
  open(values: Values<T>): Environment | Promise<Environment>;
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
  draw(random: Draws, index: number): WorkedEpisode;
}

/** A stream of random draws, with the meaning of Python's `random` module. */
export interface Draws {
  /** In [0, 1). */
  random(): number;
  /** A whole number from low to high, both included. */
  randint(low: number, high: number): number;
  choice<T>(from: readonly T[]): T;
  /** In place. */
  shuffle<T>(list: T[]): void;
}

/** Whether an environment knows the right answers to its own episodes. */
export function isWorked(environment: Environment): environment is WorkedEnvironment {
  return "draw" in environment && typeof environment.draw === "function";
}

type Listed<E extends Episode = Episode> = Pick<Environment, "name" | "source"> & {
  episodes(seed: number): Iterable<E>;
};

/**
 * The episodes of one seed by position. A list that ends begins again: that is the next pass over a finite data set, and
 * its episodes are copies. Training may meet copies (`pass` keeps their noise apart); what is measured may not (`distinct`).
 */
export class EpisodeList<E extends Episode = Episode> {
  readonly #source: string;
  readonly #iterator: Iterator<E>;
  readonly #made: E[] = [];
  #complete = false;

  constructor(environment: Listed<E>, seed: number) {
    this.#source = sourceOf(environment);
    this.#iterator = environment.episodes(seed)[Symbol.iterator]();
  }

  /** @throws SettingsError when the environment has no episode at all */
  at(position: number): E {
    this.#make(position);
    if (this.#made.length === 0)
      throw new SettingsError(
        `${this.#source}: expected at least one episode, got none. Every row of its data was unfit for the settings.`,
      );
    return this.#made[position % this.#made.length];
  }

  /** How often the list had ended before this position: 0 in the first pass. */
  pass(position: number): number {
    this.#make(position);
    return this.#complete ? Math.floor(position / this.#made.length) : 0;
  }

  /** `count` episodes from `start` on. */
  slice(start: number, count: number): E[] {
    return Array.from({ length: count }, (_, i) => this.at(start + i));
  }

  /** The first `count` episodes with different first user messages; fewer if there are no more. */
  firstDistinct(count: number): E[] {
    const found = new Map<string, E>();
    let repeats = 0;
    for (let position = 0; found.size < count && repeats < mostRepeats; position++) {
      this.#make(position);
      if (position >= this.#made.length) break;
      const episode = this.#made[position];
      if (found.has(episode.prompt)) repeats++;
      else {
        found.set(episode.prompt, episode);
        repeats = 0;
      }
    }
    return [...found.values()];
  }

  /**
   * `count` episodes with different first user messages, the first of them in the list's order: what a mean and its error
   * may be taken over. Two episodes with one first message share their sampling noise, so they are one observation.
   * @throws SettingsError with both numbers when there are fewer
   */
  distinct(count: number): E[] {
    const found = this.firstDistinct(count);
    if (found.length === count) return found;
    throw new SettingsError(fewerThan(this.#source, found.length, `${count} episodes`));
  }

  #make(position: number): void {
    while (!this.#complete && this.#made.length <= position) {
      const { done, value } = this.#iterator.next();
      if (done) this.#complete = true;
      else this.#made.push(value);
    }
  }
}

// An endless list can have few different episodes (a generator of one name a row): after this many repeats in a row it has
// no more.
const mostRepeats = 10_000;

function sourceOf({ name, source }: Listed): string {
  return source === undefined ? name : `${name} (${source})`;
}

function fewerThan(source: string, distinct: number, wanted: string): string {
  return (
    `expected ${wanted} with different first messages, ${source} has ${distinct}. A copy is no further evidence: ` +
    "lower the number, or give more data"
  );
}

/**
 * What is wrong with the numbers of episodes that settings ask for, as a settings' check says it: each must have as many
 * different ones.
 */
export function episodeProblems(
  environment: Environment,
  wanted: readonly { readonly setting: string; readonly count: number; readonly seed: number }[],
): string[] {
  return wanted.flatMap(({ setting, count, seed }) => {
    const { length } = new EpisodeList(environment, seed).firstDistinct(count);
    return length === count ? [] : [`${setting}: ${fewerThan(sourceOf(environment), length, `${count} episodes`)}`];
  });
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
