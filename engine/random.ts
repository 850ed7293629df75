// Random numbers as functions of names: Philox 4×32-10 words whose key is the hash of a label and whose counter says which
// element, token or rollout. Nothing is stored or replayed. This is the meaning, in float64; the kernels draw the same words
// and come within 4e-6 of these values.
// Source: Salmon et al. 2011.
import { createHash } from "node:crypto";

export type Words4 = readonly [number, number, number, number];
export type Words2 = readonly [number, number];

/** The first 8 bytes of SHA-256(text) as two little-endian u32. */
export function wordsOf(text: string): Words2 {
  const digest = createHash("sha256").update(text, "utf8").digest();
  return [digest.readUInt32LE(0), digest.readUInt32LE(4)];
}

/** The Philox key of a label such as "direction|1|0|delta". */
export const keyOf = wordsOf;

const multipliers = [0xd2511f53n, 0xcd9e8d57n] as const;

/** Product of two u32 as [high, low]. */
function wide(a: number, b: bigint): [number, number] {
  const product = BigInt(a) * b;
  return [Number(product >> 32n), Number(product & 0xffffffffn)];
}

/** Ten rounds of Philox 4×32, in Random123's order of words. */
export function philox(counter: Words4, key: Words2): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = wide(c0, multipliers[0]);
    const [high1, low1] = wide(c2, multipliers[1]);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** E = −ln((x + ½)·2⁻³²), never infinite; near 1 through log1p, where x + ½ would be rounded away. */
export function exponential(word: number): number {
  if (word >= 2 ** 31) return -Math.log1p(-((2 ** 32 - 1 - word + 0.5) * 2 ** -32));
  return -Math.log((word + 0.5) * 2 ** -32);
}

/** −ln E of a word: standard Gumbel. */
export function gumbel(word: number): number {
  return -Math.log(exponential(word));
}

/** Four standard normals from four words (Box–Muller on pairs). */
export function normalsOf([x0, x1, x2, x3]: Words4): [number, number, number, number] {
  const pair = (x: number, y: number): [number, number] => {
    const radius = Math.sqrt(2 * exponential(x));
    const angle = 2 * Math.PI * ((y + 0.5) * 2 ** -32);
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  };
  return [...pair(x0, x1), ...pair(x2, x3)];
}

/** Counter of the four normals that hold `element` of a tensor. */
export function directionCounter(element: number, nameWords: Words2): Words4 {
  return [Math.floor(element / 4) % 2 ** 32, Math.floor(element / 2 ** 34), nameWords[0], nameWords[1]];
}

/** Normals `first` … `first + count − 1` of a tensor's stream, element by element in Hugging Face's layout. */
export function directionNormals(key: Words2, nameWords: Words2, count: number, first = 0): Float64Array {
  const values = new Float64Array(count);
  let quad: readonly number[] = [];
  let quadOf = -1;
  for (let i = 0; i < count; i++) {
    const element = first + i;
    if (Math.floor(element / 4) !== quadOf) {
      quadOf = Math.floor(element / 4);
      quad = normalsOf(philox(directionCounter(element, nameWords), key));
    }
    values[i] = quad[element % 4];
  }
  return values;
}

/** Counter of the four words that hold vocabulary id `id` of one sampled token. */
export function tokenCounter(id: number, position: number, turn: number, rollout: number, promptWord: number): Words4 {
  return [Math.floor(id / 4), (position | (turn << 24)) >>> 0, rollout, promptWord];
}
