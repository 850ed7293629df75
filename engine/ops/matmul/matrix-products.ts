// The two products of a backward pass with f16 operands on matrix units: one kernel each for operands whose rows lie in
// eights, and for all others. Both give the same bits. matmul.ts checks shapes and chooses between these and the other
// tiles. Forward products have the same body on matrix units as with other tiles (bodies.ts).
import { defineKernel } from "../../kernel.ts";
import { type GradientTarget, run } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import { areInEights, matrixBodyOf, matrixName } from "./bodies.ts";
import * as cpu from "./matmul.cpu.ts";
import * as matrixCpu from "./matrix-products.cpu.ts";
import { type MatrixForm, tileColumns, tileRows } from "./matrix-tiles.ts";

const inputKernel = (inEights: boolean) =>
  defineKernel({
    name: matrixName("Input", inEights),
    axes: { rows: "map", outputs: "reduce" },
    bindings: {
      left: { access: "read", axis: "rows" },
      right: { access: "read", axis: "outputs" },
      result: { access: "gradient", axis: "rows" },
    },
    params: { leftWidth: "u32", width: "u32" },
    cpu: cpu.multiplyInput,
    wgsl: new URL("./matrix-input.wgsl", import.meta.url),
    ...matrixBodyOf(inEights),
    workgroups: ({ rows, width }, constants) => [
      Math.ceil(rows / tileRows(constants)),
      Math.ceil(width / tileColumns(constants)),
      1,
    ],
    flops: ({ rows, outputs, width }) => 2 * rows * outputs * width,
  });

const weightKernel = (inEights: boolean) =>
  defineKernel({
    name: matrixName("Weight", inEights),
    axes: { rows: "reduce", outputs: "map" },
    bindings: {
      left: { access: "read", axis: "rows" },
      right: { access: "read", axis: "rows" },
      result: { access: "gradient", axis: "outputs" },
    },
    params: { width: "u32", rightWidth: "u32", chunkRows: "u32", chunks: "u32" },
    cpu: matrixCpu.multiplyWeight,
    wgsl: new URL("./matrix-weight.wgsl", import.meta.url),
    ...matrixBodyOf(inEights),
    workgroups: (cell, constants) => [
      Math.ceil(cell.width / tileRows(constants)),
      Math.ceil(cell.outputs / tileColumns(constants)),
      cpu.chunksTouched({ ...cell, hasStarts: 0 }),
    ],
    flops: ({ rows, outputs, width }) => 2 * rows * outputs * width,
  });

const inputKernels = { eights: inputKernel(true), halves: inputKernel(false) };
const weightKernels = { eights: weightKernel(true), halves: weightKernel(false) };

/** dx (+)= dy · W; see `multiplyInput`. */
export function matrixInput(constants: MatrixForm, dy: Tensor, weight: Tensor, dx: GradientTarget): void {
  const [leftWidth, width] = [dy.rowSize, weight.rowSize];
  run(
    areInEights([leftWidth, width], [dy, weight], [weight]) ? inputKernels.eights : inputKernels.halves,
    { left: dy, right: weight, result: dx },
    { leftWidth, width },
    { constants },
  );
}

/** result[o, chunk, c] (+)= Σ_t dy[t, o] · x[t, c]; see `multiplyWeight`. */
export function matrixWeight(
  constants: MatrixForm,
  dy: Tensor,
  x: Tensor,
  result: GradientTarget,
  { chunkRows, chunks }: { chunkRows: number; chunks: number },
): void {
  const [width, rightWidth] = [x.rowSize, dy.rowSize];
  run(
    areInEights([width, rightWidth], [x, dy], [result.tensor]) ? weightKernels.eights : weightKernels.halves,
    { left: x, right: dy, result },
    { width, rightWidth, chunkRows, chunks },
    { constants },
  );
}
