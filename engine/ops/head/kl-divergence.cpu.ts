import type { NumberArray } from "../../dtype.ts";
import { type PickRowParams, rowOfPick } from "./logits.cpu.ts";

interface Columns {
  rows: number;
  /** Columns without the padding, in rows of `width`. */
  columns: number;
  width: number;
  temperature: number;
}

/** e^d − 1 − d, accurate to float64 near 0 too. */
function excess(d: number): number {
  return Math.abs(d) < 1e-4 ? d * d * (1 / 2 + d * (1 / 6 + d / 24)) : Math.expm1(d) - d;
}

export function klTerms(
  bindings: {
    logitsP: NumberArray;
    logitsQ: NumberArray;
    rowOf: NumberArray;
    logSumExpP: NumberArray;
    logSumExpQ: NumberArray;
    sums: NumberArray;
  },
  params: Omit<Columns, "rows"> &
    PickRowParams & { picks: number; blockColumns: number; firstBlock: number; blocks: number },
): void {
  const { picks, columns, width, blockColumns, firstBlock, blocks, temperature } = params;
  const { logitsP, logitsQ, rowOf, logSumExpP, logSumExpQ, sums } = bindings;
  for (let row = 0; row < picks; row++) {
    const rowP = rowOfPick(rowOf, row, params);
    if (rowP === null) continue;
    for (let block = 0; block * blockColumns < columns; block++) {
      let sum = 0;
      for (let column = block * blockColumns; column < Math.min((block + 1) * blockColumns, columns); column++) {
        const logP = logitsP[rowP * width + column] / temperature - logSumExpP[rowP];
        const logQ = logitsQ[row * width + column] / temperature - logSumExpQ[row];
        // e^d may overflow if p has underflowed; then p·e^d is q.
        sum +=
          logQ - logP < 1 ? Math.exp(logP) * excess(logQ - logP) : Math.exp(logQ) - Math.exp(logP) * (1 + logQ - logP);
      }
      sums[row * blocks + firstBlock + block] = sum;
    }
  }
}

export function klTotal(
  { sums, kl }: { sums: NumberArray; kl: NumberArray },
  { rows, blocks }: { rows: number; blocks: number },
): void {
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let block = 0; block < blocks; block++) sum += sums[row * blocks + block];
    kl[row] = sum;
  }
}

export function klBackward(
  bindings: {
    logitsP: NumberArray;
    logitsQ: NumberArray;
    logSumExpP: NumberArray;
    logSumExpQ: NumberArray;
    dKl: NumberArray;
  },
  { rows, columns, width, temperature }: Columns,
): void {
  const { logitsP, logitsQ, logSumExpP, logSumExpQ, dKl } = bindings;
  for (let row = 0; row < rows; row++)
    for (let at = row * width; at < row * width + columns; at++) {
      const p = Math.exp(logitsP[at] / temperature - logSumExpP[row]);
      const q = Math.exp(logitsQ[at] / temperature - logSumExpQ[row]);
      logitsQ[at] = ((q - p) * dKl[row]) / temperature;
    }
}
