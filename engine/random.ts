// Random numbers as a function of names. Philox is a counter-based generator: the words of any element of any stream
// can be computed without those before it. A stream's key is the hash of a label; its counters say which element or
// which token. So nothing is stored or replayed, and a resumed run draws the same numbers as an uninterrupted one.
//
// This is the host's version, with float64 and exact words: the kernels (ops/shared/philox.wgsl, random-values.wgsl)
// are compared with it, and the plain backend computes with it.
// Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
import { createHash } from "node:crypto";

/** Two unsigned 32-bit words: a Philox key, or the half of a counter that names a tensor. */
export type WordPair = readonly [number, number];
/** Four unsigned 32-bit words: a counter, or the output of Philox for a counter. */
export type WordQuad = readonly [number, number, number, number];

/**
 * The first eight bytes of SHA-256(text), UTF-8, as two little-endian words: the form in which a tensor or a message
 * enters a counter.
 */
export function wordsOf(text: string): WordPair {
  const digest = createHash("sha256").update(text, "utf8").digest();
  return [digest.readUInt32LE(0), digest.readUInt32LE(4)];
}

/** The Philox key of a stream: the words of its label, such as `direction|7|0|delta`. */
export function philoxKey(label: string): WordPair {
  return wordsOf(label);
}

/** Philox 4×32-10: four words for each counter under a key. */
export function philox(counter: WordQuad, key: WordPair): WordQuad {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = highProduct(0xd2511f53, c0);
    const high2 = highProduct(0xcd9e8d57, c2);
    const low0 = Math.imul(0xd2511f53, c0) >>> 0;
    const low2 = Math.imul(0xcd9e8d57, c2) >>> 0;
    [c0, c1, c2, c3] = [(high2 ^ c1 ^ k0) >>> 0, low2, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** ⌊a · b / 2³²⌋; computed in halves of a, so that every product fits the 53 bits of a double. */
function highProduct(a: number, b: number): number {
  const low = (a & 0xffff) * b;
  return Math.floor(((a >>> 16) * b + Math.floor(low / 65536)) / 65536);
}

/**
 * E(x) = −ln((x + ½)·2⁻³²), an exponential variate. Above 2³¹ it uses the distance to 2³², since (x + ½) loses digits
 * near 1.
 */
export function exponential(word: number): number {
  return word < 2 ** 31 ? -Math.log((word + 0.5) * 2 ** -32) : -Math.log1p(-(2 ** 32 - 1 - word + 0.5) * 2 ** -32);
}

/** −ln E(x), a Gumbel variate. */
export function gumbel(word: number): number {
  return -Math.log(exponential(word));
}

/** Four standard normals from four words (Box–Muller): √(2E(x₀))·cos and ·sin of 2π(x₁ + ½)·2⁻³², and so for x₂, x₃. */
export function normals([x0, x1, x2, x3]: WordQuad): [number, number, number, number] {
  const r0 = Math.sqrt(2 * exponential(x0));
  const r2 = Math.sqrt(2 * exponential(x2));
  const turn = 2 * Math.PI * 2 ** -32;
  return [
    r0 * Math.cos(turn * (x1 + 0.5)),
    r0 * Math.sin(turn * (x1 + 0.5)),
    r2 * Math.cos(turn * (x3 + 0.5)),
    r2 * Math.sin(turn * (x3 + 0.5)),
  ];
}

/**
 * The counter under which an element of a direction is drawn; its lane is element mod 4.
 * @param element    index into the tensor in Hugging Face's layout, below 2⁵³
 * @param nameWords  `wordsOf` the tensor's name, so that two tensors of one shape never share noise
 */
export function directionCounter(element: number, [h0, h1]: WordPair): WordQuad {
  const quad = Math.floor(element / 4);
  return [quad % 2 ** 32, Math.floor(quad / 2 ** 32), h0, h1];
}

/** Normals first … first + count − 1 of the direction of one tensor, in Hugging Face's layout. */
export function directionNormals(key: WordPair, nameWords: WordPair, count: number, first = 0): Float64Array {
  const values = new Float64Array(count);
  const skipped = first % 4;
  for (let at = -skipped; at < count; at += 4) {
    const four = normals(philox(directionCounter(first + at, nameWords), key));
    for (let lane = Math.max(0, -at); lane < Math.min(4, count - at); lane++) values[at + lane] = four[lane];
  }
  return values;
}

/**
 * The position at which a token is drawn. Seed, purpose and step also determine its noise; they are in the key
 * (`tokenKey`).
 */
export interface TokenPlace {
  /** In this turn's answer, from 0; below 2²⁴. */
  readonly position: number;
  /** From 0; below 2⁸. */
  readonly turn: number;
  readonly rollout: number;
  /** The first word of the episode's first user message. */
  readonly prompt: number;
}

/** The Philox key of the tokens that are drawn for one purpose (`train`, `evaluate`, `generate`, …) at one step. */
export function tokenKey(seed: number, purpose: string, step: number): WordPair {
  return philoxKey(`token|${seed}|${purpose}|${step}`);
}

/**
 * The row of a sampler's table for a token: three words of its counter, and a fourth that is not used.
 * @throws Error when position or turn is out of its bounds: two tokens would then share their noise
 */
export function tokenCounterRow({ position, turn, rollout, prompt }: TokenPlace): WordQuad {
  if (!(position >= 0 && position < 2 ** 24 && turn >= 0 && turn < 2 ** 8))
    throw new Error(
      `tokenCounterRow: expected a position below ${2 ** 24} and a turn below ${2 ** 8}, got position ${position} of turn ${turn}.`,
    );
  return [(position | (turn << 24)) >>> 0, rollout, prompt, 0];
}

/** The word of a vocabulary id for a token: −ln E of it is the id's Gumbel noise. */
export function tokenWord(id: number, place: TokenPlace, key: WordPair): number {
  const [positionAndTurn, rollout, prompt] = tokenCounterRow(place);
  return philox([id >>> 2, positionAndTurn, rollout, prompt], key)[id & 3];
}
