// The two kernels that the tape itself needs: y (+)= factor · x, and y = value.

import * as cpu from "./accumulate.cpu.ts";
import { defineKernel } from "./kernel.ts";
import { elementConstants, elementForm, elementVariants, elementWorkgroups } from "./ops/elementwise/work-split.ts";

export const accumulateKernel = defineKernel({
  name: "accumulate",
  axes: { rows: "map" },
  bindings: { x: { access: "read", axis: "rows" }, y: { access: "gradient", axis: "rows" } },
  params: { rowSize: "u32", factor: "f32" },
  cpu: cpu.accumulate,
  wgsl: new URL("./accumulate.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rows * p.rowSize, p.xBase, p.yBase),
  workgroups: ({ rows, rowSize }, constants) => elementWorkgroups(rows * rowSize, constants),
});

export const fillKernel = defineKernel({
  name: "fill",
  axes: { rows: "map" },
  bindings: { y: { access: "write", axis: "rows" } },
  params: { rowSize: "u32", value: "f32" },
  cpu: cpu.fill,
  wgsl: new URL("./fill.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rows * p.rowSize, p.yBase),
  workgroups: ({ rows, rowSize }, constants) => elementWorkgroups(rows * rowSize, constants),
});
