// Waiting for a GPU from Node, and the time it takes.
//
// Dawn on Node polls at every turn of the event loop, as fast as the loop runs; on a software driver that core is half of the
// machine. So the thread sleeps between two turns. A long sleep saves the core, but the device has nothing to do from the end of
// its work to the end of the sleep. So the thread sleeps long as long as the work cannot be done, by what earlier work took, and
// briefly after that.

/** Nothing ever wakes it: a wait on it is a sleep. */
const sleeper = new Int32Array(new SharedArrayBuffer(4));
const shortestSleepMs = 0.05;

/** Until this share of the expected time the thread sleeps as long as it may. Equal work differs by about a tenth. */
const surely = 0.75;
/** After that, and without an expectation, a sleep is this share of the time so far. */
const shareAfter = { expected: 1 / 24, unexpected: 1 / 6 };
/** The weight of the latest time in the expectation. */
const latest = 0.25;

/**
 * How long to sleep before the next look at the device, ms.
 * @param elapsedMs   since the device could begin
 * @param expectedMs  how long the work takes, by what earlier work took; null if nothing is known
 * @param longestMs   of a sleep
 */
export function sleepMsOf(elapsedMs: number, expectedMs: number | null, longestMs: number): number {
  const early = expectedMs === null ? 0 : surely * expectedMs - elapsedMs;
  const share = expectedMs === null ? shareAfter.unexpected : shareAfter.expected;
  return Math.min(Math.max(early, share * elapsedMs, shortestSleepMs), longestMs);
}

interface Wait {
  readonly startMs: number;
  /** What is waited for, in units of work; 0 if it is not known. */
  readonly work: number;
}

/** The waits of one device, which ends its work in the order of the waits. */
export class Waits {
  readonly #longestSleepMs: number;
  /** The first ends first. */
  readonly #pending = new Set<Wait>();
  #isPolling = false;
  /** The turn of the event loop in which the device is looked at. */
  #turn: Promise<void> = Promise.resolve();
  #ended = 0;
  /** Since when the thread has done nothing but wait, in this turn; null if it does other things. */
  #waitsSinceMs: number | null = null;
  #lastEndMs = Number.NEGATIVE_INFINITY;
  /** Time of a unit of work; null before the first. */
  #msPerWork: number | null = null;
  /** Time that this thread has slept, and looked at the device, and did nothing else, ms. */
  waitMs = 0;

  /** @param longestSleepMs  between two looks at the device: short for a GPU, whose answer is near */
  constructor(longestSleepMs: number) {
    this.#longestSleepMs = longestSleepMs;
  }

  get isWaiting(): boolean {
    return this.#pending.size > 0;
  }

  /**
   * Waits without using a whole core. Several waits may overlap.
   * @param work  how much is waited for, in units of the caller; 0 (the default) if that is not known
   */
  async until<T>(promise: Promise<T>, work = 0): Promise<T> {
    const wait = { startMs: performance.now(), work };
    this.#pending.add(wait);
    const end = (): void => this.#end(wait);
    const ended = promise.then(end, end);
    if (!this.#isPolling) void this.#poll();
    await ended;
    // What else the device tells at the same look, such as an error, is heard first.
    await this.#turn;
    return promise;
  }

  #end(wait: Wait): void {
    const now = performance.now();
    if (this.#waitsSinceMs !== null) this.waitMs += now - this.#waitsSinceMs;
    this.#waitsSinceMs = null;
    const took = now - this.#begunMs(wait);
    this.#pending.delete(wait);
    this.#lastEndMs = now;
    this.#ended++;
    if (wait.work === 0) return;
    const own = took / wait.work;
    this.#msPerWork = this.#msPerWork === null ? own : this.#msPerWork + latest * (own - this.#msPerWork);
  }

  /** When the device could begin this work: it does one after another. */
  #begunMs({ startMs }: Wait): number {
    return Math.max(startMs, this.#lastEndMs);
  }

  async #poll(): Promise<void> {
    this.#isPolling = true;
    /** After the end of a wait the thread does other things for a turn, which are no waiting. */
    let isAfterEnd = false;
    while (this.#pending.size > 0) {
      const start = performance.now();
      const ended = this.#ended;
      this.#waitsSinceMs = isAfterEnd ? null : start;
      this.#turn = new Promise((resolve) => setImmediate(resolve));
      await this.#turn;
      const hasEnded = this.#ended !== ended;
      const isWait = !hasEnded && !isAfterEnd;
      isAfterEnd = hasEnded;
      if (!isWait) continue;
      const [next] = this.#pending;
      const expected = this.#msPerWork === null || next.work === 0 ? null : this.#msPerWork * next.work;
      const sleepMs = sleepMsOf(performance.now() - this.#begunMs(next), expected, this.#longestSleepMs);
      Atomics.wait(sleeper, 0, 0, sleepMs);
      this.waitMs += performance.now() - start;
      this.#waitsSinceMs = null;
    }
    this.#isPolling = false;
  }
}
