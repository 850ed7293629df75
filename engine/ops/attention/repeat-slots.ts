// Repeats keys and values within a cache: several sequences begin with the same tokens, which are computed once, and each sequence
// has slots of its own for them.
import { shouldRecord } from "../../autograd.ts";
import { ShapeError } from "../../errors.ts";
import { type Constants, defineKernel } from "../../kernel.ts";
import { expectRank, expectShape } from "../../op.ts";
import { run } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import { elementWorkgroups, runConstants, runForm, runVariants } from "../elementwise/work-split.ts";
import * as cpu from "./repeat-slots.cpu.ts";

/** Bits are copied, in words: numbers in f32 may be NaN with a payload, and two in f16 share a word. */
const ofWords = (constants: Constants): Constants =>
  constants["Vector"] === undefined ? constants : { ...constants, Vector: constants["WIDTH"] === 4 ? "vec4u" : "u32" };

const repeatKernel = defineKernel({
  name: "repeatSlots",
  axes: { copies: "map" },
  bindings: {
    sources: { access: "read", axis: "copies" },
    targets: { access: "read", axis: "copies" },
    // Copies go from any slot to any other: whole caches are bound.
    keys: { access: "update" },
    values: { access: "update" },
  },
  params: { rowSize: "u32", rowWords: "u32" },
  cpu: cpu.repeatSlots,
  wgsl: new URL("./repeat-slots.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: ofWords(runConstants),
  variants: runVariants.map(ofWords),
  form: ({ rowSize, rowWords, keysBase, valuesBase }, style) =>
    ofWords(runForm(style, rowWords, ...[keysBase, valuesBase].map((base) => (base * rowWords) / rowSize))),
  workgroups: ({ copies, rowWords }, constants) => elementWorkgroups(copies * rowWords, constants),
});

/**
 * keys[to[c]] = keys[from[c]], values[to[c]] = values[from[c]]; all other slots keep what they hold. No gradient flows
 * through a cache.
 * @param keys    [S, K, D] f32 or f16, in one segment
 * @param values  [S, K, D], of the type of keys, in separate memory
 * @param from    [N] u32, below S
 * @param to      [N] u32, below S, distinct, and none of them in `from`
 * @throws ShapeError when shapes do not match, the cache is cut into segments, or keys and values share their memory
 * @throws Error inside `record`, when keys or values require a gradient
 */
export function repeatSlots(keys: Tensor, values: Tensor, from: Tensor, to: Tensor): void {
  expectRank("repeatSlots: keys", keys.shape, "S, K, D");
  expectShape("repeatSlots: values", values.shape, keys.shape, "Each slot holds a key and a value.");
  expectShape("repeatSlots: to", to.shape, [from.rows], "Each copy goes to one slot.");
  if (keys.storage === values.storage)
    throw new ShapeError("repeatSlots: expected keys and values in separate tensors, got one.");
  if (shouldRecord([keys, values]))
    throw new Error("repeatSlots: no gradient flows through a cache: run it under noGradient.");
  const words = keys.dtype === "f16" ? 2 : 1;
  if (keys.dtype !== values.dtype || keys.rowSize % words !== 0)
    throw new ShapeError(
      `repeatSlots: expected keys and values of one type, and an even K · D in f16, got ${keys.dtype} and ` +
        `${values.dtype} of [${keys.shape}].`,
    );
  run(
    repeatKernel,
    { sources: from, targets: to, keys, values },
    { rowSize: keys.rowSize, rowWords: keys.rowSize / words },
  );
}
