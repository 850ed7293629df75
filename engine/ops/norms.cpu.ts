import type { NumberArray } from "../dtype.ts";
import { directionNormals } from "../random.ts";
import type { Stream } from "./random.cpu.ts";

const pieceElements = 4096;

function squares(values: ArrayLike<number>, count: number, partial: NumberArray): void {
  for (let piece = 0; piece * pieceElements < count; piece++) {
    let sum = 0;
    for (let i = piece * pieceElements; i < Math.min(count, (piece + 1) * pieceElements); i++) sum += values[i] ** 2;
    partial[piece] = sum;
  }
}

export function tensorSquares({ x, partial }: { x: NumberArray; partial: NumberArray }, { count }: { count: number }): void {
  squares(x, count, partial);
}

export function directionSquares(
  { partial }: { partial: NumberArray },
  { count, key0, key1, name0, name1 }: Stream & { count: number },
): void {
  squares(directionNormals([key0, key1], [name0, name1], count), count, partial);
}
