// Attention of packed tokens over keys that lie in slots. There is no mask: each token names the keys that it sees as
// two runs of slots (a prefix that may be shared, and its own sequence). So one kernel serves training, scoring,
// prefill and decoding. The T × S weights are never stored; the backward pass computes them again from logSumExp.
//
// Keys are processed one by one in order. The reference of the softmax moves only when necessary (attention.wgsl), so
// results depend on a token's own numbers alone: not on batch, slots, or the cuts of the storage, as long as the cuts
// keep the order. (A prefix in a later segment than the tokens after it is summed after them: that is right, but the
// bits differ.)
import { shouldRecord } from "../../autograd.ts";
import { ShapeError } from "../../errors.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import type { OperandPrecision } from "../../parameters.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { copyElements, empty, type Tensor } from "../../tensor.ts";
import { chooseHalfForward, chooseKernels, type Heads, statisticsKernel } from "./kernels.ts";
import {
  attentionFormOf,
  matrixKernel,
  matrixKeyKernel,
  matrixQueryKernel,
  matrixStatisticsKernel,
} from "./matrix-attention.ts";

const largestHead = 128;

export interface AttentionSettings {
  /** Factor of the scores; usually D^−½. */
  scale: number;
  /**
   * f16: on adapters with matrix units both passes read q, keys, values and dy rounded to f16, and round what multiplies
   * them: the softmax's weights and the gradients of scores. Sums, the softmax, y and logSumExp stay f32. On other
   * adapters it changes nothing. Default f32.
   */
  operands?: "f32" | "f16";
  /**
   * How many sequences the tokens belong to, if they read a cache: with many tokens each, those of a sequence are processed
   * together. It changes no bit. Default: each token is of another sequence.
   */
  sequences?: number;
}

/** The op below `attention`. It saves logSumExp [T, H], natural, of the scaled scores. */
export const attentionOp = defineOp<
  "q" | "keys" | "values" | "spans" | "querySpans",
  "y",
  "logSumExp",
  AttentionSettings
