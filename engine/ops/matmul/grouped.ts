// Products of rows of several grid points, each with the weights of its point's slot, in one dispatch. The slots of a weight
// lie at equal distances in one buffer, and a table lists tiles of rows, none of which has rows of two points
// (engine/row-tables.ts). The tiles are those of the product with one weight (tiles.ts), so every row gets the same bits.
//
// Each function returns false, and does nothing, if one dispatch does not reach everything: if tensors are cut, slots lie in
// several buffers, or the table is too large for one. The caller then multiplies point by point.
import type { Backend } from "../../backends/backend.ts";
import { type Constants, defineKernel } from "../../kernel.ts";
import { expectShape } from "../../op.ts";
import { areWhole, type GroupedRows, type Reached } from "../../row-tables.ts";
import { run } from "../../run.ts";
import { spanOf, type Tensor } from "../../tensor.ts";
import {
  areInEights,
  areInFours,
  matrixFormFor,
  operandType,
  type RowKernels,
  type RowsBody,
  rowKernels,
} from "./bodies.ts";
import { forwardContract, gatedContract, slotBindings, slotParams, tripleContract } from "./contracts.ts";
import * as cpu from "./grouped.cpu.ts";
import { fillPanels, gatedOutputs, isFasterApart, joined, type Triple } from "./joined.ts";
import { panelShape } from "./matmul.ts";
import { tileRows } from "./matrix-tiles.ts";
import { chooseTile, type OperandType, rowClasses, type TileForm, tiles } from "./tiles.ts";

/** The number of the table's binding, which follows those of the plain kernel. */
const tableAfter = (bindings: object): Constants => ({ TILES: Object.keys(bindings).length });

function forwardKernel({ nameOf, uses, constants, variants, columns: columnsOf }: RowsBody) {
  return defineKernel({
    name: nameOf("ForwardSlots"),
    axes: forwardContract.axes,
    bindings: { ...forwardContract.bindings, ...slotBindings },
    params: { ...forwardContract.params, ...slotParams },
    cpu: cpu.multiplyForwardSlots,
    wgsl: new URL("./matmul-forward.wgsl", import.meta.url),
    uses: [...uses, "rows-of-slots"],
    constants: { ...constants, ...tableAfter(forwardContract.bindings) },
    variants,
    workgroups: ({ tileCount, panels }, own) => [tileCount, Math.ceil((panels * 8) / columnsOf(own)), 1],
    flops: ({ rows, panels, panelsStart, width, columns }) =>
      2 * rows * width * Math.min(panels * 8, columns - panelsStart * 8),
  });
}

function tripleKernel({ nameOf, uses, constants, variants, columns: columnsOf }: RowsBody) {
  return defineKernel({
    name: nameOf("TripleSlots"),
    axes: tripleContract.axes,
    bindings: { ...tripleContract.bindings, ...slotBindings },
    params: { ...tripleContract.params, ...slotParams },
    cpu: cpu.multiplyTripleSlots,
    wgsl: new URL("./matmul-triple.wgsl", import.meta.url),
    uses: [...uses, "rows-of-slots"],
    constants: { ...constants, ...tableAfter(tripleContract.bindings) },
    variants,
    workgroups: ({ tileCount, firstColumns, secondColumns, thirdColumns }, own) => [
      tileCount,
      Math.ceil((firstColumns + secondColumns + thirdColumns) / columnsOf(own)),
      1,
    ],
    flops: ({ rows, width, firstColumns, secondColumns, thirdColumns }) =>
      2 * rows * width * (firstColumns + secondColumns + thirdColumns),
  });
}

function gatedKernel(output: "f32" | "f16") {
  const { ending, uses: ofOutput, stored } = gatedOutputs[output];
  return ({ nameOf, uses, constants, variants, columns: columnsOf }: RowsBody) =>
    defineKernel({
      name: nameOf(`GatedSlots${ending}`),
      axes: gatedContract.axes,
      bindings: { ...gatedContract.bindings, ...slotBindings },
      params: { ...gatedContract.params, ...slotParams },
      cpu: output === "f32" ? cpu.multiplyGatedSlots : cpu.multiplyGatedSlotsToHalf,
      wgsl: new URL("./matmul-gated.wgsl", import.meta.url),
      uses: [...uses, "rows-of-slots", ...ofOutput],
      constants: {
        ...constants,
        ...tableAfter(gatedContract.bindings),
        Vector: constants["Result"],
        Stored: stored(String(constants["Result"])),
      },
      variants,
      workgroups: ({ tileCount, columns }, own) => [tileCount, Math.ceil(columns / columnsOf(own)), 1],
      flops: ({ rows, width, columns, products }) => 2 * rows * width * columns * products,
    });
}

