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

export function pickLogits(
  { logits, targets, picked }: { logits: NumberArray; targets: NumberArray; picked: NumberArray },
  params: { rows: number; columns: number; width: number; firstColumn: number; temperature: number; absent: number },
): void {
  const { rows, columns, width, firstColumn, temperature, absent } = params;
  for (let row = 0; row < rows; row++) {
    const column = targets[row] - firstColumn;
    if (column >= 0 && column < columns) picked[row] = logits[row * width + column] / temperature;
    else if (firstColumn === 0) picked[row] = absent;
  }
}

export function logitScores(
  bindings: {
    sums: NumberArray;
    picked: NumberArray;
    logProbs: NumberArray;
    entropy: NumberArray;
    logSumExp: NumberArray;
  },
  { rows, blocks }: { rows: number; blocks: number },
): void {
  const { sums, picked, logProbs, entropy, logSumExp } = bindings;
  for (let row = 0; row < rows; row++) {
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
    logProbs[row] = picked[row] - largest - Math.log(sum);
    entropy[row] = Math.log(sum) - weighted / sum;
    logSumExp[row] = largest + Math.log(sum);
  }
}
