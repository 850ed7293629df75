// Elementwise ops over tensors of one shape.

import { accumulateKernel } from "../../accumulate.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectShape } from "../../op.ts";
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

/**
 * Sum of two tensors of one shape: y = a + b.
 * @param a  [...] f32
 * @param b  [...] of a's shape
 * @throws ShapeError when the shapes differ
 */
export const add = defineOp<"a" | "b", "y">({
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
 * A tensor times a number: y = factor · x.
 * @param x  [...] f32
 */
export const scale = defineOp<"x", "y", never, { factor: number }>({
  name: "scale",
  shapes: ({ x }) => ({ y: x }),
  forward: (run, { x }, { y }, { factor }) =>
    run(accumulateKernel, { x, y: { tensor: y, add: false } }, { rowSize: x.rowSize, factor }),
  vjp: (run, { x }, { y }, d, { factor }) => {
    if (d.x) run(accumulateKernel, { x: y, y: d.x }, { rowSize: x.rowSize, factor });
  },
});