>({
  name: "attention",
  optional: ["querySpans"],
  constants: ["spans", "querySpans"],
  saved: ["logSumExp"],
  shapes: ({ q, keys, values, spans, querySpans }) => {
    expectRank("attention: q", q, "T, H, D");
    expectRank("attention: keys", keys, "S, K, D");
    const [T, H, D] = q;
    const [S, K] = keys;
    expectShape("attention: keys", keys, [S, K, D], "Heads of keys have the size of heads of q.");
    expectShape("attention: values", values, keys, "Each key has one value of its size.");
    expectShape("attention: spans", spans, [T, 4], "Each token says which keys it sees.");
    if (querySpans !== undefined)
      expectShape("attention: querySpans", querySpans, [S, 2], "Each key says which tokens see it.");
    if (D % 2 !== 0 || D < 2 || D > largestHead)
      throw new ShapeError(`attention: expected heads of an even size up to ${largestHead}, got ${D}.`);
    if (H % K !== 0) throw new ShapeError(`attention: expected key heads that divide the ${H} query heads, got ${K}.`);
    return { y: q, logSumExp: [T, H] };
  },
  forward: (run, given, { y, logSumExp }, { scale, operands, sequences }) =>
    scope(() => {
      const { querySpans } = given;
      const [q, keys, values, spans] = [given.q, given.keys, given.values, given.spans].map(inFours);
      const sums = empty(q.backend, logSumExp.shape, q.dtype, "attention.sums");
      const heads = paramsOf(q, keys);
      if (keys.dtype !== values.dtype)
        throw new ShapeError(`attention: expected keys and values of one type, got ${keys.dtype} and ${values.dtype}.`);
      const isCached = querySpans === undefined;
      const isStoredInHalf = keys.dtype === "f16";
      const form = operands === "f16" && !isStoredInHalf ? attentionFormOf(q.backend, heads, isCached) : null;
      const choose = isStoredInHalf ? chooseHalfForward : chooseKernels;
      const { forward, forTokens } = choose(q.backend.style, heads, isCached ? tokensEach(q, sequences) : null);
      const constants = { ...(form ?? forTokens), CONTINUES: isCut(keys) || isCut(values) };
      const bound = { q, keys, values, spans, y, logSumExp, sums };
      run(form === null ? forward : matrixKernel, bound, { ...heads, scale }, { constants });
    }),
  // With P = exp(scale·QKᵀ − logSumExp) and Δ = Σ_d dy·y:
  // dV = Pᵀ·dY,   dS = P ∘ (dY·Vᵀ − Δ),   dQ = scale · dS·K,   dK = scale · dSᵀ·Q
  vjp: (run, saved, upstream, d, { scale, operands }) =>
    scope(() => {
      const { y, logSumExp } = saved;
      const [q, keys, values, spans, dy] = [saved.q, saved.keys, saved.values, saved.spans, upstream.y].map(inFours);
      const querySpans = saved.querySpans && inFours(saved.querySpans);
      for (const target of [d.q, d.keys, d.values])
        if (target && !isInFours(target.tensor))
          throw new ShapeError(
            "attention: expected a gradient that begins at a multiple of four elements of its buffer.",
          );
      if (keys.dtype === "f16") throw new Error("attention: keys and values in f16 have no gradient.");
      const heads = paramsOf(q, keys);
      const params = { ...heads, scale };
      const { query, key, forQuery, forKeys, forStatistics } = chooseKernels(q.backend.style, heads, null);
      const form = operands === "f16" ? attentionFormOf(q.backend, heads, false, "backward") : null;
      const statistics = empty(q.backend, [...logSumExp.shape, 2], q.dtype, "attention.statistics");
      const statisticsOf = form === null ? statisticsKernel : matrixStatisticsKernel;
      run(statisticsOf, { y, dy, logSumExp, statistics }, heads, { constants: forStatistics });
      const given = { q, keys, values, dy, statistics };
      if (d.q) {
        const constants = { ...(form ?? forQuery), CONTINUES: d.q.add || isCut(keys) || isCut(values) };
        run(form === null ? query : matrixQueryKernel, { ...given, spans, dq: d.q }, params, { constants });
      }
      if (d.keys || d.values) {
        if (querySpans === undefined)
          throw new ShapeError("attention: gradients of keys and values need querySpans, got none.");
        const unwanted = () => ({ tensor: empty(q.backend, keys.shape, q.dtype, "attention.unwanted"), add: false });
        const [dKeys, dValues] = [d.keys ?? unwanted(), d.values ?? unwanted()];
        const isTokensCut = [q, dy, statistics].some(isCut);
        const constants = { ...(form ?? forKeys), CONTINUES: dKeys.add || dValues.add || isTokensCut };
        run(form === null ? key : matrixKeyKernel, { ...given, querySpans, dKeys, dValues }, params, { constants });
      }
    }),
});

/**
 * Grouped-query attention: y[t, h] = Σ_j p_j · values[slot_j, g],  p_j = exp(scale · q[t, h]·keys[slot_j, g] − logSumExp[t, h]),
 * with g = ⌊h / (H/K)⌋. Token t sees its keys 0 ≤ j < length; slot_j = prefixStart + j for j < prefixLength, else
 * ownStart + j − prefixLength. A token that sees none has y = 0 and logSumExp = −∞.
 * @param q           [T, H, D] f32, D even and at most 128
 * @param keys        [S, K, D] f32 or f16, K divides H; f16 is forward only
 * @param values      [S, K, D], of the type of keys
 * @param spans       [T, 4] u32: {prefixStart, prefixLength, ownStart, length}; slots below S
 * @param querySpans  [S, 2] u32: {first, count} of the tokens that see each key, which must be neighbours; null if no
 *                    gradient of keys or values is wanted
 * @param settings    scale: D^−½ unless it is given; operands: f32 unless it is given; sequences: to which the tokens belong, if
 *                    querySpans is null, by default T, which changes no bit; output: f16 for a y that is rounded
 *                    to f16, for products alone, without gradient, if keys and values are f16, no buffer's limit cuts them,
 *                    and D is a multiple of four. Default: f32
 * @returns           [T, H, D] f32 or f16
 * @throws ShapeError when shapes do not match, D is odd or above 128, or a gradient needs querySpans and has none
 * Source: Dao et al. 2022 (FlashAttention), with the reference of the softmax moved lazily; Ainslie et al. 2023
 * (grouped queries).
 */
