import type { NumberArray } from "../../dtype.ts";

export function repeatSlots(
  { sources, targets, keys, values }: Record<"sources" | "targets" | "keys" | "values", NumberArray>,
  p: { copies: number; rowSize: number },
): void {
  for (let copy = 0; copy < p.copies; copy++) {
    const start = sources[copy] * p.rowSize;
    for (const cache of [keys, values]) cache.copyWithin(targets[copy] * p.rowSize, start, start + p.rowSize);
  }
}
