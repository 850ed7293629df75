// The interface of a task: a list of episodes made from a seed. Each episode asks, replies to the answers, and scores
// them. Environments do not know tokens or models, so they can be written and tested without either.
//
// Any function of an environment may throw. The rollout code catches the error: only that rollout is affected, and the
// error is recorded with its cause and counted (limits.ts). `verdictOf` turns a malformed reward into such an error
// (verdict.ts), and a malformed episode is refused when it is made (checked-episodes.ts).
import { Pauses, SettingsError, type SettingsTree, type Values } from "../../engine/host/index.ts";
import type { ChatMessage } from "../../model/index.ts";
import { checkedEpisodes } from "./checked-episodes.ts";
import type { OpenContext } from "./open-context.ts";

export type { ChatMessage };

/** The verdict on one conversation. */
export interface Reward {
  /** The reward in training. Any finite number; between 0 and 1 in the built-in environments. */
  reward: number;
  /** What the reward is made of, as far as the environment knows it. */
  parts?: RewardParts;
}

export interface RewardParts {
  /** The score of each turn, in the environment's measure. One entry per turn that the episode asks for. */
  turnScores?: readonly number[];
  /** Per turn: true if the answer was not in the requested form, so that its content could not be judged. */
  formatFailed?: readonly boolean[];
  /** The results of several reward functions by name, before their weights (`weightedScore`). */
  rewards?: Readonly<Record<string, number>>;
}

/** What a scorer returns: the reward alone, or with its parts. */
export type Score = number | Reward;

/** One task of an environment. It holds no state: the same messages always get the same reply and score. */
export interface Episode {
  /** Position in the environment's list, from 0. */
  readonly index: number;
  /** A system message before the first user message. Without one, the model's chat template decides. */
  readonly systemPrompt?: string;
  /** The first user message. The sampling noise is keyed by it, so no two episodes should have the same one. */
  readonly prompt: string;
  /** Number of answers that the episode asks for, unless it ends early; it never asks for more. Default 1. */
  readonly turns?: number;
  /**
   * True if `nextUserTurn` and `score` surely return, in a time that the lengths of the answers bound. They are then called
   * without the thread that would stop them at the time limit, and fail only when they have returned too late. Default: false.
   */
  readonly isBounded?: boolean;
  /**
   * The user's next message, given the conversation up to an assistant's message (without the system message); null
   * when the episode is over; or a promise of either, during which other conversations go on. Without this function it is
   * over after the first answer.
   * @param signal  aborted when the time limit is over, for functions that can stop
   */
  nextUserTurn?(messages: readonly ChatMessage[], signal?: AbortSignal): string | null | Promise<string | null>;
  /**
   * Scores the assistant's messages, in order. There are fewer messages than turns if the conversation ended early.
   * @param signal  aborted when the time limit is over, for scorers that can stop
   */
  score(completions: readonly string[], signal?: AbortSignal): Score | Promise<Score>;
}

/** Number of answers that an episode asks for. */
export const turnsOf = ({ turns = 1 }: Pick<Episode, "turns">): number => turns;

/** The messages before the first answer. */
export function openingMessages({ systemPrompt, prompt }: Episode): ChatMessage[] {
  return [
    ...(systemPrompt === undefined ? [] : [{ role: "system" as const, content: systemPrompt }]),
    { role: "user", content: prompt },
  ];
}

/** An environment: a name for messages, and a list of episodes per seed. */
export interface Environment {
  readonly name: string;
  /** The source of its episodes, for messages: a file's path, a generator. */
  readonly source?: string;
  /** True if scoring uses anything outside this process, such as a program or a server. A plan then does not score. */
  readonly scoresOutside?: boolean;
  /** The files that it was opened from. */
  readonly files?: readonly EnvironmentFile[];
  /** The same seed gives the same episodes in the same order. They are made on demand, and the list may be endless. */
  episodes(seed: number): Iterable<Episode>;
  /** The episodes of evaluation and landscape, likewise, if they are other ones than those of training. */
  heldOutEpisodes?(seed: number): Iterable<Episode>;
}

/** A file that an environment reads, identified by its SHA-256; made by `environmentFile`. */
export interface EnvironmentFile {
  /** The environment's setting that names it. */
  readonly setting: string;
  readonly path: string;
  readonly sha256: string;
}

/** The registration of an environment: its name, its settings, and the function that opens it (registry.ts). */
export interface EnvironmentKind<T extends SettingsTree> {
  /** Letters, digits and single hyphens: the value of `environment.name`, and the section of its settings. */
  readonly name: string;
  /** The task in a sentence or two, on one line. The terminal and the report say it; without it they say nothing. */
  readonly description?: string;
  readonly settings: T;
  /** Problems between its settings, each a line that begins with a setting's name: "minTurns: 3 is above maxTurns, 2". */
  check?(values: Values<T>): string[];
  /** @throws SettingsError, FileError when the settings, or the files that they name, are not valid */
  open(values: Values<T>, context: OpenContext): Environment | Promise<Environment>;
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
  /** One episode from the caller's random stream, independent of every episode list. */
  draw(random: Draws, index: number): WorkedEpisode;
}

