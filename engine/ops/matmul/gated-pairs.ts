// The gated product where no gradient needs its two products (gated-linear.ts): they are not stored. On lavapipe a store of four
// numbers costs as much as twenty multiply-adds of eight lanes, and the two products are two thirds of the stores.
import { defineKernel } from "../../kernel.ts";
import { areWhole, type GroupedRows, type Reached } from "../../row-tables.ts";
import { run } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import { areInFours } from "./bodies.ts";
import { slotBindings, slotParams } from "./contracts.ts";
import * as cpu from "./gated-pairs.cpu.ts";
import { fillPanels, joined } from "./joined.ts";
import { chooseTile, tiles } from "./tiles.ts";

const { vector } = tiles;
const tileRows = vector.rows(vector.constants);
/** Outputs of a workgroup: half of its tile's columns, once of each weight. */
const tileOutputs = vector.columns(vector.constants) / 2;

const contract = {
  axes: { rows: "map" },
  bindings: {
    left: { access: "read", axis: "rows" },
    right: { access: "read" },
    result: { access: "write", axis: "rows" },
  },
  params: { width: "u32", columns: "u32" },
} as const;
const body = {
  wgsl: new URL("./matmul-gated-pairs.wgsl", import.meta.url),
  uses: ["product", "operands-f32-fours", vector.file, "vector-pairs", "sigmoid"],
  constants: { ...vector.constants, Operand: "vec4f", Vector: "vec4f" },
};

const kernel = defineKernel({
  ...contract,
  ...body,
  name: "multiplyGatedPairs",
  cpu: cpu.multiplyGatedPairs,
  uses: [...body.uses, "all-rows"],
  workgroups: ({ rows, columns }) => [Math.ceil(rows / tileRows), Math.ceil(columns / tileOutputs), 1],
  flops: ({ rows, width, columns }) => 4 * rows * width * columns,
});

const slotsKernel = defineKernel({
  ...body,
  name: "multiplyGatedPairsSlots",
  axes: contract.axes,
  bindings: { ...contract.bindings, ...slotBindings },
  params: { ...contract.params, ...slotParams },
  cpu: cpu.multiplyGatedPairsSlots,
  uses: [...body.uses, "rows-of-slots"],
  constants: { ...body.constants, TILES: Object.keys(contract.bindings).length },
  workgroups: ({ tileCount, columns }) => [tileCount, Math.ceil(columns / tileOutputs), 1],
  flops: ({ rows, width, columns }) => 4 * rows * width * columns,
});

/** Whether this adapter multiplies so many rows by vector tiles; then the joined panels of both weights. */
function panelsInPairs(x: Tensor, panels: readonly [gate: Tensor, up: Tensor], y: Tensor, rows: number): Tensor | null {
  const right = joined(panels);
  if (right === null || !fillPanels(panels, [y, y]) || !areWhole([x, y])) return null;
  const isF32 = [x, right, y].every(({ dtype }) => dtype === "f32");
  if (!isF32 || !areInFours([x.rowSize, y.rowSize], [x, right, y])) return null;
  return chooseTile(x.backend, "forward", "f32", rows, true).tile === "vector" ? right : null;
}

/**
 * y = silu(x · Gᵀ) · (x · Uᵀ).
 * @param x       [T, C] f32
 * @param panels  of G and of U, [F/8, C, 8] each
 * @param y       [T, F], written
 * @returns       false, and nothing is done, if U does not follow G in memory, a tensor is cut or not in fours, F is no multiple
 *                of 8, or this adapter has other tiles
 */
export function multiplyGatedPairs(x: Tensor, panels: readonly [gate: Tensor, up: Tensor], y: Tensor): boolean {
  const right = panelsInPairs(x, panels, y, x.rows);
  if (right === null) return false;
  run(kernel, { left: x, right, result: y }, { width: x.rowSize, columns: y.rowSize });
  return true;
}

/** The same, each row with the weights of its grid point's slot. @param panels  those of slot 0 */
export function multiplyGatedPairsSlots(
  x: Tensor,
  [gate, up]: readonly [gate: Reached, up: Reached],
  y: Tensor,
  group: GroupedRows,
): boolean {
  if (gate.stride !== up.stride || gate.stride % 4 !== 0) return false;
  // If few rows belong to each point, lower tiles waste less. The mean: for one short point among long ones both products would
  // be stored for all, which is most of the memory of a pass and in no plan.
  const points = group.rows.filter(({ count }) => count > 0).length;
  const right = panelsInPairs(x, [gate.first, up.first], y, x.rows / Math.max(points, 1));
  const table = right && group.tables.tilesOf("linear", group.rows, x.rows, tileRows);
  if (right === null || table === null) return false;
  run(
    slotsKernel,
    { left: x, right, result: y, tiles: table.tiles },
    {
      ...{ width: x.rowSize, columns: y.rowSize },
      ...{ tileCount: table.count, rightStride: gate.stride, biasStride: 0 },
    },
  );
  return true;
}
