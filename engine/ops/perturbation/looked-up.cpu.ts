import type { NumberArray } from "../../dtype.ts";
import { keptHalf } from "../matmul/half.cpu.ts";
import { directionsOf, type Noise, perturbed } from "./perturb.cpu.ts";

/** y[t, c] = (y[t, c] + a·g_δ[ids[t], c]) + b·g_η[ids[t], c] */
export function perturbLookedUp(
  { ids, y }: { ids: NumberArray; y: NumberArray },
  params: Noise & { rows: number },
): void {
  const { rows, rowSize } = params;
  for (let t = 0; t < rows; t++) {
    const { delta, eta } = directionsOf(ids[t], ids[t] + 1, params);
    for (let c = 0; c < rowSize; c++) {
      const place = t * rowSize + c;
      y[place] = perturbed(y[place], delta[c], eta[c], params);
    }
  }
}

/** x[i] rounded to f16; NaN if f16 does not hold it */
export function keepHalves({ x }: { x: NumberArray }, { rows, rowSize }: { rows: number; rowSize: number }): void {
  for (let i = 0; i < rows * rowSize; i++) x[i] = keptHalf(x[i]);
}
