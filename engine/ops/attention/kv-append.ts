// Writes the keys and values of new tokens into a cache. Tokens of many sequences are packed; each has its slot.
import { shouldRecord } from "../../autograd.ts";
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { expectRank, expectShape } from "../../op.ts";
import { run } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import {
  elementConstants,
  elementForm,
  elementVariants,
  elementWorkgroups,
  roundsOf,
} from "../elementwise/work-split.ts";
import * as cpu from "./kv-append.cpu.ts";

const appendKernel = defineKernel({
  name: "appendToCache",
  axes: { tokens: "map", cache: "map" },
  bindings: {
    k: { access: "read", axis: "tokens" },
    v: { access: "read", axis: "tokens" },
    slots: { access: "read", axis: "tokens" },
    keys: { access: "update", axis: "cache" },
    values: { access: "update", axis: "cache" },
  },
  params: { rowSize: "u32" },
  cpu: cpu.appendToCache,
  wgsl: new URL("./kv-append.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rowSize, p.kBase, p.vBase, p.keysBase, p.valuesBase),
  workgroups: ({ tokens, rowSize }, constants) => elementWorkgroups(tokens * rowSize, constants),
});

const appendHalfKernel = defineKernel({
  name: "appendToHalfCache",
  axes: { tokens: "map", cache: "map" },
  bindings: {
    k: { access: "read", axis: "tokens" },
    v: { access: "read", axis: "tokens" },
    slots: { access: "read", axis: "tokens" },
    keys: { access: "update", axis: "cache" },
    values: { access: "update", axis: "cache" },
  },
  params: { rowSize: "u32" },
  cpu: cpu.appendToHalfCache,
  wgsl: new URL("./kv-append-half.wgsl", import.meta.url),
  uses: ["flat-workgroup", "halves", "kept-halves"],
  constants: { ROUNDS: 16 },
  variants: [{ ROUNDS: 1 }],
  form: (_, style) => ({ ROUNDS: roundsOf(style) }),
  workgroups: ({ tokens, rowSize }, { ROUNDS }) => [Math.ceil((tokens * rowSize) / 2 / (64 * Number(ROUNDS)))],
});

/**
 * keys[slots[t]] = k[t], values[slots[t]] = v[t]; all other slots keep what they hold. No gradient flows through a
 * cache.
 * @param k       [T, K, D] f32
 * @param v       [T, K, D]
 * @param slots   [T] u32, distinct; a token whose slot is not below S is skipped
 * @param keys    [S, K, D]; f16, if the cache is f16: numbers are rounded to nearest, and those that f16 does not hold
 *                become NaN
 * @param values  [S, K, D], of the type of keys, in separate memory
 * @throws ShapeError when shapes do not match, or keys and values share their memory
 * @throws Error inside `record`, when k or v require a gradient
 */
export function appendToCache(k: Tensor, v: Tensor, slots: Tensor, keys: Tensor, values: Tensor): void {
  expectRank("appendToCache: k", k.shape, "T, K, D");
  expectRank("appendToCache: keys", keys.shape, "S, K, D");
  const [T, K, D] = k.shape;
  expectShape("appendToCache: v", v.shape, k.shape, "Each key has one value of its size.");
  expectShape("appendToCache: slots", slots.shape, [T], "Each token goes to one slot.");
  expectShape("appendToCache: keys", keys.shape, [keys.rows, K, D], "Slots have the size of the tokens' keys.");
  expectShape("appendToCache: values", values.shape, keys.shape, "Each slot holds a key and a value.");
  if (keys.storage === values.storage)
    throw new ShapeError("appendToCache: expected keys and values in separate tensors, got one.");
  if (shouldRecord([k, v]))
    throw new Error("appendToCache: no gradient flows through a cache: run it under noGradient.");
  if (keys.dtype !== values.dtype || (keys.dtype === "f16" && (K * D) % 2 !== 0))
    throw new ShapeError(
      `appendToCache: expected keys and values of one type, and an even K · D in f16, got ${keys.dtype} and ` +
        `${values.dtype} of [${keys.shape}].`,
    );
  run(keys.dtype === "f16" ? appendHalfKernel : appendKernel, { k, v, slots, keys, values }, { rowSize: K * D });
}
