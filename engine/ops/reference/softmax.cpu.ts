import type { NumberArray } from "../../dtype.ts";

interface Extent {
  rows: number;
  inner: number;
  width: number;
  isLog: number;
}

export function softmax({ x, y }: { x: NumberArray; y: NumberArray }, { rows, inner, width, isLog }: Extent): void {
  for (let row = 0; row < rows * inner; row++) {
    const first = row * width;
    let largest = Number.NEGATIVE_INFINITY;
    for (let v = 0; v < width; v++) largest = Math.max(largest, x[first + v]);
    let sum = 0;
    for (let v = 0; v < width; v++) sum += Math.exp(x[first + v] - largest);
    for (let v = 0; v < width; v++) {
      const shifted = x[first + v] - largest;
      y[first + v] = isLog ? shifted - Math.log(sum) : Math.exp(shifted) / sum;
    }
  }
}

export function softmaxBackward(
  { dy, y, dx }: { dy: NumberArray; y: NumberArray; dx: NumberArray },
  { rows, inner, width, isLog, addToDx }: Extent & { addToDx: number },
): void {
  for (let row = 0; row < rows * inner; row++) {
    const first = row * width;
    let sum = 0;
    for (let v = 0; v < width; v++) sum += dy[first + v] * (isLog ? 1 : y[first + v]);
    for (let v = 0; v < width; v++) {
      const i = first + v;
      const gradient = isLog ? dy[i] - Math.exp(y[i]) * sum : y[i] * (dy[i] - sum);
      dx[i] = (addToDx ? dx[i] : 0) + gradient;
    }
  }
}