const forwardKernels = rowKernels(forwardKernel);
const tripleKernels = rowKernels(tripleKernel);
const gatedKernels = {
  f32: rowKernels(gatedKernel("f32"), { inFours: true }),
  f16: rowKernels(gatedKernel("f16"), { inFours: true, onlyFours: true }),
};

/**
 * The time of a tile beyond its rows, in rows. A tile reads its weights once, however few rows it has: on lavapipe a tile of
 * 4 rows takes 1.2 times as long as one of 1, and one of 16 twice (column-tile.wgsl).
 */
const rowsPerTile = 12;

/** The tile that wastes least on these runs of rows: they are cut into its tiles one by one. */
function tileFor(
  backend: Backend,
  operands: OperandType,
  { rows }: GroupedRows,
  inFours: boolean,
): TileForm & { readonly height: number } {
  let best: (TileForm & { height: number }) | null = null;
  let least = Number.POSITIVE_INFINITY;
  const largest = rows.reduce((most, { count }) => Math.max(most, count), 1);
  for (const most of rowClasses) {
    const form = chooseTile(backend, "forward", operands, Math.min(most, largest), inFours);
    const { constants, rows: heightOf } = tiles[form.tile];
    const height = heightOf({ ...constants, ...form.constants });
    let count = 0;
    for (const run of rows) count += Math.ceil(run.count / height);
    const time = count * (height + rowsPerTile);
    if (time < least) {
      least = time;
      best = { ...form, height };
    }
    if (most >= largest) break;
  }
  if (best === null) throw new Error("matmul: no tile for these rows");
  return best;
}

/** A kernel for rows of slots, its constants, and the height of its tiles; null if these kernels lack the adapter's tile. */
function chooseSlotsKernel<K>(
  kernels: RowKernels<K>,
  x: Tensor,
  { first, stride }: Reached,
  group: GroupedRows,
  inFours: boolean,
): { readonly kernel: K; readonly constants: Constants; readonly height: number } | null {
  const operands = operandType("linear", x, first);
  const form = matrixFormFor(x.backend, "forward", operands, x.rows);
  if (form !== null) {
    const inEights = areInEights([x.rowSize], [x, first]) && stride % 8 === 0;
    return { kernel: inEights ? kernels.eights : kernels.halves, constants: form, height: tileRows(form) };
  }
  const { tile, constants, height } = tileFor(x.backend, operands, group, inFours);
  const kernel = kernels[operands].get(tile);
  return kernel === undefined ? null : { kernel, constants, height };
}

const isInFours = (reached: readonly (Reached | null)[]): boolean =>
  reached.every((one) => one === null || one.stride % 4 === 0);

/**
 * y = residual + (x · Wᵀ + b), each row with W and b of its grid point.
 * @param x         [T, C] f32 or f16
 * @param panels    [P, C, 8] of slot 0, of the type of x
 * @param bias      [O] of slot 0, or null for none
 * @param y         [T, O], written; ⌈O/8⌉ = P
 * @param residual  [T, O], or null for none
 * @throws ShapeError when the shapes do not match
 */
export function multiplyForwardSlots(
  x: Tensor,
  panels: Reached,
  bias: Reached | null,
  y: Tensor,
  residual: Tensor | null,
  group: GroupedRows,
): boolean {
  const [rows, width] = x.shape;
  const columns = y.rowSize;
  const right = panels.first;
  expectShape("linear: panels", right.shape, panelShape(columns, width), `x is [${x.shape}], y is [${y.shape}].`);
  if (!areWhole([x, right, y, ...(residual === null ? [] : [residual]), ...(bias === null ? [] : [bias.first])]))
    return false;
  const inFours =
    isInFours([panels]) && areInFours([width, columns], residual === null ? [x, right, y] : [x, right, y, residual]);
  const chosen = chooseSlotsKernel(forwardKernels, x, panels, group, inFours);
  const table = chosen && group.tables.tilesOf("linear", group.rows, rows, chosen.height);
  if (chosen === null || table === null) return false;
  run(
    chosen.kernel,
    // A binding needs some buffer even if there is no bias or no residual.
    {
      left: x,
      right,
      bias: bias?.first ?? right.sliceRows(0, 0),
      residual: residual ?? x,
      result: y,
      tiles: table.tiles,
    },
    {
      ...{ width, columns, hasBias: bias === null ? 0 : 1, hasResidual: residual === null ? 0 : 1 },
      ...{ tileCount: table.count, rightStride: panels.stride, biasStride: bias?.stride ?? 0 },
    },
    { constants: chosen.constants },
  );
  return true;
}

