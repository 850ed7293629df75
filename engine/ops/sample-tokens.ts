// The head as generation uses it: one pass over the logits' chunks draws a token for each row and scores it, with the kernels
// that `head` scores by.
import { expectRank, expectShape } from "../op.ts";
import type { BatchRows, Parameter } from "../parameters.ts";
import { scope } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import {
  type ChunkSettings,
  emptyScores,
  emptySums,
  forEachLogitsChunk,
  scorePicked,
  sumLogits,
  vocabularyOf,
} from "./logits.ts";
import { emptySamples, sampleChunk } from "./sampling.ts";

export interface TokenSampling extends ChunkSettings {
  /** [R, 4] u32, the noise counter of each row: {position | turn << 24, rollout, word of the prompt, 0}. */
  counters: Tensor;
  /** Philox key of the noise. */
  key: readonly [number, number];
  /** 0: greedy, the largest logit. */
  temperature: number;
}

export interface SampledTokens {
  /** [R] u32; 0xffffffff where no logit was a number, with a log-probability that is not finite. */
  readonly ids: Tensor;
  /** [R], at the sampling temperature, or at 1 when greedy: what `head` gives for these ids, bit for bit. */
  readonly logProbs: Tensor;
  /** [R], nats, likewise. */
  readonly entropy: Tensor;
}

/**
 * Draws a token for each row by Gumbel-max: id = argmax_v z_v − ln E_v,  z = hidden·weightᵀ / τ,  E_v of the row's own counter
 * (sampling.ts). Forward only.
 * @param hidden  [R, C] f32, the states before the tokens to be drawn
 * @param weight  [V, C]
 * @param rows    which grid point each row belongs to; null with a plain weight
 * @throws ShapeError when weight is not [V, C] or counters not [R, 4]
 */
export function sampleTokens(
  hidden: Tensor,
  weight: Parameter,
  rows: BatchRows,
  settings: TokenSampling,
): SampledTokens {
  const { counters, key, temperature } = settings;
  const shape = weight.kind === "tensor" ? weight.tensor.shape : weight.shape;
  expectRank("sampleTokens: hidden", hidden.shape, "R, C");
  expectShape("sampleTokens: weight", shape, [shape[0], hidden.shape[1]], "It is [V, C], with the C of hidden.");
  expectShape(
    "sampleTokens: counters",
    counters.shape,
    [hidden.rows, 4],
    "Each row of hidden has a counter of its own.",
  );
  if (!(temperature >= 0 && temperature < Number.POSITIVE_INFINITY))
    throw new Error(`sampleTokens: temperature: expected a number from 0 (greedy) on, got ${temperature}.`);
  return scope(() => {
    const samples = emptySamples(hidden);
    const scores = emptyScores(hidden);
    const scoredAt = temperature === 0 ? 1 : temperature;
    const sums = emptySums(hidden, hidden.rows, vocabularyOf(weight));
    forEachLogitsChunk(
      hidden,
      weight,
      rows,
      ({ logits, rows: { start, count }, columns }) => {
        const slice = (tensor: Tensor): Tensor => tensor.sliceRows(start, count);
        const own = { score: slice(samples.score), picked: slice(samples.picked), id: slice(samples.id) };
        sampleChunk(logits, columns, slice(counters), own, { key, temperature });
        sumLogits(logits, slice(sums), columns, scoredAt);
      },
      settings,
    );
    scorePicked(sums, samples.picked, scores);
    return { ids: samples.id, logProbs: scores.logProbs, entropy: scores.entropy };
  });
}
