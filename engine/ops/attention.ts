// Attention of packed tokens over keys that lie in slots. Nobody hands over a mask: each token says which keys it sees as
// two runs of slots (a prefix that may be shared, and its own), so that one kernel serves training, scoring, prefill and
// decode. The T × S weights never exist; the backward pass computes them again from logSumExp.
//
// Keys are taken one by one in order, by a softmax whose reference moves only when it must (attention.wgsl), so results
// depend on a token's own numbers alone: not on batch, slots, or where storage is cut, as long as the cuts keep the order
// (a prefix in a later segment than the tokens after it is summed after them: right, but not to the same bits).
import { ShapeError } from "../errors.ts";
import { type Constants, defineKernel } from "../kernel.ts";
import { defineOp, expectRank, expectShape } from "../op.ts";
import { scope } from "../scope.ts";
import { empty, type Tensor } from "../tensor.ts";
import * as cpu from "./attention.cpu.ts";

const workgroupSize = 64;
/**
 * Vectors of q that one invocation of a software adapter holds at most, where it takes several heads: compilers take
 * tens of seconds for more.
 */
const mostVectors = 16;
const largestHead = 128;

const headParams = { heads: "u32", keyHeads: "u32", headSize: "u32" } as const;
const vectorDefaults = { Vector: "vec4f", WIDTH: 4, VECTORS: 4 };
/** Other head sizes: 64, 128, 14. */
const vectorVariants: readonly Constants[] = [
  { VECTORS: 16 },
  { VECTORS: 32 },
  { Vector: "vec2f", WIDTH: 2, VECTORS: 7 },
];
const onceVariants: readonly Constants[] = [{ CONTINUES: false }, ...vectorVariants];
/** Other groups as well. */
const groupVariants: readonly Constants[] = [
  ...onceVariants.map((variant) => ({ ...variant, HEADS: 1 })),
  { VECTORS: 2, HEADS: 7 },
];

/** Workgroups of a kernel with an invocation for HEADS query heads of a token. */
const perQuery = ({ tokens, heads }: { tokens: number; heads: number }, { HEADS }: Constants): [number] => [
  Math.ceil((tokens * heads) / Number(HEADS ?? 1) / workgroupSize),
];

const attentionKernel = defineKernel({
  name: "attention",
  axes: { tokens: "map", slots: "reduce" },
  bindings: {
    q: { access: "read", axis: "tokens" },
    keys: { access: "read", axis: "slots" },
    values: { access: "read", axis: "slots" },
    spans: { access: "read", axis: "tokens" },
    y: { access: "update", axis: "tokens" },
    logSumExp: { access: "update", axis: "tokens" },
    sums: { access: "update", axis: "tokens" },
  },
  params: { ...headParams, scale: "f32" },
  cpu: cpu.attention,
  wgsl: new URL("./attention.wgsl", import.meta.url),
  uses: ["flat-workgroup", "key-range", "is-finite"],
  constants: { ...vectorDefaults, HEADS: 2, CONTINUES: true },
  variants: groupVariants,
  workgroups: perQuery,
});

