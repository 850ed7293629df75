// Waiting for a GPU from Node, and the time it takes.

/** Nothing ever wakes it: a wait on it is a sleep. */
const sleeper = new Int32Array(new SharedArrayBuffer(4));
const shortestSleepMs = 0.05;

/** The waits of one device. */
export class Waits {
  readonly #longestSleepMs: number;
  readonly #encodeMs: () => number;
  #inProgress = 0;
  #start = { now: 0, encodeMs: 0 };
  /** Time spent waiting so far, ms. Overlapping waits count once, and time spent encoding during them does not count. */
  waitMs = 0;

  /**
   * @param longestSleepMs  between two looks at the device: short for a GPU, whose answer is near
   * @param encodeMs        time that the caller has spent encoding so far
   */
  constructor(longestSleepMs: number, encodeMs: () => number) {
    this.#longestSleepMs = longestSleepMs;
    this.#encodeMs = encodeMs;
  }

  get isWaiting(): boolean {
    return this.#inProgress > 0;
  }

  /**
   * Waits without using a whole core. Dawn on Node polls at every turn of the event loop, as fast as the loop runs; on a
   * software driver that core is half of the machine. So the thread sleeps briefly between two turns.
   */
  async until<T>(promise: Promise<T>): Promise<T> {
    if (this.#inProgress++ === 0) this.#start = { now: performance.now(), encodeMs: this.#encodeMs() };
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    const start = performance.now();
    while (!isSettled) {
      await new Promise((resolve) => setImmediate(resolve));
      if (isSettled) break;
      // A sixth of the wait so far: so a wait ends late by a twelfth of it on average, after few looks at the device.
      const sleepMs = Math.max(shortestSleepMs, (performance.now() - start) / 6);
      Atomics.wait(sleeper, 0, 0, Math.min(sleepMs, this.#longestSleepMs));
    }
    if (--this.#inProgress === 0) {
      const { now, encodeMs } = this.#start;
      this.waitMs += performance.now() - now - (this.#encodeMs() - encodeMs);
    }
    return promise;
  }
}
