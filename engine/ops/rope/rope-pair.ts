// Rotary position embedding of queries and keys in one dispatch; `rope` needs two. In decoding the same dispatch also
// writes keys and values into the cache.
import { shouldRecord } from "../../autograd.ts";
import { ShapeError } from "../../errors.ts";
import { type AdapterStyle, type Constants, defineKernel } from "../../kernel.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import { run } from "../../run.ts";
import type { Shape, Tensor } from "../../tensor.ts";
import { elementForm } from "../elementwise/work-split.ts";
import * as cpu from "./rope.cpu.ts";
import { rotate } from "./rope.ts";

/** Heads of a token that an invocation processes. Software drivers want few invocations with much work, GPUs many. */
const everyHead = { HEADS: 0x7fffffff };
const oneHead = { HEADS: 1 };
const vectors = { Vector: "vec4f", WIDTH: 4 };
const variants = [{ Vector: "f32", WIDTH: 1 }, oneHead];

function headsForm(style: AdapterStyle, ...counts: readonly number[]): Constants {
  const { Vector, WIDTH } = elementForm(style, ...counts);
  return { Vector, WIDTH, ...headsOfStyle(style) };
}

const headsOfStyle = (style: AdapterStyle): typeof everyHead => (style === "gpu" ? oneHead : everyHead);

/** @param half  pairs of a head, one or four of which are an item */
const itemWorkgroups = (tokens: number, heads: number, half: number, { HEADS, WIDTH = 1 }: Constants): [number] => [
  Math.ceil((tokens * Math.ceil(heads / Number(HEADS)) * (half / Number(WIDTH))) / 64),
];

