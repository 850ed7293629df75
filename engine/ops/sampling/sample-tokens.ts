// The head for generation: one pass over the logits' chunks draws a token per row, or several from one row, and scores it,
// with the kernels that `head` scores with. With a penalty or cuts (warp.ts) the logits of a row are kept whole, both unchanged and warped:
// the token is drawn from the warped ones and scored with the unchanged ones.
import { expectRank, expectShape } from "../../op.ts";
import { type BatchRows, type Parameter, shapeOfParameter } from "../../parameters.ts";
import { scope } from "../../scope.ts";
import type { Tensor } from "../../tensor.ts";
import {
  type ChunkSettings,
  emptyScores,
  expectTemperature,
  type PickRows,
  pickLogits,
  scorePicked,
} from "../head/logits.ts";
import { type LogitsReader, readLogits } from "../head/read-logits.ts";
import { emptySamples, type Samples, sampleChunk } from "./sampling.ts";
import { expectWarping, type Warping, warpLogits, warps } from "./warp.ts";

export interface TokenSampling extends ChunkSettings {
  /** [P, 4] u32, the noise counter of each draw: {position | turn << 24, rollout, word of the prompt, 0}. */
  counters: Tensor;
  /** [P] u32: the row of hidden that each draw is from. Default: P = R, one draw from each row. */
  rowOf?: Tensor | null;
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
  /** [P] u32; 0xffffffff if no token can be drawn, with a log-probability that is not finite. */
  readonly ids: Tensor;
  /**
   * [P], at the sampling temperature, or at 1 when greedy, before any warping: bit for bit what `head` returns for
   * these ids.
   */
  readonly logProbs: Tensor;
  /** [P], nats, likewise. */
  readonly entropy: Tensor;
}

/**
 * Draws P tokens by Gumbel-max: id = argmax_v z_v − ln E_v,  z = hidden·weightᵀ / τ of the draw's row,  E_v from the draw's
 * counter (sampling.ts). With `warping`, z is warped before the noise (warp.ts). Forward only.
 * @param hidden  [R, C] f32, the states before the tokens to be drawn
 * @param weight  [V, C]
 * @param rows    which grid point each row belongs to; null with a plain weight
 * @throws ShapeError when weight is not [V, C] or counters not [P, 4]
 */
export function sampleTokens(
  hidden: Tensor,
  weight: Parameter,
  rows: BatchRows,
  settings: TokenSampling,
): SampledTokens {
  return scope(() => {
    const sampler = tokenSampler(hidden, weight, settings);
    const [[ids, logProbs, entropy]] = readLogits(hidden, weight, rows, [sampler], settings);
    return { ids, logProbs, entropy };
  });
}

/**
 * `sampleTokens` for logits that others read too (read-logits.ts).
 * @returns its results are ids, logProbs and entropy
 */
export function tokenSampler(hidden: Tensor, weight: Parameter, settings: TokenSampling): LogitsReader {
  const { counters, rowOf = null, key, temperature, into, warping } = settings;
  const draws = rowOf === null ? hidden.rows : rowOf.rows;
  const shape = shapeOfParameter(weight);
  expectRank("sampleTokens: hidden", hidden.shape, "R, C");
  expectShape("sampleTokens: weight", shape, [shape[0], hidden.shape[1]], "It is [V, C], with the C of hidden.");
  expectShape("sampleTokens: counters", counters.shape, [draws, 4], "Each draw has its own counter.");
  if (temperature !== 0) expectTemperature("sampleTokens (0 is greedy)", temperature);
  for (const [name, given] of Object.entries(into ?? {}))
    expectShape(`sampleTokens: into.${name}`, given.shape, [draws], "Each draw gets one number.");
  if (warping !== undefined) expectWarping("sampleTokens", warping);
  const samples = emptySamples(hidden, into?.ids, draws);
  const scores = emptyScores(hidden, into, draws);
  const scoredAt = temperature === 0 ? 1 : temperature;
  const isWarped = warping !== undefined && warps(warping, temperature);
  return {
    temperature: scoredAt,
    needsWholeRows: isWarped,
    read({ logits, rows: { start, count }, columns }) {
      const rowsOf = (tensor: Tensor): Tensor => tensor.sliceRows(start, count);
      // With a table of rows, all draws go through each chunk: those from its rows are drawn.
      const picks: PickRows | null = rowOf && { rowOf, firstRow: start };
      const drawsOf = (tensor: Tensor): Tensor => (rowOf === null ? rowsOf(tensor) : tensor);
      const own: Samples = {
        score: drawsOf(samples.score),
        picked: drawsOf(samples.picked),
        id: drawsOf(samples.id),
      };
      if (!isWarped) return sampleChunk(logits, columns, drawsOf(counters), own, { key, temperature, picks });
      const seen = warping.seen === null ? null : rowsOf(warping.seen);
      const warped = warpLogits(logits, columns.count, temperature, seen, warping);
      // Logits that were already divided by the temperature are drawn from at temperature 1.
      sampleChunk(warped, columns, drawsOf(counters), own, { key, temperature: temperature === 0 ? 0 : 1, picks });
      pickLogits(logits, own.id, own.picked, columns, scoredAt, picks);
    },
    end(sums) {
      scorePicked(sums, samples.picked, scores, rowOf && { rowOf });
      return [samples.id, scores.logProbs, scores.entropy];
    },
  };
}
