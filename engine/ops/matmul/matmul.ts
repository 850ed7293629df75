// Matrix products with weights in Hugging Face's layout [out, in], for linear layers, the head and their gradients:
//
//   forward   y  = x · Wᵀ + b      from a copy of W in panels of eight outputs, whose columns are neighbours in memory
//   input     dX = dY · W          from W as it is
//   weight    dW = dYᵀ · X         rows in fixed chunks, so that small matrices keep all cores busy; chunks summed in order
//
// All three are one sum, Σ_k left[i, k] · right[k, j], over strides (ops/matmul/product.wgsl), and share the code that
// sums a tile of it. The speed of a tile differs by factors between adapters, so each kernel exists once per tile. The
// order of the sum is the same in all of them: one f32 accumulator, k ascending. So shape and adapter may decide the
// tile, and neither tile nor cuts change a bit.
//
// Operands are both f32 or both f16 (half.ts); sums, bias and result are always f32. If the adapter has matrix units
// (tensor cores) for f16 operands, products with them use those (matrix-tiles.ts). Their order of the sum is another one,
// and also depends on the widths alone.
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { expectShape } from "../../op.ts";
import type { SelectedRows } from "../../parameters.ts";
import { type GradientTarget, run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, fromArray, type Tensor } from "../../tensor.ts";
import {
  areInFours,
  bodyOf,
  chooseRowKernel,
  forTiles,
  kernelName,
  kernelOf,
  matrixFormFor,
  operandType,
  type RowsBody,
  rowKernels,
} from "./bodies.ts";
import { forwardContract } from "./contracts.ts";
import * as cpu from "./matmul.cpu.ts";
import { matrixInput, matrixWeight } from "./matrix-products.ts";
import { chooseTile, type OperandType, type Tile } from "./tiles.ts";

function forwardKernel({ nameOf, uses, constants, variants, rows: rowsOf, columns: columnsOf }: RowsBody) {
  return defineKernel({
    name: nameOf("Forward"),
    ...forwardContract,
    cpu: cpu.multiplyForward,
    wgsl: new URL("./matmul-forward.wgsl", import.meta.url),
    uses: [...uses, "all-rows"],
    constants,
    variants,
    workgroups: ({ rows, panels }, own) => [Math.ceil(rows / rowsOf(own)), Math.ceil((panels * 8) / columnsOf(own)), 1],
    flops: ({ rows, panels, panelsStart, width, columns }) =>
      2 * rows * width * Math.min(panels * 8, columns - panelsStart * 8),
  });
}

function inputKernel(tile: Tile, operands: OperandType) {
  return defineKernel({
    name: kernelName("Input", tile, operands),
    axes: { rows: "map", outputs: "reduce" },
    bindings: {
      left: { access: "read", axis: "rows" },
      right: { access: "read", axis: "outputs" },
      result: { access: "gradient", axis: "rows" },
    },
    params: { leftWidth: "u32", width: "u32" },
    cpu: cpu.multiplyInput,
    wgsl: new URL("./matmul-input.wgsl", import.meta.url),
    ...bodyOf(tile, operands),
    workgroups: ({ rows, width }, constants) => [
      Math.ceil(rows / tile.rows(constants)),
      Math.ceil(width / tile.columns(constants)),
      1,
    ],
    flops: ({ rows, outputs, width }) => 2 * rows * outputs * width,
  });
}

const chunkParams = { chunkRows: "u32", chunks: "u32", hasStarts: "u32" } as const;

function weightKernel(tile: Tile, operands: OperandType) {
  const body = bodyOf(tile, operands);
  return defineKernel({
    name: kernelName("Weight", tile, operands),
    axes: { rows: "reduce", outputs: "map" },
    bindings: {
      left: { access: "read", axis: "rows" },
      right: { access: "read", axis: "rows" },
      starts: { access: "read" },
      result: { access: "gradient", axis: "outputs" },
    },
    params: { width: "u32", rightWidth: "u32", ...chunkParams },
    cpu: cpu.multiplyWeight,
    wgsl: new URL("./matmul-weight.wgsl", import.meta.url),
    ...body,
    uses: [...body.uses, "chunk-rows"],
    workgroups: (cell, constants) => [
      Math.ceil(cell.width / tile.rows(constants)),
      Math.ceil(cell.outputs / tile.columns(constants)),
      cpu.chunksTouched(cell),
    ],
    flops: ({ rows, outputs, width }) => 2 * rows * outputs * width,
  });
}

/** One kernel per tile that suits the product, for both types of operands. */
const forwardKernels = rowKernels(forwardKernel);
const inputKernels = { f32: forTiles(inputKernel, "f32"), f16: forTiles(inputKernel, "f16") };
const weightKernels = {
  f32: forTiles(weightKernel, "f32", ["thin", "column"]),
  f16: forTiles(weightKernel, "f16", ["thin", "column"]),
};

