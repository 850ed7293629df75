import type { NumberArray } from "../../dtype.ts";
import { gumbel, philox } from "../../random.ts";
import { type PickRowParams, rowOfPick } from "../head/logits.cpu.ts";

interface SampleParams extends PickRowParams {
  picks: number;
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
    rowOf: NumberArray;
    counters: NumberArray;
    words: NumberArray;
    score: NumberArray;
    picked: NumberArray;
    id: NumberArray;
  },
  params: SampleParams,
): void {
  const { logits, rowOf, counters, words, score, picked, id } = bindings;
  // Scores are compared as they are stored, so that ties remain ties and chunks change nothing.
  const stored = score instanceof Float32Array ? Math.fround : (value: number): number => value;
  const { picks, stride, columns, columnStart, isFirst, temperature, key0, key1 } = params;
  for (let pick = 0; pick < picks; pick++) {
    const row = rowOfPick(rowOf, pick, params);
    if (row === null) continue;
    if (isFirst) {
      score[pick] = Number.NEGATIVE_INFINITY;
      picked[pick] = params.absent;
      id[pick] = 0xffffffff;
    }
    const [positionAndTurn, rollout, prompt] = counters.subarray(4 * pick, 4 * pick + 3);
    let four: readonly number[] = [];
    const wordOf = (v: number): number => {
      if (params.hasWords) return words[pick * params.wordsStride + v];
      if (four.length === 0 || v % 4 === 0) four = philox([v >>> 2, positionAndTurn, rollout, prompt], [key0, key1]);
      return four[v % 4];
    };
    for (let column = 0; column < columns; column++) {
      const v = columnStart + column;
      const logit = logits[row * stride + column];
      if (Number.isNaN(logit) || logit === Number.POSITIVE_INFINITY) {
        // No score is larger: there is no sample, whatever follows.
        score[pick] = Number.POSITIVE_INFINITY;
        picked[pick] = params.absent;
        id[pick] = 0xffffffff;
        break;
      }
      const scaled = temperature > 0 ? logit / temperature : logit;
      const candidate = stored(temperature > 0 ? scaled + gumbel(wordOf(v)) : scaled);
      if (candidate > score[pick]) {
        score[pick] = candidate;
        picked[pick] = scaled;
        id[pick] = v;
      }
    }
  }
}
