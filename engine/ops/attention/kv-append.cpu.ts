import type { NumberArray } from "../../dtype.ts";
import { keptHalf } from "../matmul/half.cpu.ts";

/** appendToCache with keys and values rounded to f16; NaN if f16 does not hold the number */
export function appendToHalfCache(
  { k, v, ...rest }: Parameters<typeof appendToCache>[0],
  p: Parameters<typeof appendToCache>[1],
): void {
  appendToCache({ ...rest, k: k.map(keptHalf), v: v.map(keptHalf) }, p);
}

export function appendToCache(
  { k, v, slots, keys, values }: Record<"k" | "v" | "slots" | "keys" | "values", NumberArray>,
  p: { tokens: number; cache: number; cacheStart: number; rowSize: number },
): void {
  for (let token = 0; token < p.tokens; token++) {
    const row = slots[token] - p.cacheStart;
    if (row < 0 || row >= p.cache) continue;
    for (let i = 0; i < p.rowSize; i++) {
      keys[row * p.rowSize + i] = k[token * p.rowSize + i];
      values[row * p.rowSize + i] = v[token * p.rowSize + i];
    }
  }
}
