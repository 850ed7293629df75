import type { NumberArray } from "../../dtype.ts";

export function add(
  { a, b, y }: { a: NumberArray; b: NumberArray; y: NumberArray },
  { rows, rowSize }: { rows: number; rowSize: number },
): void {
  for (let i = 0; i < rows * rowSize; i++) y[i] = a[i] + b[i];
}

export function multiply(
  { a, b, y }: { a: NumberArray; b: NumberArray; y: NumberArray },
  { rows, rowSize, addToY }: { rows: number; rowSize: number; addToY: number },
): void {
  for (let i = 0; i < rows * rowSize; i++) y[i] = (addToY ? y[i] : 0) + a[i] * b[i];
}
