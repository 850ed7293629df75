import type { NumberArray } from "../../dtype.ts";
import { keptHalf } from "../matmul/half.cpu.ts";

export function rope(
  { x, cos, sin, y }: { x: NumberArray; cos: NumberArray; sin: NumberArray; y: NumberArray },
  {
    rows,
    heads,
    half,
    direction,
    addToY,
  }: { rows: number; heads: number; half: number; direction: number; addToY: number },
): void {
  for (let t = 0; t < rows; t++)
    for (let head = 0; head < heads; head++)
      for (let i = 0; i < half; i++) {
        const low = (t * heads + head) * 2 * half + i;
        const high = low + half;
        const c = cos[t * half + i];
        const s = direction * sin[t * half + i];
        const rotated = [x[low] * c - x[high] * s, x[high] * c + x[low] * s];
        y[low] = (addToY ? y[low] : 0) + rotated[0];
        y[high] = (addToY ? y[high] : 0) + rotated[1];
      }
}

/** `rope` of the heads of q and of k. */
export function ropePair(
  b: Record<"q" | "k" | "cos" | "sin" | "rotatedQ" | "rotatedK", NumberArray>,
  p: {
    rows: number;
    heads: number;
    keyHeads: number;
    half: number;
    direction: number;
    addToRotatedQ: number;
    addToRotatedK: number;
  },
): void {
  rope({ x: b.q, cos: b.cos, sin: b.sin, y: b.rotatedQ }, { ...p, addToY: p.addToRotatedQ });
  rope({ x: b.k, cos: b.cos, sin: b.sin, y: b.rotatedK }, { ...p, heads: p.keyHeads, addToY: p.addToRotatedK });
}

/** ropeIntoCache with keys and values rounded to f16; NaN if f16 does not hold the number */
export function ropeIntoHalfCache(
  b: Parameters<typeof ropeIntoCache>[0],
  p: Parameters<typeof ropeIntoCache>[1],
): void {
  ropeIntoCache(b, p);
  const rowSize = p.keyHeads * 2 * p.half;
  for (let token = 0; token < p.tokens; token++) {
    const row = b.slots[token] - p.cacheStart;
    if (row < 0 || row >= p.cache) continue;
    for (const cache of [b.keys, b.values])
      for (let i = row * rowSize; i < (row + 1) * rowSize; i++) cache[i] = keptHalf(cache[i]);
  }
}

/** q[t] = rope(q[t]) in place,  keys[slots[t]] = rope(k[t]),  values[slots[t]] = v[t] */
export function ropeIntoCache(
  b: Record<"q" | "k" | "v" | "cos" | "sin" | "slots" | "keys" | "values", NumberArray>,
  p: { tokens: number; cache: number; cacheStart: number; heads: number; keyHeads: number; half: number },
): void {
  const own = { half: p.half, direction: 1, addToY: 0 };
  if (p.cacheStart === 0) rope({ x: b.q, cos: b.cos, sin: b.sin, y: b.q }, { ...own, rows: p.tokens, heads: p.heads });
  const rowSize = p.keyHeads * 2 * p.half;
  for (let token = 0; token < p.tokens; token++) {
    const row = b.slots[token] - p.cacheStart;
    if (row < 0 || row >= p.cache) continue;
    const angles = (table: NumberArray): NumberArray => table.subarray(token * p.half, (token + 1) * p.half);
    const [from, to] = [token * rowSize, row * rowSize];
    rope(
      {
        x: b.k.subarray(from, from + rowSize),
        cos: angles(b.cos),
        sin: angles(b.sin),
        y: b.keys.subarray(to, to + rowSize),
      },
      { ...own, rows: 1, heads: p.keyHeads },
    );
    for (let i = 0; i < rowSize; i++) b.values[to + i] = b.v[from + i];
  }
}
