import type { NumberArray } from "../../dtype.ts";
import { roundedToHalf } from "../matmul/half.cpu.ts";

interface Extent {
  rows: number;
  width: number;
}

export function rmsNorm(
  { x, weight, y, inverseRms }: { x: NumberArray; weight: NumberArray; y: NumberArray; inverseRms: NumberArray },
  { rows, width, eps }: Extent & { eps: number },
): void {
  for (let row = 0; row < rows; row++) {
    let squares = 0;
    for (let c = 0; c < width; c++) squares += x[row * width + c] ** 2;
    const r = 1 / Math.sqrt(squares / width + eps);
    inverseRms[row] = r;
    for (let c = 0; c < width; c++) y[row * width + c] = x[row * width + c] * r * weight[c];
  }
}

/** rmsNorm with y rounded to f16 */
export function rmsNormHalf(bindings: Parameters<typeof rmsNorm>[0], params: Parameters<typeof rmsNorm>[1]): void {
  rmsNorm(bindings, params);
  for (let i = 0; i < params.rows * params.width; i++) bindings.y[i] = roundedToHalf(bindings.y[i]);
}

/** rmsNorm, each row with the weight of its slot */
export function rmsNormSlots(
  b: Parameters<typeof rmsNorm>[0] & { tiles: NumberArray },
  { rows, width, eps, stride }: Extent & { eps: number; stride: number },
): void {
  for (let row = 0; row < rows; row++)
    rmsNorm(
      {
        x: b.x.subarray(row * width),
        weight: b.weight.subarray(b.tiles[3 * row + 2] * stride),
        y: b.y.subarray(row * width),
        inverseRms: b.inverseRms.subarray(row),
      },
      { rows: 1, width, eps },
    );
}

/** rmsNormSlots with y rounded to f16 */
export function rmsNormSlotsHalf(
  bindings: Parameters<typeof rmsNormSlots>[0],
  params: Parameters<typeof rmsNormSlots>[1],
): void {
  rmsNormSlots(bindings, params);
  for (let i = 0; i < params.rows * params.width; i++) bindings.y[i] = roundedToHalf(bindings.y[i]);
}

export function rmsNormBackward(
  {
    dy,
    x,
    weight,
    inverseRms,
    dx,
  }: { dy: NumberArray; x: NumberArray; weight: NumberArray; inverseRms: NumberArray; dx: NumberArray },
  { rows, width, addToDx }: Extent & { addToDx: number },
): void {
  for (let row = 0; row < rows; row++) {
    const r = inverseRms[row];
    let dot = 0;
    for (let c = 0; c < width; c++) dot += dy[row * width + c] * weight[c] * x[row * width + c];
    for (let c = 0; c < width; c++) {
      const i = row * width + c;
      dx[i] = (addToDx ? dx[i] : 0) + r * (dy[i] * weight[c] - (x[i] * r * r * dot) / width);
    }
  }
}

export function rmsNormWeightTerms(
  { dy, x, inverseRms, terms }: { dy: NumberArray; x: NumberArray; inverseRms: NumberArray; terms: NumberArray },
  { rows, width }: Extent,
): void {
  for (let i = 0; i < rows * width; i++) terms[i] = dy[i] * x[i] * inverseRms[Math.floor(i / width)];
}
