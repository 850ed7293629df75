// The two kernels that the tape itself needs: y (+)= factor · x, and y = value.
import { defineKernel } from "../kernel.ts";
import * as cpu from "./accumulate.cpu.ts";

/** Elements that one workgroup of the elementwise kernels takes. */
export const elementsPerWorkgroup = 256;

export const accumulateKernel = defineKernel({
  name: "accumulate",
  axes: { rows: "map" },
  bindings: { x: { access: "read", axis: "rows" }, y: { access: "gradient", axis: "rows" } },
  params: { rowSize: "u32", factor: "f32" },
  cpu: cpu.accumulate,
  wgsl: new URL("./accumulate.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: ({ rows, rowSize }) => [Math.ceil((rows * rowSize) / elementsPerWorkgroup)],
});

export const fillKernel = defineKernel({
  name: "fill",
  axes: { rows: "map" },
  bindings: { y: { access: "write", axis: "rows" } },
  params: { rowSize: "u32", value: "f32" },
  cpu: cpu.fill,
  wgsl: new URL("./fill.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: ({ rows, rowSize }) => [Math.ceil((rows * rowSize) / elementsPerWorkgroup)],
});
