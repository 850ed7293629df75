// How many decode steps run between two reads of sampled tokens. The tokens of a step are the input of the next one on
// the device, so the host need not see them in between. Each read saved is a wait saved; but an answer may end at any
// step, and the steps after its end, until the next read, are wasted on its row.
//
// With s the time of a step, r the time of a read that finds its data ready, L the mean length of an answer, and k steps
// per read, a token takes about (s + r/k) · (1 + (k − 1)/(2L)). That is least at k = √(2Lr/s). The number changes no bit
// of a result.
import { type Backend, fromArray, scopeAsync } from "../engine/index.ts";

/** More would delay Ctrl-C and streamed text. */
export const mostStepsPerRead = 16;
/** Samples of the time of a read; the least counts. */
const reads = 3;

/** √(2Lr/s), rounded down to a power of two, from 1 to `mostStepsPerRead`. */
export function bestStepsPerRead(stepMs: number, readMs: number, meanAnswer: number): number {
  const best = Math.sqrt((2 * meanAnswer * readMs) / Math.max(stepMs, 1e-3));
  return Math.min(mostStepsPerRead, 2 ** Math.floor(Math.log2(Math.max(1, best))));
}

const readTimes = new WeakMap<Backend, number>();

/** Milliseconds of a read of one number when the device has nothing else to do. Measured once per backend. */
async function readTimeOf(backend: Backend): Promise<number> {
  const known = readTimes.get(backend);
  if (known !== undefined) return known;
  const found = await scopeAsync(async () => {
    const one = fromArray(backend, [1], [1], "u32", "a read");
    await backend.idle();
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < reads; i++) {
      const start = performance.now();
      await one.read();
      least = Math.min(least, performance.now() - start);
    }
    return least;
  });
  readTimes.set(backend, found);
  return found;
}

/** The choice during one run of `generate`. */
export class StepsPerRead {
  readonly #backend: Backend;
  readonly #isFixed: boolean;
  /** The largest number that will be chosen. Where it is measured, this does not depend on the answers: a plan of memory knows it. */
  readonly most: number;
  #count: number;
  #meanAnswer: number;
  #answers = 0;

  /**
   * @param fixed         the number, if it is given. A software driver reads in 0.1 ms and computes a step in several:
   *                      there it is 1 by default
   * @param maxNewTokens  half of it stands for the mean length of an answer until one has ended
   */
  constructor(backend: Backend, fixed: number | undefined, maxNewTokens: number) {
    this.#backend = backend;
    this.#isFixed = fixed !== undefined || backend.memory === "host";
    this.most = this.#isFixed ? Math.max(1, Math.min(fixed ?? 1, maxNewTokens)) : mostStepsPerRead;
    this.#count = this.#isFixed ? this.most : 1;
    this.#meanAnswer = Math.max(1, maxNewTokens / 2);
  }

  /** Steps until the next read. */
  get count(): number {
    return this.#count;
  }

  /** Counts an answer that ended. */
  ended(length: number): void {
    this.#answers++;
    this.#meanAnswer = this.#answers === 1 ? length : this.#meanAnswer + (length - this.#meanAnswer) / this.#answers;
  }

  /** Takes the time of some steps and their read into account. */
  async timed(steps: number, milliseconds: number): Promise<void> {
    if (this.#isFixed) return;
    const readMs = await readTimeOf(this.#backend);
    this.#count = bestStepsPerRead((milliseconds - readMs) / steps, readMs, this.#meanAnswer);
  }
}
