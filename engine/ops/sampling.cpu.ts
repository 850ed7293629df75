import type { NumberArray } from "../dtype.ts";
import { gumbel, philox } from "../random.ts";

export function sample(
  {
    logits,
    counters,
    score: best,
    picked,
    id,
  }: { logits: NumberArray; counters: NumberArray; score: NumberArray; picked: NumberArray; id: NumberArray },
  {
    rows,
    stride,
    columns,
    columnStart,
    isFirst,
    temperature,
    key0,
    key1,
  }: {
    rows: number;
    stride: number;
    columns: number;
    columnStart: number;
    isFirst: number;
    temperature: number;
    key0: number;
    key1: number;
  },
): void {
  for (let row = 0; row < rows; row++) {
    if (isFirst) {
      best[row] = Number.NEGATIVE_INFINITY;
      picked[row] = Number.NEGATIVE_INFINITY;
      id[row] = 0xffffffff;
    }
    let words: readonly number[] = [];
    for (let column = 0; column < columns; column++) {
      const v = columnStart + column;
      const logit = logits[row * stride + column];
      let score = logit;
      if (temperature > 0) {
        if (words.length === 0 || v % 4 === 0) {
          const [positionTurn, rollout, prompt] = counters.subarray(4 * row, 4 * row + 3);
          words = philox([Math.floor(v / 4), positionTurn, rollout, prompt], [key0, key1]);
        }
        score = logit / temperature + gumbel(words[v % 4]);
      }
      if (score > best[row]) {
        best[row] = score;
        picked[row] = temperature > 0 ? logit / temperature : logit;
        id[row] = v;
      }
    }
  }
}
