import type { NumberArray } from "../../dtype.ts";

export function headBackward(
  bindings: {
    logits: NumberArray;
    targets: NumberArray;
    logSumExp: NumberArray;
    entropy: NumberArray;
    dLogProbs: NumberArray;
    dEntropy: NumberArray;
  },
  params: { rows: number; columns: number; width: number; firstColumn: number; temperature: number },
): void {
  const { rows, columns, width, firstColumn, temperature } = params;
  const { logits, targets, logSumExp, entropy, dLogProbs, dEntropy } = bindings;
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const at = row * width + column;
      const logP = logits[at] / temperature - logSumExp[row];
      const p = Math.exp(logP);
      const isTarget = targets[row] === firstColumn + column ? 1 : 0;
      const fromEntropy = p === 0 ? 0 : p * (logP + entropy[row]);
      logits[at] = ((isTarget - p) * dLogProbs[row] - fromEntropy * dEntropy[row]) / temperature;
    }
}
