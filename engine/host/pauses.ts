// Node hears a signal (Ctrl-C, kill) only when no code of the program runs. A long loop on the host therefore takes
// pauses: between two of them the loop runs for about 50 ms.
import { setImmediate } from "node:timers/promises";

const runMs = 50;

export class Pauses {
  readonly #signal: AbortSignal | undefined;
  #endMs = performance.now() + runMs;

  /** @param signal  stops the loop; without one, pauses only let the rest of the program run */
  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  /** Whether the loop has run long enough. A loop over many small items asks this, and awaits `take` only if true. */
  get isDue(): boolean {
    return performance.now() >= this.#endMs;
  }

  /** Pauses if it is due. @throws the signal's reason once it is aborted */
  async take(): Promise<void> {
    if (!this.isDue) return;
    await setImmediate();
    this.#signal?.throwIfAborted();
    this.#endMs = performance.now() + runMs;
  }
}
