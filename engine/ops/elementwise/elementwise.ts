// Elementwise ops over tensors of one shape.

import { accumulateKernel } from "../../accumulate.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectShape } from "../../op.ts";
import type { Tensor } from "../../tensor.ts";
import * as cpu from "./elementwise.cpu.ts";
import { elementConstants, elementForm, elementVariants, elementWorkgroups } from "./work-split.ts";

const addKernel = defineKernel({
  name: "add",
  axes: { rows: "map" },
  bindings: {
    a: { access: "read", axis: "rows" },
    b: { access: "read", axis: "rows" },
    y: { access: "write", axis: "rows" },
  },
  params: { rowSize: "u32" },
  cpu: cpu.add,
  wgsl: new URL("./elementwise.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rows * p.rowSize, p.aBase, p.bBase, p.yBase),
  workgroups: ({ rows, rowSize }, constants) => elementWorkgroups(rows * rowSize, constants),
});

/** y = a · b, or y += a · b: the product, and each of its gradients. */
const multiplyKernel = defineKernel({
  name: "multiply",
  axes: { rows: "map" },
  bindings: {
    a: { access: "read", axis: "rows" },
    b: { access: "read", axis: "rows" },
    y: { access: "gradient", axis: "rows" },
  },
  params: { rowSize: "u32" },
  cpu: cpu.multiply,
  wgsl: new URL("./multiply.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rows * p.rowSize, p.aBase, p.bBase, p.yBase),
  workgroups: ({ rows, rowSize }, constants) => elementWorkgroups(rows * rowSize, constants),
});

/** The op below `add`. */
export const addOp = defineOp<"a" | "b", "y">({
  name: "add",
  shapes: ({ a, b }) => {
    expectShape("add: b", b, a, "Both are added element by element.");
    return { y: a };
  },
  forward: (run, { a, b }, { y }) => run(addKernel, { a, b, y }, { rowSize: a.rowSize }),
  // da = dy, db = dy
  vjp: (run, { a }, { y }, d) => {
    if (d.a) run(accumulateKernel, { x: y, y: d.a }, { rowSize: a.rowSize, factor: 1 });
    if (d.b) run(accumulateKernel, { x: y, y: d.b }, { rowSize: a.rowSize, factor: 1 });
  },
});

/**
 * Sum of two tensors of one shape: y = a + b.
 * @param a  [...] f32
 * @param b  [...] of a's shape: nothing is broadcast
 * @returns  [...]
 * @throws ShapeError when the shapes differ
 */
export function add(a: Tensor, b: Tensor): Tensor {
  return addOp({ a, b }, {}).y;
}

/** The op below `sub`. */
export const subOp = defineOp<"a" | "b", "y">({
  name: "sub",
  shapes: ({ a, b }) => {
    expectShape("sub: b", b, a, "It is subtracted element by element.");
    return { y: a };
  },
  forward: (run, { a, b }, { y }) => {
    run(accumulateKernel, { x: a, y: { tensor: y, add: false } }, { rowSize: a.rowSize, factor: 1 });
    run(accumulateKernel, { x: b, y: { tensor: y, add: true } }, { rowSize: a.rowSize, factor: -1 });
  },
  // da = dy, db = −dy
  vjp: (run, { a }, { y }, d) => {
    if (d.a) run(accumulateKernel, { x: y, y: d.a }, { rowSize: a.rowSize, factor: 1 });
    if (d.b) run(accumulateKernel, { x: y, y: d.b }, { rowSize: a.rowSize, factor: -1 });
  },
});

/**
 * Difference of two tensors of one shape: y = a − b.
 * @param a  [...] f32
 * @param b  [...] of a's shape: nothing is broadcast
 * @returns  [...]
 * @throws ShapeError when the shapes differ
 */
export function sub(a: Tensor, b: Tensor): Tensor {
  return subOp({ a, b }, {}).y;
}

/** The op below `mul`. */
export const mulOp = defineOp<"a" | "b", "y">({
  name: "mul",
  shapes: ({ a, b }) => {
    expectShape("mul: b", b, a, "Both are multiplied element by element.");
    return { y: a };
  },
  forward: (run, { a, b }, { y }) =>
    run(multiplyKernel, { a, b, y: { tensor: y, add: false } }, { rowSize: a.rowSize }),
  // da = dy · b, db = dy · a
  vjp: (run, { a, b }, { y }, d) => {
    if (d.a) run(multiplyKernel, { a: y, b, y: d.a }, { rowSize: a.rowSize });
    if (d.b) run(multiplyKernel, { a: y, b: a, y: d.b }, { rowSize: a.rowSize });
  },
});

/**
 * Product of two tensors of one shape, element by element: y = a · b. For the product of matrices see `linear`.
 * @param a  [...] f32
 * @param b  [...] of a's shape: nothing is broadcast
 * @returns  [...]
 * @throws ShapeError when the shapes differ
 */
export function mul(a: Tensor, b: Tensor): Tensor {
  return mulOp({ a, b }, {}).y;
}

/** The op below `scale`. */
export const scaleOp = defineOp<"x", "y", never, { factor: number }>({
  name: "scale",
  shapes: ({ x }) => ({ y: x }),
  forward: (run, { x }, { y }, { factor }) =>
    run(accumulateKernel, { x, y: { tensor: y, add: false } }, { rowSize: x.rowSize, factor }),
  vjp: (run, { x }, { y }, d, { factor }) => {
    if (d.x) run(accumulateKernel, { x: y, y: d.x }, { rowSize: x.rowSize, factor });
  },
});

/**
 * A tensor times a number: y = factor · x.
 * @param x  [...] f32
 * @returns  [...]
 */
export function scale(x: Tensor, factor: number): Tensor {
  return scaleOp({ x }, { factor }).y;
}
