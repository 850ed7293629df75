// Conversion of f32 numbers to f16, the type that operands of products may have: half the memory, sums still in f32
// (matmul.ts). Kernels read and write two f16 per word, with functions that every WebGPU implementation has.
import { defineKernel } from "../../kernel.ts";
import { expectShape } from "../../op.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, type Tensor } from "../../tensor.ts";
import * as cpu from "./half.cpu.ts";
import { packPanels, panelShape, tryPackHalfPanels } from "./matmul.ts";

const toHalfKernel = defineKernel({
  name: "toHalf",
  axes: { rows: "map" },
  bindings: { x: { access: "read", axis: "rows" }, half: { access: "update", axis: "rows" } },
  params: { rowSize: "u32" },
  cpu: cpu.toHalf,
  wgsl: new URL("./half.wgsl", import.meta.url),
  uses: ["flat-workgroup", "halves"],
  // One more word, since a cell may begin and end in the middle of a word.
  workgroups: ({ rows, rowSize }) => [rows * rowSize === 0 ? 0 : Math.ceil((rows * rowSize + 2) / 2 / 64)],
});

const toHalfFoursKernel = defineKernel({
  name: "toHalfFours",
  axes: { rows: "map" },
  bindings: { x: { access: "read", axis: "rows" }, half: { access: "write", axis: "rows" } },
  params: { rowSize: "u32" },
  cpu: cpu.toHalf,
  wgsl: new URL("./half-fours.wgsl", import.meta.url),
  uses: ["flat-workgroup", "halves"],
  constants: { LANES: 64, ROUNDS: 4 },
  workgroups: ({ rows, rowSize }) => [Math.ceil((rows * rowSize) / 4 / 256)],
});

/**
 * half = x, rounded to nearest; numbers from 65520 on and those that are not finite become infinite.
 * @param x     f32 (or f64 on the plain backend)
 * @param half  f16, of x's shape, written
 * @throws ShapeError when half has another shape
 */
export function writeHalf(x: Tensor, half: Tensor): void {
  expectShape("toHalf: half", half.shape, x.shape, "It is a copy of x.");
  const inFours =
    x.rowSize % 4 === 0 && [x, half].every(({ segments }) => segments.every(({ base }) => base % 4 === 0));
  if (inFours) run(toHalfFoursKernel, { x, half }, { rowSize: x.rowSize });
  else run(toHalfKernel, { x, half }, { rowSize: x.rowSize });
}

/** A new tensor of the innermost scope: x in f16 (writeHalf). */
export function toHalf(x: Tensor): Tensor {
  const half = empty(x.backend, x.shape, "f16", "half");
  writeHalf(x, half);
  return half;
}

/** Elements that are packed in f32 at a time before they are converted to f16. */
const packedAtOnce = 2 ** 20;

/**
 * The forward product's copy of a weight (packPanels) in f16, rounded to nearest: in one dispatch, or where it does not lie in
 * fours through a small buffer in f32.
 */
export function packHalfPanels(weight: Tensor, panels: Tensor): void {
  const [outputs, inputs] = weight.shape;
  expectShape("packHalfPanels: panels", panels.shape, panelShape(outputs, inputs), `weight is [${weight.shape}].`);
  if (tryPackHalfPanels(weight, panels)) return;
  const most = Math.max(1, Math.floor(packedAtOnce / panels.rowSize));
  for (let start = 0; start < panels.rows; start += most)
    scope(() => {
      const count = Math.min(most, panels.rows - start);
      const single = empty(weight.backend, [count, inputs, 8], weight.dtype, "panels");
      packPanels(weight.sliceRows(8 * start, Math.min(8 * count, outputs - 8 * start)), single);
      writeHalf(single, panels.sliceRows(start, count));
    });
}