export function attention(
  q: Tensor,
  keys: Tensor,
  values: Tensor,
  spans: Tensor,
  querySpans: Tensor | null,
  settings: Partial<AttentionSettings> & { readonly output?: OperandPrecision } = {},
): Tensor {
  const { scale = q.shape[q.shape.length - 1] ** -0.5, operands = "f32", sequences, output = "f32" } = settings;
  const half = output === "f16" ? attendToHalf({ q, keys, values, spans }, scale, querySpans, sequences) : null;
  return half ?? attentionOp({ q, keys, values, spans, querySpans }, { scale, operands, sequences }).y;
}

/** y in f16; null, and nothing is done, if that needs another kernel's sums: see `output`. */
function attendToHalf(
  given: Record<"q" | "keys" | "values" | "spans", Tensor>,
  scale: number,
  querySpans: Tensor | null,
  sequences: number | undefined,
): Tensor | null {
  const { q, keys, values, spans } = given;
  if (keys.dtype !== "f16" || isCut(keys) || isCut(values) || shouldRecord([q])) return null;
  const shapes = { q: q.shape, keys: keys.shape, values: values.shape, spans: spans.shape };
  attentionOp.definition.shapes(
    { ...shapes, querySpans: querySpans?.shape ?? [keys.rows, 2] },
    { scale, operands: "f32" },
  );
  const heads = paramsOf(q, keys);
  const { toHalf, forTokens } = chooseHalfForward(
    q.backend.style,
    heads,
    querySpans === null ? tokensEach(q, sequences) : null,
  );
  if (toHalf === null) return null;
  const y = empty(q.backend, q.shape, "f16", "attention.y");
  scope(() => {
    const [logSumExp, sums] = ["logSumExp", "sums"].map((name) =>
      empty(q.backend, q.shape.slice(0, 2), q.dtype, `attention.${name}`),
    );
    const constants = { ...forTokens, CONTINUES: false };
    run(
      toHalf,
      { q: inFours(q), keys, values, spans: inFours(spans), y, logSumExp, sums },
      { ...heads, scale },
      { constants },
    );
  });
  return y;
}

/** Of each sequence, on average. */
const tokensEach = (q: Tensor, sequences = q.rows): number => q.rows / Math.max(sequences, 1);

function paramsOf(q: Tensor, keys: Tensor): Heads {
  return { heads: q.shape[1], keyHeads: keys.shape[1], headSize: q.shape[2] };
}

/**
 * The tensor if it begins at a multiple of four elements, as kernels read it in fours; else a copy that does. Only a view of a
 * tensor of single numbers can begin elsewhere.
 */
function inFours(tensor: Tensor): Tensor {
  const { backend, shape, dtype } = tensor;
  if (dtype === "f16" || isInFours(tensor)) return tensor;
  const copy = empty(backend, shape, dtype, "attention.copy");
  copyElements(tensor, copy);
  return copy;
}

function isInFours({ segments }: Tensor): boolean {
  return segments.every(({ base }) => base % 4 === 0);
}

function isCut(tensor: Tensor): boolean {
  return tensor.segments.length > 1;
}

/**
 * Spans and query spans of sequences that are packed one after another and attend causally within themselves. The first
 * `cachedLengths[i]` keys of sequence i have no query in the batch (they precede its own keys).
 * @param lengths  queries of each sequence
 * @returns spans [T, 4] and querySpans [S, 2], with T = Σ lengths and S = Σ (cached length + length)
 */
export function causalSpans(
  lengths: readonly number[],
  cachedLengths: readonly number[] = lengths.map(() => 0),
): { spans: Uint32Array; querySpans: Uint32Array } {
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const spans = new Uint32Array(4 * tokens);
  const querySpans = new Uint32Array(2 * cachedLengths.reduce((sum, cached) => sum + cached, tokens));
  let token = 0;
  let place = 0;
  lengths.forEach((length, i) => {
    const cached = cachedLengths[i];
    const firstToken = token;
    const firstKey = place;
    for (let position = 0; position < length; position++, token++) {
      spans[4 * token + 2] = firstKey;
      spans[4 * token + 3] = cached + position + 1;
    }
    for (let key = 0; key < cached + length; key++, place++) {
      const unseen = Math.max(0, key - cached);
      querySpans[2 * place] = firstToken + unseen;
      querySpans[2 * place + 1] = length - unseen;
    }
  });
  return { spans, querySpans };
}
