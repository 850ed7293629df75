import type { NumberArray } from "../../dtype.ts";

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
