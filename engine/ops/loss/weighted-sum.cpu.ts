import type { NumberArray } from "../../dtype.ts";

/** A term of weight 0 is left out, whatever its value. */
export function weightedSum(
  { x, weights, y }: { x: NumberArray; weights: NumberArray; y: NumberArray },
  { rows, factor, addToY }: { rows: number; factor: number; addToY: number },
): void {
  let sum = 0;
  for (let i = 0; i < rows; i++) if (weights[i] !== 0) sum += weights[i] * x[i];
  y[0] = (addToY ? y[0] : 0) + factor * sum;
}

export function weightedSumBackward(
  { weights, dy, dx }: { weights: NumberArray; dy: NumberArray; dx: NumberArray },
  { rows, addToDx }: { rows: number; addToDx: number },
): void {
  for (let i = 0; i < rows; i++) dx[i] = (addToDx ? dx[i] : 0) + dy[0] * weights[i];
}
