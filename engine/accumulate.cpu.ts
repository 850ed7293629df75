import type { NumberArray } from "./dtype.ts";

export function accumulate(
  { x, y }: { x: NumberArray; y: NumberArray },
  { rows, rowSize, factor, addToY }: { rows: number; rowSize: number; factor: number; addToY: number },
): void {
  for (let i = 0; i < rows * rowSize; i++) y[i] = (addToY ? y[i] : 0) + factor * x[i];
}

export function fill(
  { y }: { y: NumberArray },
  { rows, rowSize, value }: { rows: number; rowSize: number; value: number },
): void {
  y.fill(value, 0, rows * rowSize);
}
