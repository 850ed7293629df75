import type { NumberArray } from "../../dtype.ts";
import { directionNormals } from "../../random.ts";

/** y[e] = Σ_k coefficients[k] · g_k[e], k ascending */
export function weightedNormals(
  { keys, coefficients, y }: { keys: NumberArray; coefficients: NumberArray; y: NumberArray },
  params: {
    rows: number;
    rowsStart: number;
    rowSize: number;
    count: number;
    name0: number;
    name1: number;
  },
): void {
  const { rows, rowsStart, rowSize, count, name0, name1 } = params;
  const sums = new Float64Array(rows * rowSize);
  for (let k = 0; k < count; k++) {
    const drawn = directionNormals([keys[2 * k], keys[2 * k + 1]], [name0, name1], sums.length, rowsStart * rowSize);
    for (let i = 0; i < sums.length; i++) sums[i] += coefficients[k] * drawn[i];
  }
  y.set(sums);
}