const pairKernel = defineKernel({
  name: "ropePair",
  axes: { rows: "map" },
  bindings: {
    q: { access: "read", axis: "rows" },
    k: { access: "read", axis: "rows" },
    cos: { access: "read", axis: "rows" },
    sin: { access: "read", axis: "rows" },
    rotatedQ: { access: "gradient", axis: "rows" },
    rotatedK: { access: "gradient", axis: "rows" },
  },
  /** `direction` 1 rotates forwards, −1 back. */
  params: { heads: "u32", keyHeads: "u32", half: "u32", direction: "f32" },
  cpu: cpu.ropePair,
  wgsl: new URL("./rope-pair.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: { ...vectors, ...everyHead },
  variants,
  form: (p, style) => headsForm(style, p.half, p.qBase, p.kBase, p.cosBase, p.sinBase, p.rotatedQBase, p.rotatedKBase),
  workgroups: ({ rows, heads, keyHeads, half }, constants) => itemWorkgroups(rows, heads + keyHeads, half, constants),
});

const intoCache = {
  axes: { tokens: "map", cache: "map" },
  bindings: {
    q: { access: "update", axis: "tokens" },
    k: { access: "read", axis: "tokens" },
    v: { access: "read", axis: "tokens" },
    cos: { access: "read", axis: "tokens" },
    sin: { access: "read", axis: "tokens" },
    slots: { access: "read", axis: "tokens" },
    keys: { access: "update", axis: "cache" },
    values: { access: "update", axis: "cache" },
  },
  params: { heads: "u32", keyHeads: "u32", half: "u32" },
} as const;

const cacheKernel = defineKernel({
  ...intoCache,
  name: "ropeIntoCache",
  cpu: cpu.ropeIntoCache,
  wgsl: new URL("./rope-into-cache.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: { ...vectors, ...everyHead },
  variants,
  form: (p, style) =>
    headsForm(style, p.half, p.qBase, p.kBase, p.vBase, p.cosBase, p.sinBase, p.keysBase, p.valuesBase),
  workgroups: ({ tokens, heads, keyHeads, half }, constants) =>
    itemWorkgroups(tokens, heads + 2 * keyHeads, half, constants),
});

const halfCacheKernel = defineKernel({
  ...intoCache,
  name: "ropeIntoHalfCache",
  cpu: cpu.ropeIntoHalfCache,
  wgsl: new URL("./rope-into-half-cache.wgsl", import.meta.url),
  uses: ["flat-workgroup", "halves", "kept-halves"],
  constants: everyHead,
  variants: [oneHead],
  form: (_, style) => headsOfStyle(style),
  workgroups: ({ tokens, heads, keyHeads, half }, constants) =>
    itemWorkgroups(tokens, heads + 2 * keyHeads, half, constants),
});

/** The op below `ropePair`. */
export const ropePairOp = defineOp<"q" | "k" | "cos" | "sin", "rotatedQ" | "rotatedK">({
  name: "ropePair",
  constants: ["cos", "sin"],
  shapes: ({ q, k, cos, sin }) => {
    expectHeads("ropePair", { q, k, cos, sin });
    return { rotatedQ: q, rotatedK: k };
  },
  forward: (runKernel, { q, k, cos, sin }, { rotatedQ, rotatedK }) =>
    runKernel(
      pairKernel,
      { q, k, cos, sin, rotatedQ: { tensor: rotatedQ, add: false }, rotatedK: { tensor: rotatedK, add: false } },
      { ...headsOf(q, k), direction: 1 },
    ),
  // The inverse rotation of each.
  vjp: (runKernel, { q, k, cos, sin }, upstream, d) => {
    if (d.q && d.k) {
      const targets = { rotatedQ: d.q, rotatedK: d.k };
      const given = { q: upstream.rotatedQ, k: upstream.rotatedK, cos, sin };
      runKernel(pairKernel, { ...given, ...targets }, { ...headsOf(q, k), direction: -1 });
    } else if (d.q) rotate(runKernel, upstream.rotatedQ, cos, sin, d.q, -1);
    else if (d.k) rotate(runKernel, upstream.rotatedK, cos, sin, d.k, -1);
  },
});

/**
 * `rope` of queries and keys in one dispatch, with the bits of two.
 * @param q         [T, H, D] f32
 * @param k         [T, K, D]
 * @param cos, sin  [T, D/2], from `rotaryTables`
 * @returns         [T, H, D] and [T, K, D]
 * @throws ShapeError when k or the tables do not fit q
 */
export function ropePair(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor): { q: Tensor; k: Tensor } {
  const { rotatedQ, rotatedK } = ropePairOp({ q, k, cos, sin }, {});
  return { q: rotatedQ, k: rotatedK };
}

/** The cache of one layer, and where the tokens of the batch go. */
export interface CacheTarget {
  /** [T] u32, distinct; a token whose slot is not below S is skipped. */
  readonly slots: Tensor;
  /**
   * [S, K, D] each, in separate memory. If they are f16, numbers are rounded to nearest, and those that f16 does not
   * hold become NaN.
   */
  readonly keys: Tensor;
  readonly values: Tensor;
}

/**
 * Rotates q in place, and writes rotated keys and the values into a cache, all in one dispatch:
 * q[t] = rope(q[t]), keys[slots[t]] = rope(k[t]), values[slots[t]] = v[t]; other slots keep what they hold. No gradient
 * flows through a cache.
 * @param q         [T, H, D] f32; overwritten
 * @param k, v      [T, K, D]
 * @param cos, sin  [T, D/2], from `rotaryTables`
 * @throws ShapeError when shapes do not match, or keys and values share their memory
 * @throws Error inside `record`, when q, k or v require a gradient
 */
export function ropeIntoCache(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  cos: Tensor,
  sin: Tensor,
  { slots, keys, values }: CacheTarget,
): void {
  expectHeads("ropeIntoCache", { q: q.shape, k: k.shape, cos: cos.shape, sin: sin.shape });
  const [T, K, D] = k.shape;
  expectShape("ropeIntoCache: v", v.shape, k.shape, "Each key has one value of its size.");
  expectShape("ropeIntoCache: slots", slots.shape, [T], "Each token goes to one slot.");
  expectShape("ropeIntoCache: keys", keys.shape, [keys.rows, K, D], "Slots have the size of the tokens' keys.");
  expectShape("ropeIntoCache: values", values.shape, keys.shape, "Each slot holds a key and a value.");
  if (keys.storage === values.storage)
    throw new ShapeError("ropeIntoCache: expected keys and values in separate tensors, got one.");
  if (shouldRecord([q, k, v]))
    throw new Error("ropeIntoCache: no gradient flows through a cache: run it under noGradient.");
  if (keys.dtype !== values.dtype)
    throw new ShapeError(`ropeIntoCache: expected keys and values of one type, got ${keys.dtype} and ${values.dtype}.`);
  run(keys.dtype === "f16" ? halfCacheKernel : cacheKernel, { q, k, v, cos, sin, slots, keys, values }, headsOf(q, k));
}

function headsOf(q: Tensor, k: Tensor): { heads: number; keyHeads: number; half: number } {
  return { heads: q.shape[1], keyHeads: k.shape[1], half: q.shape[2] / 2 };
}

function expectHeads(what: string, { q, k, cos, sin }: Record<"q" | "k" | "cos" | "sin", Shape>): void {
  expectRank(`${what}: q`, q, "T, H, D");
  expectRank(`${what}: k`, k, "T, K, D");
  const [T, , D] = q;
  expectShape(`${what}: k`, k, [T, k[1], D], "Heads of keys have the size of heads of q, for the same tokens.");
  expectShape(`${what}: cos`, cos, [T, D / 2], "One angle per pair and token: [T, D/2].");
  expectShape(`${what}: sin`, sin, [T, D / 2], "One angle per pair and token: [T, D/2].");
}
