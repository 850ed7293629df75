import type { NumberArray } from "../../dtype.ts";

interface ColumnBlocks {
  rows: number;
  /** Columns without the padding, in rows of `width`. */
  columns: number;
  width: number;
  blockColumns: number;
}

export function logitSums(
  { logits, sums }: { logits: NumberArray; sums: NumberArray },
  params: ColumnBlocks & { firstBlock: number; blocks: number; temperature: number },
): void {
  const { rows, columns, width, blockColumns, firstBlock, blocks, temperature } = params;
  for (let row = 0; row < rows; row++)
    for (let block = 0; block * blockColumns < columns; block++) {
      const from = row * width + block * blockColumns;
      const count = Math.min(blockColumns, columns - block * blockColumns);
      const z = Array.from(logits.subarray(from, from + count), (logit) => logit / temperature);
      const largest = Math.max(...z);
      let sum = 0;
      let weighted = 0;
      for (const value of z) {
        const term = Math.exp(value - largest);
        sum += term;
        if (term !== 0) weighted += (value - largest) * term;
      }
      sums.set([largest, sum, weighted], 3 * (row * blocks + firstBlock + block));
    }
}

/** Params of a kernel whose picks may share rows (`PickRows`). */
export interface PickRowParams {
  picksStart: number;
  source: number;
  sourceStart: number;
  hasRows: number;
  firstRow: number;
}

/** The row of a pick within this cell; null if another cell has it. */
export function rowOfPick(rowOf: NumberArray, pick: number, params: PickRowParams): number | null {
  const { picksStart, source, sourceStart, hasRows, firstRow } = params;
  const row = (hasRows ? rowOf[pick] - firstRow : picksStart + pick) - sourceStart;
  return row >= 0 && row < source ? row : null;
}

export function pickLogits(
  { logits, rowOf, targets, picked }: Record<"logits" | "rowOf" | "targets" | "picked", NumberArray>,
  params: PickRowParams & {
    picks: number;
    columns: number;
    width: number;
    firstColumn: number;
    temperature: number;
    absent: number;
  },
): void {
  const { picks, columns, width, firstColumn, temperature, absent } = params;
  for (let pick = 0; pick < picks; pick++) {
    const row = rowOfPick(rowOf, pick, params);
    if (row === null) continue;
    const column = targets[pick] - firstColumn;
    if (column >= 0 && column < columns) picked[pick] = logits[row * width + column] / temperature;
    else if (firstColumn === 0) picked[pick] = absent;
  }
}

export function logitScores(
  bindings: {
    sums: NumberArray;
    rowOf: NumberArray;
    picked: NumberArray;
    logProbs: NumberArray;
    entropy: NumberArray;
    logSumExp: NumberArray;
  },
  params: PickRowParams & { picks: number; blocks: number },
): void {
  const { sums, rowOf, picked, logProbs, entropy, logSumExp } = bindings;
  const { picks, blocks } = params;
  for (let pick = 0; pick < picks; pick++) {
    const row = rowOfPick(rowOf, pick, params);
    if (row === null) continue;
    const own = sums.subarray(3 * row * blocks, 3 * (row + 1) * blocks);
    let largest = Number.NEGATIVE_INFINITY;
    for (let block = 0; block < blocks; block++) largest = Math.max(largest, own[3 * block]);
    let sum = 0;
    let weighted = 0;
    for (let block = 0; block < blocks; block++) {
      const shift = own[3 * block] - largest;
      sum += Math.exp(shift) * own[3 * block + 1];
      weighted += Math.exp(shift) * (own[3 * block + 2] + shift * own[3 * block + 1]);
    }
    logProbs[pick] = picked[pick] - largest - Math.log(sum);
    entropy[pick] = Math.log(sum) - weighted / sum;
    logSumExp[pick] = largest + Math.log(sum);
  }
}
