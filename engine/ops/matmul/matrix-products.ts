// The three products with f16 operands on matrix units: one kernel each for operands whose rows lie in eights, and for
// all others. Both give the same bits. matmul.ts checks shapes and chooses between these and the other tiles.
import { defineKernel } from "../../kernel.ts";
import { type GradientTarget, run } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import { forwardContract } from "./contracts.ts";
import * as cpu from "./matmul.cpu.ts";
import * as matrixCpu from "./matrix-products.cpu.ts";
import { knownForms, type MatrixForm, tileColumns, tileRows } from "./matrix-tiles.ts";

/** The parts of a kernel that depend on how operands lie in memory. */
export function bodyOf(inEights: boolean, further: readonly string[] = []) {
  const operands = inEights ? "matrix-operands-eights" : "matrix-operands";
  return {
    uses: ["matrix-units", "product", "matrix-tile", operands, ...further],
    constants: { ...knownForms[0], Operand: inEights ? "vec4u" : "u32" },
    variants: knownForms.slice(1),
  };
}

export const nameOf = (product: string, inEights: boolean): string =>
  `multiply${product}${inEights ? "Eights" : "Halves"}Matrix`;

const forwardKernel = (inEights: boolean) =>
  defineKernel({
    name: nameOf("Forward", inEights),
    ...forwardContract,
    cpu: cpu.multiplyForward,
    wgsl: new URL("./matrix-forward.wgsl", import.meta.url),
    ...bodyOf(inEights, ["all-rows"]),
    workgroups: ({ rows, panels }, constants) => [
      Math.ceil(rows / tileRows(constants)),
      Math.ceil((panels * 8) / tileColumns(constants)),
      1,
    ],
    flops: ({ rows, panels, panelsStart, width, columns }) =>
      2 * rows * width * Math.min(panels * 8, columns - panelsStart * 8),
  });

const inputKernel = (inEights: boolean) =>
  defineKernel({
    name: nameOf("Input", inEights),
    axes: { rows: "map", outputs: "reduce" },
    bindings: {
      left: { access: "read", axis: "rows" },
      right: { access: "read", axis: "outputs" },
      result: { access: "gradient", axis: "rows" },
    },
    params: { leftWidth: "u32", width: "u32" },
    cpu: cpu.multiplyInput,
    wgsl: new URL("./matrix-input.wgsl", import.meta.url),
    ...bodyOf(inEights),
    workgroups: ({ rows, width }, constants) => [
      Math.ceil(rows / tileRows(constants)),
      Math.ceil(width / tileColumns(constants)),
      1,
    ],
    flops: ({ rows, outputs, width }) => 2 * rows * outputs * width,
  });

const weightKernel = (inEights: boolean) =>
  defineKernel({
    name: nameOf("Weight", inEights),
    axes: { rows: "reduce", outputs: "map" },
    bindings: {
      left: { access: "read", axis: "rows" },
      right: { access: "read", axis: "rows" },
      result: { access: "gradient", axis: "outputs" },
    },
    params: { width: "u32", rightWidth: "u32", chunkRows: "u32", chunks: "u32" },
    cpu: matrixCpu.multiplyWeight,
    wgsl: new URL("./matrix-weight.wgsl", import.meta.url),
    ...bodyOf(inEights),
    workgroups: (cell, constants) => [
      Math.ceil(cell.width / tileRows(constants)),
      Math.ceil(cell.outputs / tileColumns(constants)),
      cpu.chunksTouched({ ...cell, hasStarts: 0 }),
    ],
    flops: ({ rows, outputs, width }) => 2 * rows * outputs * width,
  });

const forwardKernels = { eights: forwardKernel(true), halves: forwardKernel(false) };
const inputKernels = { eights: inputKernel(true), halves: inputKernel(false) };
const weightKernels = { eights: weightKernel(true), halves: weightKernel(false) };

/** y = x · Wᵀ + bias + residual; see `multiplyForward`. */
export function matrixForward(
  constants: MatrixForm,
  {
    left,
    right,
    bias,
    residual,
    result,
  }: Record<"left" | "right" | "result", Tensor> & {
    bias: Tensor | null;
    residual: Tensor | null;
  },
): void {
  const [width, columns] = [left.rowSize, result.rowSize];
  run(
    areInEights([width], [left, right]) ? forwardKernels.eights : forwardKernels.halves,
    // A binding needs some buffer even if nothing is read from it.
    { left, right, bias: bias ?? right.sliceRows(0, 0), residual: residual ?? left, result },
    { width, columns, hasBias: bias === null ? 0 : 1, hasResidual: residual === null ? 0 : 1 },
    { constants },
  );
}

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

/** Whether halves in rows of these widths can be read in eights, and cells cut along `cut` begin at multiples of eight. */
export function areInEights(
  widths: readonly number[],
  halves: readonly Tensor[],
  cut: readonly Tensor[] = [],
): boolean {
  return (
    widths.every((width) => width % 8 === 0) &&
    halves.every(({ segments }) => segments.every(({ base }) => base % 8 === 0)) &&
    cut.every(({ segments }) => segments.slice(0, -1).every(({ rows }) => rows % 8 === 0))
  );
}