/** A stream of random draws, with the semantics of Python's `random` module. */
export interface Draws {
  /** In [0, 1). */
  random(): number;
  /** A whole number from low to high, both included. */
  randint(low: number, high: number): number;
  choice<T>(from: readonly T[]): T;
  /** Shuffles in place. */
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
 * The episodes of one seed by position. A finite list begins again at its end: this is the next pass over the data, and
 * its episodes are copies. Training may use copies, with different noise per `pass`; measurements may not (`distinct`).
 */
export class EpisodeList<E extends Episode = Episode> {
  readonly #source: string;
  readonly #iterator: Iterator<E>;
  readonly #made: E[] = [];
  #complete = false;
  /** The episodes with different first messages among the first `position`. */
  readonly #distinct = { episodes: [] as E[], prompts: new Set<string>(), position: 0, repeats: 0 };

  constructor(environment: Listed<E>, seed: number) {
    this.#source = sourceOf(environment);
    this.#iterator = checkedEpisodes(environment, seed);
  }

  /** @throws SettingsError when the environment has no episode at all */
  at(position: number): E {
    this.#make(position);
    if (this.#made.length === 0)
      throw new SettingsError(
        `${this.#source}: expected at least one episode, got none. No row of its data fits the settings.`,
      );
    return this.#made[position % this.#made.length];
  }

  /** The pass over the list that this position belongs to, from 0. */
  pass(position: number): number {
    this.#make(position);
    return this.#complete ? Math.floor(position / this.#made.length) : 0;
  }

  /** `count` episodes from `start` on. */
  slice(start: number, count: number): E[] {
    return Array.from({ length: count }, (_, i) => this.at(start + i));
  }

  /** The first `count` episodes with different first user messages; fewer if there are not as many. */
  firstDistinct(count: number): E[] {
    this.#findDistinct(count);
    return this.#distinct.episodes.slice(0, count);
  }

  /** @returns whether there are as many */
  #findDistinct(count: number): boolean {
    const found = this.#distinct;
    while (found.episodes.length < count && found.repeats < mostRepeats) {
      this.#make(found.position);
      if (found.position >= this.#made.length) break;
      const episode = this.#made[found.position++];
      if (found.prompts.has(episode.prompt)) found.repeats++;
      else {
        found.prompts.add(episode.prompt);
        found.episodes.push(episode);
        found.repeats = 0;
      }
    }
    return found.episodes.length >= count;
  }

  /**
   * Makes the first `count` different episodes, and lets signals in meanwhile: a generator of hundreds of thousands
   * takes seconds. `distinct` and `firstDistinct` then find them made.
   * @throws the signal's reason once it is aborted
   */
  async makeDistinct(count: number, signal: AbortSignal): Promise<void> {
    const pauses = new Pauses(signal);
    for (let wanted = episodesPerPause; ; wanted += episodesPerPause) {
      if (!this.#findDistinct(Math.min(wanted, count)) || wanted >= count) return;
      await pauses.take();
    }
  }

  /**
   * The first `count` episodes with different first user messages. A mean and its standard error need different ones:
   * two episodes with the same first message share their sampling noise, so they are one observation.
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

// An endless list can have few different episodes (a generator of one name per row). After this many consecutive
// repeats the list counts as exhausted.
const mostRepeats = 10_000;

/** Few enough for some milliseconds. */
const episodesPerPause = 100;

const lists = new WeakMap<Environment, Map<number, EpisodeList>>();

/**
 * The list of an environment's episodes for a seed, those of evaluation and landscape. There is one list per environment and seed, so a large prompt set is
 * made once.
 */
export function episodeList(environment: Environment, seed: number): EpisodeList {
  const ofSeeds = lists.get(environment) ?? new Map<number, EpisodeList>();
  lists.set(environment, ofSeeds);
  const { name, source, heldOutEpisodes } = environment;
  const list =
    ofSeeds.get(seed) ??
    new EpisodeList(
      heldOutEpisodes === undefined
        ? environment
        : { name, source, episodes: (wanted) => heldOutEpisodes.call(environment, wanted) },
      seed,
    );
  ofSeeds.set(seed, list);
  return list;
}

function sourceOf({ name, source }: Listed): string {
  return source === undefined ? name : `${name} (${source})`;
}

function fewerThan(source: string, distinct: number, wanted: string): string {
  return (
    `expected ${wanted} with different first messages, ${source} has ${distinct}. Copies add no evidence: ` +
    "lower the number, or give more data"
  );
}

/**
 * The problems with the numbers of episodes in the settings, in the form that a settings check returns: the environment
 * must have that many different episodes.
 */
export function episodeProblems(
  environment: Environment,
  wanted: readonly { readonly setting: string; readonly count: number; readonly seed: number }[],
): string[] {
  return wanted.flatMap(({ setting, count, seed }) => {
    const { length } = episodeList(environment, seed).firstDistinct(count);
    return length === count ? [] : [`${setting}: ${fewerThan(sourceOf(environment), length, `${count} episodes`)}`];
  });
}
