import type { NumberArray } from "../../dtype.ts";
import type { Constants } from "../../kernel.ts";
import { directionNormals } from "../../random.ts";
import type { Stream } from "./normals.cpu.ts";

function squares(values: ArrayLike<number>, count: number, piece: number, partial: NumberArray): void {
  for (let start = 0; start < count; start += piece) {
    let sum = 0;
    for (let i = start; i < Math.min(count, start + piece); i++) sum += values[i] ** 2;
    partial[start / piece] = sum;
  }
}

export function tensorSquares(
  { x, partial }: { x: NumberArray; partial: NumberArray },
  { count }: { count: number },
  { PIECE }: Constants,
): void {
  squares(x, count, Number(PIECE), partial);
}

export function directionSquares(
  { partial }: { partial: NumberArray },
  { quadLow, quadHigh, count, key0, key1, name0, name1 }: Stream & { quadLow: number; quadHigh: number; count: number },
  { PIECE }: Constants,
): void {
  const first = 4 * (quadHigh * 2 ** 32 + quadLow);
  squares(directionNormals([key0, key1], [name0, name1], count, first), count, Number(PIECE), partial);
}
