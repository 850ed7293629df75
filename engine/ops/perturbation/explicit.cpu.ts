import type { NumberArray } from "../../dtype.ts";

interface Extent {
  rows: number;
  rowSize: number;
}

export function addDirection(
  { direction, moved }: { direction: NumberArray; moved: NumberArray },
  { rows, rowSize, coefficient }: Extent & { coefficient: number },
): void {
  for (let i = 0; i < rows * rowSize; i++) moved[i] += coefficient * direction[i];
}

export function rowProducts(
  { x, y, products }: { x: NumberArray; y: NumberArray; products: NumberArray },
  { rows, rowSize }: Extent,
): void {
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = row * rowSize; i < (row + 1) * rowSize; i++) sum += x[i] * y[i];
    products[row] = sum;
  }
}

export function scaleRows({ x, factors }: { x: NumberArray; factors: NumberArray }, { rows, rowSize }: Extent): void {
  for (let i = 0; i < rows * rowSize; i++) x[i] *= factors[Math.floor(i / rowSize)];
}