const statisticsKernel = defineKernel({
  name: "attentionStatistics",
  axes: { tokens: "map" },
  bindings: {
    y: { access: "read", axis: "tokens" },
    dy: { access: "read", axis: "tokens" },
    logSumExp: { access: "read", axis: "tokens" },
    statistics: { access: "write", axis: "tokens" },
  },
  params: headParams,
  cpu: cpu.attentionStatistics,
  wgsl: new URL("./attention-statistics.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: vectorDefaults,
  variants: vectorVariants,
  workgroups: perQuery,
});

const queryKernel = defineKernel({
  name: "attentionBackwardQuery",
  axes: { tokens: "map", slots: "reduce" },
  bindings: {
    q: { access: "read", axis: "tokens" },
    keys: { access: "read", axis: "slots" },
    values: { access: "read", axis: "slots" },
    dy: { access: "read", axis: "tokens" },
    statistics: { access: "read", axis: "tokens" },
    spans: { access: "read", axis: "tokens" },
    dq: { access: "gradient", axis: "tokens" },
  },
  params: { ...headParams, scale: "f32" },
  cpu: cpu.attentionBackwardQuery,
  wgsl: new URL("./attention-backward-query.wgsl", import.meta.url),
  uses: ["flat-workgroup", "key-range"],
  constants: { ...vectorDefaults, HEADS: 2, CONTINUES: true },
  variants: groupVariants,
  workgroups: perQuery,
});

const keyKernel = defineKernel({
  name: "attentionBackwardKey",
  axes: { slots: "map", tokens: "reduce" },
  bindings: {
    q: { access: "read", axis: "tokens" },
    keys: { access: "read", axis: "slots" },
    values: { access: "read", axis: "slots" },
    dy: { access: "read", axis: "tokens" },
    statistics: { access: "read", axis: "tokens" },
    querySpans: { access: "read", axis: "slots" },
    dKeys: { access: "gradient", axis: "slots" },
    dValues: { access: "gradient", axis: "slots" },
  },
  params: { ...headParams, scale: "f32" },
  cpu: cpu.attentionBackwardKey,
  wgsl: new URL("./attention-backward-key.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: { ...vectorDefaults, CONTINUES: true },
  variants: onceVariants,
  workgroups: ({ slots, keyHeads }) => [Math.ceil((slots * keyHeads) / workgroupSize)],
});

export interface AttentionSettings {
  /** Factor of the scores; usually D^−½. */
  scale: number;
}

/**
 * Grouped-query attention: y[t, h] = Σ_j p_j · values[slot_j, g],  p_j = exp(scale · q[t, h]·keys[slot_j, g] − logSumExp[t, h]),
 * with g = ⌊h / (H/K)⌋. Token t sees its keys 0 ≤ j < length; slot_j = prefixStart + j for j < prefixLength, else
 * ownStart + j − prefixLength. A token that sees none has y = 0 and logSumExp = −∞.
 * @param q           [T, H, D] f32, D even and at most 128
 * @param keys        [S, K, D], K divides H
 * @param values      [S, K, D]
 * @param spans       [T, 4] u32: {prefixStart, prefixLength, ownStart, length}; slots below S
 * @param querySpans  [S, 2] u32: {first, count} of the tokens that see each key, which must be neighbours; null where no
 *                    gradient of keys or values is wanted
 * @returns           y [T, H, D]; logSumExp [T, H], natural, of the scaled scores, kept for the vjp
 * @throws ShapeError when shapes do not go together, D is odd or above 128, or a gradient needs querySpans and has none
 * Source: Dao et al. 2022 (FlashAttention), with the reference of the softmax moved lazily; Ainslie et al. 2023 (grouped queries).
 */
export const attention = defineOp<
  "q" | "keys" | "values" | "spans" | "querySpans",
  "y",
  "logSumExp",
  AttentionSettings
>({
  name: "attention",
  optional: ["querySpans"],
  constants: ["spans", "querySpans"],
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
  forward: (run, { q, keys, values, spans }, { y, logSumExp }, { scale }) =>
    scope(() => {
      const sums = empty(q.backend, logSumExp.shape, q.dtype, "attention.sums");
      const constants = { ...headConstants(q, keys), CONTINUES: isCut(keys) || isCut(values) };
      run(
        attentionKernel,
        { q, keys, values, spans, y, logSumExp, sums },
        { ...paramsOf(q, keys), scale },
        { constants },
      );
    }),
  // With P = exp(scale·QKᵀ − logSumExp) and Δ = Σ_d dy·y:
  // dV = Pᵀ·dY,   dS = P ∘ (dY·Vᵀ − Δ),   dQ = scale · dS·K,   dK = scale · dSᵀ·Q
  vjp: (run, { q, keys, values, spans, querySpans, y, logSumExp }, { y: dy }, d, { scale }) =>
    scope(() => {
      const heads = paramsOf(q, keys);
      const params = { ...heads, scale };
      const { HEADS, ...vectors } = headConstants(q, keys);
      const statistics = empty(q.backend, [...logSumExp.shape, 2], q.dtype, "attention.statistics");
      run(statisticsKernel, { y, dy, logSumExp, statistics }, heads, { constants: vectors });
      const given = { q, keys, values, dy, statistics };
      if (d.q) {
        const constants = { ...vectors, HEADS, CONTINUES: d.q.add || isCut(keys) || isCut(values) };
        run(queryKernel, { ...given, spans, dq: d.q }, params, { constants });
      }
      if (d.keys || d.values) {
        if (querySpans === undefined)
          throw new ShapeError("attention: gradients of keys and values need querySpans, got none.");
        const unwanted = () => ({ tensor: empty(q.backend, keys.shape, q.dtype, "attention.unwanted"), add: false });
        const [dKeys, dValues] = [d.keys ?? unwanted(), d.values ?? unwanted()];
        const isTokensCut = [q, dy, statistics].some(isCut);
        const constants = { ...vectors, CONTINUES: dKeys.add || dValues.add || isTokensCut };
        run(keyKernel, { ...given, querySpans, dKeys, dValues }, params, { constants });
      }
    }),
});

function paramsOf(q: Tensor, keys: Tensor): { heads: number; keyHeads: number; headSize: number } {
  return { heads: q.shape[1], keyHeads: keys.shape[1], headSize: q.shape[2] };
}

function isCut(tensor: Tensor): boolean {
  return tensor.segments.length > 1;
}

/**
 * How a head is loaded, and how many query heads an invocation takes. On software adapters the loads of keys cost more
 * than the products, so it takes all that read one key head, or as many as fit. A GPU wants many invocations with few
 * registers instead.
 */
function headConstants(q: Tensor, keys: Tensor): { Vector: string; WIDTH: number; VECTORS: number; HEADS: number } {
  const { heads, keyHeads, headSize } = paramsOf(q, keys);
  const width = headSize % 4 === 0 ? 4 : 2;
  const vectors = headSize / width;
  const group = heads / keyHeads;
  let taken = q.backend.style === "gpu" ? 1 : group;
  while (taken > 1 && (group % taken !== 0 || taken * vectors > mostVectors)) taken--;
  return { Vector: `vec${width}f`, WIDTH: width, VECTORS: vectors, HEADS: taken };
}

/**
 * Spans and query spans of sequences that are packed one after another and attend causally within themselves. The first
 * `cachedLengths[i]` keys of sequence i have no query in the batch (they lie in front of its own keys).
 * @param lengths  queries of each sequence
 * @returns spans [T, 4] and querySpans [S, 2], with T = Σ lengths and S = Σ (cached length + length)
 */
export function causalSpans(
  lengths: readonly number[],
  cachedLengths: readonly number[] = lengths.map(() => 0),
): { spans: Uint32Array; querySpans: Uint32Array } {
  const spans: number[] = [];
  const querySpans: number[] = [];
  lengths.forEach((length, i) => {
    const cached = cachedLengths[i];
    const firstToken = spans.length / 4;
    const firstKey = querySpans.length / 2;
    for (let position = 0; position < length; position++) spans.push(0, 0, firstKey, cached + position + 1);
    for (let key = 0; key < cached + length; key++) {
      const unseen = Math.max(0, key - cached);
      querySpans.push(firstToken + unseen, length - unseen);
    }
  });
  return { spans: Uint32Array.from(spans), querySpans: Uint32Array.from(querySpans) };
}
