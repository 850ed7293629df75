import type { NumberArray } from "../../dtype.ts";
import { roundedToHalf } from "../matmul/half.cpu.ts";

interface Extent {
  rows: number;
  rowSize: number;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

export function swiglu(
  { gate, up, y }: { gate: NumberArray; up: NumberArray; y: NumberArray },
  { rows, rowSize }: Extent,
): void {
  for (let i = 0; i < rows * rowSize; i++) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

/** swiglu with y rounded to f16 */
export function swigluHalf(bindings: Parameters<typeof swiglu>[0], extent: Extent): void {
  swiglu(bindings, extent);
  for (let i = 0; i < extent.rows * extent.rowSize; i++) bindings.y[i] = roundedToHalf(bindings.y[i]);
}

export function swigluBackward(
  { dy, gate, up, d }: { dy: NumberArray; gate: NumberArray; up: NumberArray; d: NumberArray },
  { rows, rowSize, which, addToD }: Extent & { which: number; addToD: number },
): void {
  for (let i = 0; i < rows * rowSize; i++) {
    const s = sigmoid(gate[i]);
    const gradient = which === 0 ? dy[i] * up[i] * s * (1 + gate[i] * (1 - s)) : dy[i] * gate[i] * s;
    d[i] = (addToD ? d[i] : 0) + gradient;
  }
}
