import type { NumberArray } from "../../dtype.ts";
import { gumbel, philox } from "../../random.ts";

interface SampleParams {
  rows: number;
  stride: number;
  columns: number;
  columnStart: number;
  isFirst: number;
  temperature: number;
  key0: number;
  key1: number;
  hasWords: number;
  wordsStride: number;
  absent: number;
}

export function sample(
  bindings: {
    logits: NumberArray;
    counters: NumberArray;
    words: NumberArray;
    score: NumberArray;
    picked: NumberArray;
    id: NumberArray;
  },
  params: SampleParams,
): void {
  const { logits, counters, words, score, picked, id } = bindings;
  // Scores are compared as they are stored, so that ties remain ties and chunks change nothing.
  const stored = score instanceof Float32Array ? Math.fround : (value: number): number => value;
  const { rows, stride, columns, columnStart, isFirst, temperature, key0, key1 } = params;
  for (let row = 0; row < rows; row++) {
    if (isFirst) {
      score[row] = Number.NEGATIVE_INFINITY;
      picked[row] = params.absent;
      id[row] = 0xffffffff;
    }
    const [positionAndTurn, rollout, prompt] = counters.subarray(4 * row, 4 * row + 3);
    let four: readonly number[] = [];
    const wordOf = (v: number): number => {
      if (params.hasWords) return words[row * params.wordsStride + v];
      if (four.length === 0 || v % 4 === 0) four = philox([v >>> 2, positionAndTurn, rollout, prompt], [key0, key1]);
      return four[v % 4];
    };
    for (let column = 0; column < columns; column++) {
      const v = columnStart + column;
      const logit = logits[row * stride + column];
      if (Number.isNaN(logit) || logit === Number.POSITIVE_INFINITY) {
        // No score is larger: the row has no sample, whatever follows.
        score[row] = Number.POSITIVE_INFINITY;
        picked[row] = params.absent;
        id[row] = 0xffffffff;
        break;
      }
      const scaled = temperature > 0 ? logit / temperature : logit;
      const candidate = stored(temperature > 0 ? scaled + gumbel(wordOf(v)) : scaled);
      if (candidate > score[row]) {
        score[row] = candidate;
        picked[row] = scaled;
        id[row] = v;
      }
    }
  }
}