const sumRowsKernel = defineKernel({
  name: "sumRows",
  axes: { rows: "reduce", outputs: "map" },
  bindings: {
    x: { access: "read", axis: "rows" },
    starts: { access: "read" },
    partial: { access: "gradient", axis: "outputs" },
  },
  params: { width: "u32", ...chunkParams },
  cpu: cpu.sumRows,
  wgsl: new URL("./sum-rows.wgsl", import.meta.url),
  uses: ["chunk-rows"],
  workgroups: (cell) => [Math.ceil(cell.outputs / 32), cpu.chunksTouched(cell), 1],
});

const vectorOfFour = { Vector: "vec4f", WIDTH: 4 };
const oneNumber = { Vector: "f32", WIDTH: 1 };

const sumChunksKernel = defineKernel({
  name: "sumChunks",
  axes: { outputs: "map" },
  bindings: { partial: { access: "read", axis: "outputs" }, result: { access: "gradient", axis: "outputs" } },
  params: { width: "u32", chunks: "u32" },
  cpu: cpu.sumChunks,
  wgsl: new URL("./sum-chunks.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: vectorOfFour,
  variants: [oneNumber],
  // In fours on software drivers, where a load of four neighbours costs as much as a load of one number. A GPU needs
  // many invocations instead.
  form: ({ width, partialBase, resultBase }, style) =>
    style !== "gpu" && [width, partialBase, resultBase].every((count) => count % 4 === 0) ? vectorOfFour : oneNumber,
  workgroups: ({ outputs, width }, { WIDTH }) => [Math.ceil((outputs * width) / (64 * Number(WIDTH)))],
});

const packKernel = defineKernel({
  name: "packPanels",
  axes: { outputs: "map", panels: "map" },
  bindings: { weight: { access: "read", axis: "outputs" }, panels: { access: "write", axis: "panels" } },
  params: { width: "u32" },
  cpu: cpu.packPanels,
  wgsl: new URL("./pack.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: ({ outputs, outputsStart, outputsTotal, panels, panelsStart, width }) => {
    // Rows and panels are cut independently, so most pairs of cells have nothing in common.
    const end = outputsStart + outputs === outputsTotal ? (panelsStart + panels) * 8 : outputsStart + outputs;
    const shares = Math.min(end, (panelsStart + panels) * 8) > Math.max(outputsStart, panelsStart * 8);
    return [shares ? Math.ceil((panels * width * 8) / 64) : 0];
  },
});

const packFoursKernel = (stored: "f32" | "half") =>
  defineKernel({
    name: stored === "f32" ? "packPanelsFours" : "packHalfPanelsFours",
    axes: { outputs: "map", panels: "map" },
    bindings: { weight: { access: "read", axis: "outputs" }, panels: { access: "write", axis: "panels" } },
    params: { width: "u32" },
    cpu: stored === "f32" ? cpu.packPanels : cpu.packHalfPanels,
    wgsl: new URL("./pack-fours.wgsl", import.meta.url),
    uses: ["flat-workgroup", ...(stored === "f32" ? ["panels-f32"] : ["panels-half", "halves"])],
    constants: { Stored: stored === "f32" ? "vec4f" : "vec2u" },
    workgroups: ({ outputs, outputsStart, panels, panelsStart, width }) => {
      const shares =
        Math.min(outputsStart + outputs, (panelsStart + panels) * 8) > Math.max(outputsStart, panelsStart * 8);
      return [shares ? Math.ceil((panels * width) / 4 / 64) : 0];
    },
  });

const packFours = { f32: packFoursKernel("f32"), half: packFoursKernel("half") };

/**
 * Whether a weight and its panels begin and are cut at multiples of four numbers, and the weight is cut only between
 * panels.
 */
function isPackedInFours(weight: Tensor, panels: Tensor): boolean {
  if (weight.rowSize % 4 !== 0) return false;
  if ([weight, panels].some(({ segments }) => segments.some(({ base }) => base % 4 !== 0))) return false;
  return weight.segments.slice(0, -1).every(({ rows }) => rows % 8 === 0);
}

/** Shape of the forward product's copy of a weight [outputs, inputs]. */
export function panelShape(outputs: number, inputs: number): readonly [number, number, 8] {
  return [Math.ceil(outputs / 8), inputs, 8];
}

/**
 * The forward product's copy: panels[p, c, j] = weight[8p + j, c], and 0 past the last output.
 * @param weight  [O, C] f32
 * @param panels  [⌈O/8⌉, C, 8], written
 * @throws ShapeError when panels is not of that shape
 */
export function packPanels(weight: Tensor, panels: Tensor): void {
  const [outputs, inputs] = weight.shape;
  expectShape("packPanels: panels", panels.shape, panelShape(outputs, inputs), `weight is [${weight.shape}].`);
  run(isPackedInFours(weight, panels) ? packFours.f32 : packKernel, { weight, panels }, { width: inputs });
}

/**
 * The same in f16, rounded to nearest.
 * @param weight  [O, C] f32
 * @param panels  [⌈O/8⌉, C, 8] f16, written
 * @returns       false, and nothing is done, if they do not lie in fours
 */
export function tryPackHalfPanels(weight: Tensor, panels: Tensor): boolean {
  if (!isPackedInFours(weight, panels)) return false;
  run(packFours.half, { weight, panels }, { width: weight.rowSize });
  return true;
}

/**
 * y = residual + (x · Wᵀ + b), from the copy in panels. For a range of outputs slice panels by rows. y may be narrower or wider than
 * the last panel: outputs beyond y's width are not written; columns beyond W's rows hold only the bias.
 * @param x       [T, C] f32 or f16
 * @param panels  [P, C, 8], of the type of x
 * @param bias    [O], or null for none
 * @param y       [T, O], written; ⌈O/8⌉ = P
 * @param residual  [T, O], in separate memory, or null (the default) for none
 * @throws ShapeError when the shapes do not match
 */
export function multiplyForward(
  x: Tensor,
  panels: Tensor,
  bias: Tensor | null,
  y: Tensor,
  residual: Tensor | null = null,
): void {
  const [rows, width] = x.shape;
  const columns = y.shape[1];
  expectShape(
    "multiplyForward: panels",
    panels.shape,
    panelShape(columns, width),
    `x is [${x.shape}], y is [${y.shape}].`,
  );
  expectShape("multiplyForward: y", y.shape, [rows, columns], `x is [${x.shape}].`);
  if (bias !== null) expectShape("multiplyForward: bias", bias.shape, [columns], `y is [${y.shape}].`);
  if (residual !== null) expectShape("multiplyForward: residual", residual.shape, y.shape, "It is added to y.");
  const inFours = areInFours([width, columns], residual === null ? [x, panels, y] : [x, panels, y, residual]);
  const { kernel, constants } = chooseRowKernel(forwardKernels, "multiplyForward", x, panels, inFours);
  run(
    kernel,
    // A binding needs some buffer even if there is no bias or no residual.
    { left: x, right: panels, bias: bias ?? panels.sliceRows(0, 0), residual: residual ?? x, result: y },
    { width, columns, hasBias: bias === null ? 0 : 1, hasResidual: residual === null ? 0 : 1 },
    { constants },
  );
}

/**
 * dx (+)= dy · W, outputs ascending. Columns of dy beyond the rows of W are ignored.
 * @param dy      [T, O] f32 or f16
 * @param weight  [O, C], of the type of dy
 * @param dx      [T, C]
 * @throws ShapeError when the shapes do not match
 */
export function multiplyInput(dy: Tensor, weight: Tensor, dx: GradientTarget): void {
  const [outputs, width] = weight.shape;
  const [rows, leftWidth] = dy.shape;
  if (leftWidth < outputs)
    throw new ShapeError(
      `multiplyInput: dy: expected [T, ${outputs}], got [${dy.shape}]. weight is [${weight.shape}].`,
    );
  expectShape("multiplyInput: dx", dx.tensor.shape, [rows, width], `dy is [${dy.shape}], weight is [${weight.shape}].`);
  const operands = operandType("multiplyInput", dy, weight);
  const form = matrixFormFor(dy.backend, "input", operands, rows);
  if (form !== null) {
    matrixInput(form, dy, weight, dx);
    return;
  }
  const inFours = areInFours([leftWidth, width], [dy, weight, dx.tensor], [weight]);
  const { tile, constants } = chooseTile(dy.backend, "input", operands, rows, inFours);
  run(
    kernelOf(inputKernels[operands], tile),
    { left: dy, right: weight, result: dx },
    { leftWidth, width },
    { constants },
  );
}

/**
 * dWeight (+)= dyᵀ · x, rows ascending inside chunks whose size depends on the shapes only, then chunks ascending.
 * Columns of dy beyond the rows of dWeight are ignored.
 * @param dy       [T, O] f32 or f16
 * @param x        [T, C], of the type of dy
 * @param dWeight  [O, C]
 * @param selected the places of these rows in a longer batch, whose chunks are kept; null (the default) for all its rows
 * @throws ShapeError when the shapes do not match
 */
export function multiplyWeight(
  dy: Tensor,
  x: Tensor,
  dWeight: GradientTarget,
  selected: SelectedRows | null = null,
): void {
  const [outputs, width] = dWeight.tensor.shape;
  const [rows, rightWidth] = dy.shape;
  if (rightWidth < outputs)
    throw new ShapeError(
      `multiplyWeight: dy: expected [T, ${outputs}], got [${dy.shape}]. dWeight is [${outputs},${width}].`,
    );
  expectShape("multiplyWeight: x", x.shape, [rows, width], `dy is [${dy.shape}], dWeight is [${outputs},${width}].`);
  const operands = operandType("multiplyWeight", dy, x);
  const sum = chunksOfRows(rows, [outputs, width], selected);
  // Matrix units add several rows at once: without the rows between them their sums would have other bits.
  const form = selected === null ? matrixFormFor(x.backend, "weight", operands, width) : null;
  inChunks(dWeight, [outputs, width], sum, (result, starts) => {
    if (form !== null) {
      matrixWeight(form, dy, x, result, sum);
      return;
    }
    const inFours = areInFours([width, rightWidth], [x, dy, result.tensor], [result.tensor]);
    const { tile, constants } = chooseTile(x.backend, "weight", operands, width, inFours);
    const params = { width, rightWidth, ...paramsOf(sum) };
    const bindings = { left: x, right: dy, starts: starts ?? dy.sliceRows(0, 0), result };
    run(kernelOf(weightKernels[operands], tile), bindings, params, { constants });
  });
}

/**
 * dBias (+)= Σ_t dy[t], in the same chunks as `multiplyWeight`.
 * @param dy     [T, O] f32
 * @param dBias  [O]
 * @param selected  as in `multiplyWeight`
 * @throws ShapeError when dBias is not [O]
 */
export function sumRows(dy: Tensor, dBias: GradientTarget, selected: SelectedRows | null = null): void {
  const [rows, width] = dy.shape;
  expectShape("sumRows: dBias", dBias.tensor.shape, [width], `dy is [${dy.shape}].`);
  const sum = chunksOfRows(rows, [width, 1], selected);
  inChunks(dBias, [width], sum, (partial, starts) =>
    run(sumRowsKernel, { x: dy, starts: starts ?? dy.sliceRows(0, 0), partial }, { width, ...paramsOf(sum) }),
  );
}

/** How the rows of a sum are cut into chunks. */
interface ChunkedSum {
  readonly chunks: number;
  /** Rows of each but the last. */
  readonly chunkRows: number;
  /** The first row of each chunk, and the number of rows; null if they follow from chunkRows. */
  readonly starts: Uint32Array | null; // [chunks + 1]
}

function paramsOf({ chunks, chunkRows, starts }: ChunkedSum) {
  return { chunks, chunkRows, hasStarts: starts === null ? 0 : 1 };
}

/**
 * Lets `body` write the sums of single chunks, [outputs, chunks · width], and adds them into the target; a single chunk
 * is written directly.
 */
function inChunks(
  target: GradientTarget,
  [outputs, width = 1]: readonly number[],
  { chunks, starts }: ChunkedSum,
  body: (partial: GradientTarget, starts: Tensor | null) => void,
): void {
  if (chunks === 1) {
    body(target, null);
    return;
  }
  const { backend, dtype } = target.tensor;
  scope(() => {
    const partial = empty(backend, [outputs, chunks * width], dtype, "partial sums");
    const list = starts && fromArray(backend, starts, [starts.length], "u32", "chunk starts");
    body({ tensor: partial, add: false }, list);
    run(sumChunksKernel, { partial, result: target }, { width, chunks });
  });
}

/**
 * Workgroups that keep a machine busy, least rows that are worth a workgroup, and elements in a row of partial sums.
 */
const enoughWorkgroups = 128;
const fewestChunkRows = 128;
const widestPartialRow = 4096;

/**
 * How the rows of a sum into [outputs, width] are cut. It depends on the shapes of the whole batch only, because it is part
 * of the result: a chunk of selected rows has those of the same chunk of all rows.
 */
function chunksOfRows(
  count: number,
  [outputs, width]: readonly [number, number],
  selected: SelectedRows | null,
): ChunkedSum {
  const rows = selected?.total ?? count;
  const tiles = Math.max(1, Math.ceil(outputs / 32) * Math.ceil(width / 32));
  const most = Math.max(1, Math.min(Math.floor(enoughWorkgroups / tiles), Math.floor(widestPartialRow / width)));
  const chunkRows = Math.max(fewestChunkRows, 8 * Math.ceil(rows / most / 8));
  const chunks = Math.max(1, Math.ceil(rows / chunkRows));
  if (selected === null || chunks === 1) return { chunks, chunkRows, starts: null };
  const starts = new Uint32Array(chunks + 1);
  for (const place of selected.places) starts[Math.floor(place / chunkRows) + 1]++;
  for (let chunk = 0; chunk < chunks; chunk++) starts[chunk + 1] += starts[chunk];
  return { chunks, chunkRows, starts };
}
