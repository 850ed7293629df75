// What an environment may cost: its functions run under a time limit, and a share of rollouts may fail before the run
// stops.
//
// A function that does not return is stopped from another thread, which takes time for each call
// (engine/host/time-limit.ts). So functions that are known to return (`Episode.isBounded`) are called without it. An asynchronous function is not stopped but abandoned: its signal is aborted,
// and its result is no longer awaited.
import { asError, callWithin } from "../../engine/host/index.ts";
import type { Episode, Reward } from "./environment.ts";
import { EnvironmentError } from "./user-values.ts";
import { verdictOf } from "./verdict.ts";

export interface EnvironmentLimits {
  /** Seconds for each call of the environment. */
  readonly timeLimit: number;
  /** Maximum share of failed rollouts, of those of a step, an evaluation or some grid points. */
  readonly maxFailedShare: number;
  /** Maximum number of conversations that are scored at a time by an asynchronous scorer. */
  readonly parallelScores: number;
}

/** The defaults of the settings. */
export const usualLimits: EnvironmentLimits = { timeLimit: 60, maxFailedShare: 0.5, parallelScores: 16 };

/**
 * Calls `body` and stops it at the limit.
 * @param what       the function's name, for the message
 * @param isBounded  `body` is known to return: it is not stopped, and its result is refused if it took longer
 * @throws Error when it is stopped or took too long; whatever `body` throws
 */
export function within<T>(seconds: number, what: string, body: () => T, isBounded = false): T {
  if (isBounded) {
    const start = performance.now();
    const value = body();
    if (performance.now() - start > seconds * 1000) throw tooSlow(what, seconds);
    return value;
  }
  return callWithin(seconds, body, () => tooSlow(what, seconds));
}

function tooSlow(what: string, seconds: number): Error {
  return new Error(`${what}: not done after ${seconds} s (environment.timeLimit)`);
}

/** A verdict, or the reason why there is none. */
export type Judged =
  | { readonly verdict: Reward; readonly failure: null }
  | { readonly verdict: null; readonly failure: string };

const failed = (thrown: unknown): Judged => ({ verdict: null, failure: asError(thrown).message || "unnamed error" });

/**
 * Calls a function that may be asynchronous, under the time limit. One that does not return is stopped; a promise that is not
 * settled in time is abandoned, and the signal is aborted.
 * @param what       the function's name, for the message
 * @param isBounded  `body` is known to return, so it is not stopped
 * @throws Error when it is stopped or took too long, and whatever `body` throws; its promise rejects likewise
 */
export function limitedCall<T>(
  seconds: number,
  what: string,
  body: (signal: AbortSignal) => T | Promise<T>,
  isBounded = false,
): T | Promise<T> {
  const stop = new AbortController();
  const result = within(seconds, what, () => body(stop.signal), isBounded);
  return isPromise(result) ? limited(result, seconds, what, stop) : result;
}

/** Scores conversations, some at a time if the environment's scorer is asynchronous. */
export class Judge {
  readonly #limits: EnvironmentLimits;
  readonly #waiting: (() => void)[] = [];
  #active = 0;

  constructor(limits: EnvironmentLimits) {
    this.#limits = limits;
  }

  /** The verdict, at once if the episode's scorer is synchronous. It does not throw, and its promise does not reject. */
  judge(episode: Episode, completions: readonly string[]): Judged | Promise<Judged> {
    if (this.#active < this.#limits.parallelScores) return this.#start(episode, completions);
    return new Promise((done) => {
      this.#waiting.push(() => done(this.#start(episode, completions)));
    });
  }

  #start(episode: Episode, completions: readonly string[]): Judged | Promise<Judged> {
    const { timeLimit } = this.#limits;
    this.#active++;
    try {
      const score = limitedCall(timeLimit, "score", (signal) => episode.score(completions, signal), episode.isBounded);
      if (score instanceof Promise)
        return score
          .then((found): Judged => ({ verdict: verdictOf(episode, found), failure: null }))
          .catch(failed)
          .finally(() => this.#end());
      const verdict = verdictOf(episode, score);
      this.#end();
      return { verdict, failure: null };
    } catch (thrown) {
      this.#end();
      return failed(thrown);
    }
  }

  /** Gives the place to the next one that waits. */
  #end(): void {
    this.#active--;
    this.#waiting.shift()?.();
  }
}

/** A module in JavaScript may return a promise of another library. */
function isPromise<T>(result: T | Promise<T>): result is Promise<T> {
  return typeof result === "object" && result !== null && "then" in result;
}

function limited<T>(promise: Promise<T>, seconds: number, what: string, stop: AbortController): Promise<T> {
  return new Promise((done, refuse) => {
    const timer = setTimeout(() => {
      const error = tooSlow(what, seconds);
      stop.abort(error);
      refuse(error);
    }, seconds * 1000);
    const end = (): void => clearTimeout(timer);
    promise.then(
      (value) => {
        end();
        done(value);
      },
      (thrown) => {
        end();
        refuse(thrown);
      },
    );
  });
}

/**
 * Refuses to go on if more than the permitted share of rollouts failed, or all of them.
 * @param failures  the reasons, in the order in which rollouts ended
 * @throws EnvironmentError with the last reason
 */
export function expectFewFailures(
  failures: readonly string[],
  rollouts: number,
  { maxFailedShare }: Pick<EnvironmentLimits, "maxFailedShare">,
): void {
  if (failures.length === 0 || (failures.length < rollouts && failures.length <= maxFailedShare * rollouts)) return;
  throw new EnvironmentError(
    `environment: ${failures.length} of ${rollouts} rollouts failed, and at most a share of ${maxFailedShare} may ` +
      `(environment.maxFailedShare). The last one: ${failures.at(-1)}\nMend the environment, and the same command ` +
      "continues.",
  );
}

/** The limits in the settings of an environment. */
export function limitsOf({ timeLimit, maxFailedShare, parallelScores }: EnvironmentLimits): EnvironmentLimits {
  return { timeLimit, maxFailedShare, parallelScores };
}
