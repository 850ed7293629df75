// The head for generation: one pass over the logits' chunks draws a token per row and scores it, with the kernels that
// `head` scores with. With a penalty or cuts (warp.ts) the logits of a row are kept whole, both unchanged and warped:
// the token is drawn from the warped ones and scored with the unchanged ones.
import { noGradient } from "../../autograd.ts";
import { expectRank, expectShape } from "../../op.ts";
import { type BatchRows, type Parameter, shapeOfParameter } from "../../parameters.ts";
import { scope } from "../../scope.ts";
import type { Tensor } from "../../tensor.ts";
import {
  blockColumns,
  type ChunkSettings,
  emptyScores,
  emptySums,
  expectTemperature,
  forEachLogitsChunk,
  pickLogits,
  scorePicked,
  sumLogits,
  vocabularyOf,
} from "../head/logits.ts";
import { emptySamples, type Samples, sampleChunk } from "./sampling.ts";
import { expectWarping, type Warping, warpLogits, warps } from "./warp.ts";

export interface TokenSampling extends ChunkSettings {
  /** [R, 4] u32, the noise counter of each row: {position | turn << 24, rollout, word of the prompt, 0}. */
  counters: Tensor;
  /** Philox key of the noise. */
  key: readonly [number, number];
  /** 0: greedy, the largest logit. Above 0 at least `lowestTemperature`. */
  temperature: number;
  /**
   * Penalty and cuts, with the ids of each row's text so far, [R, seenWords(V)] u32 (null: no penalty). Default: none.
   */
  warping?: Warping & { readonly seen: Tensor | null };
  /** Tensors that receive the results, each in a buffer of its own. Default: new ones. */
  into?: SampledTokens;
}

/** What `sampleTokens` gives, or is given to write. */
export interface SampledTokens {
  /** [R] u32; 0xffffffff if no token can be drawn, with a log-probability that is not finite. */
  readonly ids: Tensor;
  /**
   * [R], at the sampling temperature, or at 1 when greedy, before any warping: bit for bit what `head` returns for
   * these ids.
   */
  readonly logProbs: Tensor;
  /** [R], nats, likewise. */
  readonly entropy: Tensor;
}

/**
 * Draws a token per row by Gumbel-max: id = argmax_v z_v − ln E_v,  z = hidden·weightᵀ / τ,  E_v from the row's counter
 * (sampling.ts). With `warping`, z is warped before the noise (warp.ts). Forward only.
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
  const { counters, key, temperature, into } = settings;
  const shape = shapeOfParameter(weight);
  expectRank("sampleTokens: hidden", hidden.shape, "R, C");
  expectShape("sampleTokens: weight", shape, [shape[0], hidden.shape[1]], "It is [V, C], with the C of hidden.");
  expectShape("sampleTokens: counters", counters.shape, [hidden.rows, 4], "Each row of hidden has its own counter.");
  if (temperature !== 0) expectTemperature("sampleTokens (0 is greedy)", temperature);
  for (const [name, given] of Object.entries(into ?? {}))
    expectShape(`sampleTokens: into.${name}`, given.shape, [hidden.rows], "Each row of hidden gets one number.");
  const { warping } = settings;
  if (warping !== undefined) expectWarping("sampleTokens", warping);
  const draw = (): SampledTokens => {
    const samples = emptySamples(hidden, into?.ids);
    const scores = emptyScores(hidden, into);
    const scoredAt = temperature === 0 ? 1 : temperature;
    const vocabulary = vocabularyOf(weight);
    const sums = emptySums(hidden, hidden.rows, vocabulary);
    const isWarped = warping !== undefined && warps(warping, temperature);
    const wholeRows = { ...settings, columnChunk: blockColumns * Math.ceil(vocabulary / blockColumns) };
    forEachLogitsChunk(
      hidden,
      weight,
      rows,
      ({ logits, rows: { start, count }, columns }) => {
        const slice = (tensor: Tensor): Tensor => tensor.sliceRows(start, count);
        const own: Samples = { score: slice(samples.score), picked: slice(samples.picked), id: slice(samples.id) };
        sumLogits(logits, slice(sums), columns, scoredAt);
        if (!isWarped) return sampleChunk(logits, columns, slice(counters), own, { key, temperature });
        const seen = warping.seen === null ? null : slice(warping.seen);
        const warped = warpLogits(logits, columns.count, temperature, seen, warping);
        // Logits that were already divided by the temperature are drawn from at temperature 1.
        sampleChunk(warped, columns, slice(counters), own, { key, temperature: temperature === 0 ? 0 : 1 });
        pickLogits(logits, own.id, own.picked, columns, scoredAt);
      },
      isWarped ? wholeRows : settings,
    );
    scorePicked(sums, samples.picked, scores);
    return { ids: samples.id, logProbs: scores.logProbs, entropy: scores.entropy };
  };
  return noGradient(() => scope(draw));
}
