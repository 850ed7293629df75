// Perturbed weights: W(α, β) = W + α·s_δ·g_δ + β·s_η·g_η, in f32 from the stored W, left to right. The kernel draws the
// Gaussians again from their counters. It writes into a slot, in the layouts that the forward pass reads; W is not
// changed. A slot in f16 has panels alone: the same numbers, rounded to nearest.
//
// Kernels take a = α·s_δ and b = β·s_η. A coefficient of 0 leaves the weight as it is and draws nothing, so the centre
// of a grid is the checkpoint bit for bit, −0 included.
import { ShapeError } from "../../errors.ts";
import { type Constants, defineKernel } from "../../kernel.ts";
import { expectShape } from "../../op.ts";
import type { WeightTensors } from "../../parameters.ts";
import type { WordPair } from "../../random.ts";
import { run } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import { packPanels, panelShape } from "../matmul/matmul.ts";
import { directionFunctions, quadsTouched } from "./normals.ts";
import * as cpu from "./perturb.cpu.ts";

export const noiseParams = {
  rowSize: "u32",
  deltaKey0: "u32",
  deltaKey1: "u32",
  etaKey0: "u32",
  etaKey1: "u32",
  name0: "u32",
  name1: "u32",
  a: "f32",
  b: "f32",
  /** The weight's first row, if it is a part of a larger tensor: it has the Gaussians of that part. */
  firstRow: "u32",
} as const;

const perturbRowsKernel = defineKernel({
  name: "perturbRows",
  axes: { rows: "map" },
  bindings: { weight: { access: "read", axis: "rows" }, slot: { access: "write", axis: "rows" } },
  params: noiseParams,
  cpu: cpu.perturbRows,
  wgsl: new URL("./perturb-rows.wgsl", import.meta.url),
  uses: ["flat-workgroup", ...directionFunctions, "perturbed"],
  workgroups: ({ firstRow, rowsStart, rows, rowSize }) => [
    Math.ceil(quadsTouched(firstRow + rowsStart, rows, rowSize) / 64),
  ],
});

/** A grid of the panels that a cell of rows and a cell of panels have in common: the two are cut independently. */
function panelGrid(
  { rowsStart, rows, panelsStart, panels }: Record<"rowsStart" | "rows" | "panelsStart" | "panels", number>,
  { PANELS }: Constants,
): [number, number] {
  const start = Math.max(panelsStart, Math.floor(rowsStart / 8));
  const end = Math.min(panelsStart + panels, Math.ceil((rowsStart + rows) / 8));
  const shared = Math.max(0, end - start);
  const most = Number(PANELS);
  return [Math.min(shared, most), Math.ceil(shared / most)];
}

const perturbPanelsKernel = defineKernel({
  name: "perturbPanels",
  axes: { rows: "map", panels: "map" },
  bindings: { weight: { access: "read", axis: "rows" }, slot: { access: "write", axis: "panels" } },
  params: noiseParams,
  cpu: (bindings, params) => cpu.perturbPanels(bindings, params),
  wgsl: new URL("./perturb-panels.wgsl", import.meta.url),
  uses: [...directionFunctions, "perturbed"],
  /** Largest number of panels on the grid's second axis; further ones use its third axis. */
  constants: { PANELS: 8192 },
  workgroups: (cell, constants) => [Math.ceil((2 * cell.rowSize) / 64), ...panelGrid(cell, constants)],
});

const perturbHalfPanelsKernel = defineKernel({
  name: "perturbHalfPanels",
  axes: { rows: "map", panels: "map" },
  bindings: { weight: { access: "read", axis: "rows" }, slot: { access: "update", axis: "panels" } },
  params: noiseParams,
  cpu: cpu.perturbHalfPanels,
  wgsl: new URL("./perturb-half-panels.wgsl", import.meta.url),
  uses: [...directionFunctions, "perturbed", "halves", "kept-halves"],
  constants: { PANELS: 8192 },
  workgroups: (cell, constants) => [
    Math.ceil(((cell.rowSize % 4 === 0 ? 1 : 4) * cell.rowSize) / 64),
    ...panelGrid(cell, constants),
  ],
});

export interface Perturbation {
  readonly deltaKey: WordPair;
  readonly etaKey: WordPair;
  readonly nameWords: WordPair;
  /** α·s_δ and β·s_η, the coefficients of the plain Gaussians. */
  readonly a: number;
  readonly b: number;
  /** The weight's first row, if it is a part of a larger tensor; with panels a multiple of 8. Default 0. */
  readonly firstRow?: number;
}

/** The params of a perturbation of this weight. */
export function noiseOf(
  { rowSize, dtype }: Tensor,
  { deltaKey, etaKey, nameWords, firstRow = 0, ...own }: Perturbation,
): Record<keyof typeof noiseParams, number> {
  // As a device has them, on the plain backend too.
  const [a, b] = dtype === "f64" ? [own.a, own.b] : [own.a, own.b].map(Math.fround);
  return {
    ...{ rowSize, a, b, firstRow, name0: nameWords[0], name1: nameWords[1] },
    ...{ deltaKey0: deltaKey[0], deltaKey1: deltaKey[1], etaKey0: etaKey[0], etaKey1: etaKey[1] },
  };
}

/**
 * Writes (W + a·g_δ) + b·g_η into a slot, each step rounded once. Rows and panels get the same bits.
 * @param weight  [O, …] f32
 * @param slot    `rows` of W's shape, or `panels` [⌈O/8⌉, C, 8] with zeros past the last row, or both. f16 panels, without
 *                rows, get the numbers rounded to nearest; a number that f16 does not hold becomes NaN
 * @throws ShapeError when the slot's shapes do not fit
 */
export function perturbIntoSlot(weight: Tensor, slot: WeightTensors, perturbation: Perturbation): void {
  const { rows, panels } = slot;
  const { firstRow = 0 } = perturbation;
  const params = noiseOf(weight, perturbation);
  if (panels !== null && firstRow % 8 !== 0)
    throw new ShapeError(`perturbIntoSlot: firstRow: expected a multiple of 8 with panels, got ${firstRow}.`);
  if (panels !== null) expectPanels(weight, panels);
  if (panels?.dtype === "f16") {
    if (rows !== null) throw new ShapeError("perturbIntoSlot: expected f16 panels without rows, got both.");
    run(perturbHalfPanelsKernel, { weight, slot: panels }, params);
    return;
  }
  if (rows !== null) {
    expectShape("perturbIntoSlot: rows", rows.shape, weight.shape, "A slot holds a copy of the weight.");
    run(perturbRowsKernel, { weight, slot: rows }, params);
    // A copy costs less than drawing every number twice.
    if (panels !== null) packPanels(rows, panels);
  } else if (panels !== null) run(perturbPanelsKernel, { weight, slot: panels }, params);
}

function expectPanels({ shape }: Tensor, panels: Tensor): void {
  const why = `The weight is [${shape}], and a panel holds eight of its rows.`;
  if (shape.length !== 2) throw new ShapeError(`perturbIntoSlot: panels: expected none, got [${panels.shape}]. ${why}`);
  expectShape("perturbIntoSlot: panels", panels.shape, panelShape(shape[0], shape[1]), why);
}
