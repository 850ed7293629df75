// Python's `random` module, bit for bit: seeds in published studies name streams of this generator, so an episode list
// is the same only if every draw is the same. MT19937 (Matsumoto & Nishimura 1998), seeded as in CPython
// (`init_by_array` over the 32-bit digits of |seed|), with CPython's method to draw integers: rejection on the bit
// length, never modulo. The same in Python 3.2 to 3.13; checked against CPython in
// test/rl/environments/python/random.test.ts.
import { createHash } from "node:crypto";

const WORDS = 624;
const OFFSET = 397;

export class PythonRandom {
  readonly #state = new Uint32Array(WORDS);
  #position = WORDS;

  /** `random.Random(seed)` for an integer seed of any size; the sign is ignored, as Python does. */
  constructor(seed: number | bigint) {
    if (typeof seed === "number" && !Number.isSafeInteger(seed))
      throw new RangeError(`PythonRandom: expected an integer seed, got ${seed}`);
    const key: number[] = [];
    for (let rest = BigInt(seed) < 0n ? -BigInt(seed) : BigInt(seed); rest > 0n; rest >>= 32n)
      key.push(Number(rest & 0xffffffffn));
    this.#seedByArray(key.length > 0 ? key : [0]);
  }

  /** A uniform integer of `bits` bits, 0 ≤ bits ≤ 53 (Python has no upper limit; a JavaScript number holds 53 bits). */
  getrandbits(bits: number): number {
    if (!Number.isInteger(bits) || bits < 0 || bits > 53)
      throw new RangeError(`getrandbits: expected 0 to 53 bits, got ${bits}`);
    if (bits === 0) return 0;
    if (bits <= 32) return this.#word() >>> (32 - bits);
    // Python fills 32-bit digits from the least significant one and shortens the last.
    const low = this.#word();
    return low + (this.#word() >>> (64 - bits)) * 2 ** 32;
  }

  /** A uniform double in [0, 1) with 53 random bits. */
  random(): number {
    const high = this.#word() >>> 5;
    const low = this.#word() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** A uniform integer, first ≤ n ≤ last. Even `randint(2, 2)` consumes words: it draws one bit until it is 0. */
  randint(first: number, last: number): number {
    if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last) || first > last)
      throw new RangeError(`randint: expected integers first ≤ last, got ${first} and ${last}`);
    return first + this.#below(last - first + 1);
  }

  /** A uniformly drawn element of a non-empty list. */
  choice<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError("choice: the list is empty");
    return list[this.#below(list.length)];
  }

  /** Shuffles in place, from the last element down. */
  shuffle(list: unknown[]): void {
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.#below(i + 1);
      [list[i], list[j]] = [list[j], list[i]];
    }
  }

  /** Python's `_randbelow`: draws as many bits as `count` has until the number is below it. */
  #below(count: number): number {
    if (!Number.isSafeInteger(count)) throw new RangeError(`random: a range of ${count} values is above 2^53 - 1`);
    const high = Math.floor(count / 2 ** 32);
    const bits = high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(count);
    let drawn = this.getrandbits(bits);
    while (drawn >= count) drawn = this.getrandbits(bits);
    return drawn;
  }

  #seedByArray(key: readonly number[]): void {
    const state = this.#state;
    state[0] = 19650218;
    for (let i = 1; i < WORDS; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    let i = 1;
    let j = 0;
    const step = () => {
      if (++i < WORDS) return;
      state[0] = state[WORDS - 1];
      i = 1;
    };
    for (let k = Math.max(WORDS, key.length); k > 0; k--) {
      state[i] = (state[i] ^ Math.imul(state[i - 1] ^ (state[i - 1] >>> 30), 1664525)) + key[j] + j;
      step();
      j = (j + 1) % key.length;
    }
    for (let k = WORDS - 1; k > 0; k--) {
      state[i] = (state[i] ^ Math.imul(state[i - 1] ^ (state[i - 1] >>> 30), 1566083941)) - i;
      step();
    }
    state[0] = 0x80000000;
  }

  /** The next 32-bit output, tempered. */
  #word(): number {
    if (this.#position === WORDS) this.#twist();
    let word = this.#state[this.#position++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  #twist(): void {
    const state = this.#state;
    for (let i = 0; i < WORDS; i++) {
      const mixed = (state[i] & 0x80000000) | (state[(i + 1) % WORDS] & 0x7fffffff);
      state[i] = state[(i + OFFSET) % WORDS] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    }
    this.#position = 0;
  }
}

/**
 * A stream named by a label such as "names|12345": `PythonRandom` seeded with the first 8 bytes of SHA-256(label) as a
 * little-endian integer. Streams of different labels are independent, and differ from the streams of small integer
 * seeds, so drawing from them never changes the draws that a study's seed refers to.
 */
export function labelledRandom(label: string): PythonRandom {
  return new PythonRandom(createHash("sha256").update(label).digest().readBigUInt64LE(0));
}