/**
 * y_i = x · W_iᵀ + b_i for three weights, each row with those of its grid point.
 * @param x       [T, C] f32 or f16
 * @param panels  [O_i/8, C, 8] of slot 0, of the type of x
 * @param biases  [O_i] of slot 0
 * @param ys      [T, O_i], written
 */
export function multiplyTripleSlots(
  x: Tensor,
  panels: Triple<Reached>,
  biases: Triple<Reached>,
  ys: Triple<Tensor>,
  group: GroupedRows,
): boolean {
  if (!haveOneStride(panels) || !haveOneStride(biases)) return false;
  const firsts = [panels[0].first, panels[1].first, panels[2].first] as const;
  const right = joined(firsts);
  const bias = spanOf([biases[0].first, biases[1].first, biases[2].first]);
  if (right === null || bias === null || !fillPanels(firsts, ys) || !areWhole([x, ...ys])) return false;
  if (isFasterApart("triple", x, right)) return false;
  const inFours = isInFours(panels) && areInFours([x.rowSize], [x, right, ...ys]);
  const chosen = chooseSlotsKernel(tripleKernels, x, { first: right, stride: panels[0].stride }, group, inFours);
  const table = chosen && group.tables.tilesOf("linear", group.rows, x.rows, chosen.height);
  if (chosen === null || table === null) return false;
  const [firstBias, secondBias, thirdBias] = bias.starts;
  run(
    chosen.kernel,
    { left: x, right, bias: bias.span, result: ys[0], second: ys[1], third: ys[2], tiles: table.tiles },
    {
      ...{ width: x.rowSize, hasBias: 1, firstBias, secondBias, thirdBias },
      ...{ firstColumns: ys[0].rowSize, secondColumns: ys[1].rowSize, thirdColumns: ys[2].rowSize },
      ...{ tileCount: table.count, rightStride: panels[0].stride, biasStride: biases[0].stride },
    },
    { constants: chosen.constants },
  );
  return true;
}

/**
 * gate = x · Gᵀ, up = x · Uᵀ, y = silu(gate) · up, each row with the weights of its grid point.
 * @param x           [T, C] f32 or f16
 * @param panels      of G and of U, [F/8, C, 8] of slot 0 each, of the type of x
 * @param gate, up, y [T, F], written; y as in `multiplyGated`
 */
export function multiplyGatedSlots(
  x: Tensor,
  panels: readonly [gate: Reached, up: Reached],
  { gate, up, y }: Record<"gate" | "up" | "y", Tensor>,
  group: GroupedRows,
): boolean {
  if (!haveOneStride(panels)) return false;
  const firsts = [panels[0].first, panels[1].first];
  const right = joined(firsts);
  if (right === null || !fillPanels(firsts, [gate, up]) || !areWhole([x, gate, up, y])) return false;
  if (isFasterApart("gated", x, right)) return false;
  const toFours = areInFours([], [gate, up, y]);
  // Matrix units store fours.
  if (x.dtype === "f16" && !toFours) return false;
  const inFours = toFours && isInFours(panels) && areInFours([x.rowSize], [x, right]);
  const kernels = gatedKernels[y.dtype === "f16" ? "f16" : "f32"];
  const chosen = chooseSlotsKernel(kernels, x, { first: right, stride: panels[0].stride }, group, inFours);
  const table = chosen && group.tables.tilesOf("linear", group.rows, x.rows, chosen.height);
  if (chosen === null || table === null) return false;
  run(
    chosen.kernel,
    { left: x, right, result: gate, up, y, tiles: table.tiles },
    {
      ...{ width: x.rowSize, columns: y.rowSize, products: 2 },
      ...{ tileCount: table.count, rightStride: panels[0].stride, biasStride: 0 },
    },
    { constants: chosen.constants },
  );
  return true;
}

function haveOneStride(reached: readonly Reached[]): boolean {
  return reached.every(({ stride }) => stride === reached[0].stride);
}
