import type { NumberArray } from "../../dtype.ts";

export function add(
  { a, b, y }: { a: NumberArray; b: NumberArray; y: NumberArray },
  { rows, rowSize }: { rows: number; rowSize: number },
): void {
  for (let i = 0; i < rows * rowSize; i++) y[i] = a[i] + b[i];
}
