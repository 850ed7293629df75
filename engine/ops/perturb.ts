// Perturbed weights: W'(α, β) = W + α·s_δ·g_δ + β·s_η·g_η, in f32 from the stored W, left to right, with the Gaussians drawn
// again from their counters in the kernel. It writes into a slot, in the layouts that the forward pass reads; W stays.
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { expectShape } from "../op.ts";
import type { WeightTensors } from "../parameters.ts";
import type { WordPair } from "../random.ts";
import { run } from "../run.ts";
import type { Tensor } from "../tensor.ts";
import { fillKernel } from "./accumulate.ts";
import { panelShape } from "./matmul.ts";
import * as cpu from "./perturb.cpu.ts";
import { quadsTouched } from "./random.ts";

const noiseParams = {
  rowSize: "u32",
  deltaKey0: "u32",
  deltaKey1: "u32",
  etaKey0: "u32",
  etaKey1: "u32",
  name0: "u32",
  name1: "u32",
  a: "f32",
  b: "f32",
} as const;

const perturbRowsKernel = defineKernel({
  name: "perturbRows",
  axes: { rows: "map" },
  bindings: { weight: { access: "read", axis: "rows" }, slot: { access: "write", axis: "rows" } },
  params: noiseParams,
  cpu: cpu.perturbRows,
  wgsl: new URL("./perturb-rows.wgsl", import.meta.url),
  uses: ["flat-workgroup", "philox", "random-values", "perturbed"],
  workgroups: ({ rowsStart, rows, rowSize }) => [Math.ceil(quadsTouched(rowsStart, rows, rowSize) / 64)],
});

const perturbPanelsKernel = defineKernel({
  name: "perturbPanels",
  axes: { rows: "map", panels: "map" },
  bindings: { weight: { access: "read", axis: "rows" }, slot: { access: "write", axis: "panels" } },
  params: noiseParams,
  cpu: cpu.perturbPanels,
  wgsl: new URL("./perturb-panels.wgsl", import.meta.url),
  uses: ["flat-workgroup", "philox", "random-values", "perturbed"],
  workgroups: ({ rowsStart, rows, panelsStart, panels, rowSize }) => {
    // Rows and panels are cut at places of their own; a cell does what the two have in common.
    const start = Math.max(rowsStart, panelsStart * 8);
    const end = Math.min(rowsStart + rows, (panelsStart + panels) * 8);
    return [end > start ? Math.ceil(quadsTouched(start, end - start, rowSize) / 64) : 0];
  },
});

const addDirectionsKernel = defineKernel({
  name: "addDirections",
  axes: { rows: "map" },
  bindings: {
    weight: { access: "read", axis: "rows" },
    delta: { access: "read", axis: "rows" },
    eta: { access: "read", axis: "rows" },
    slot: { access: "write", axis: "rows" },
  },
  params: { rowSize: "u32", a: "f32", b: "f32" },
  cpu: cpu.addDirections,
  wgsl: new URL("./perturb-add.wgsl", import.meta.url),
  uses: ["flat-workgroup", "perturbed"],
  workgroups: ({ rows, rowSize }) => [Math.ceil((rows * rowSize) / 64)],
});

export interface Perturbation {
  readonly deltaKey: WordPair;
  readonly etaKey: WordPair;
  readonly nameWords: WordPair;
  /** α·s_δ and β·s_η, the coefficients of the plain Gaussians. */
  readonly a: number;
  readonly b: number;
}

/**
 * Writes W + a·g_δ + b·g_η into a slot. a = b = 0 gives W bit for bit.
 * @param weight  [O, …] f32, fewer than 2³² elements
 * @param slot    `rows` of W's shape and/or `panels` [⌈O/8⌉, C, 8], which end in zeros where O is no multiple of 8
 * @throws ShapeError when the slot's shapes do not fit
 */
export function perturbIntoSlot(weight: Tensor, slot: WeightTensors, perturbation: Perturbation): void {
  const { deltaKey, etaKey, nameWords, a, b } = perturbation;
  const params = {
    rowSize: weight.rowSize,
    deltaKey0: deltaKey[0],
    deltaKey1: deltaKey[1],
    etaKey0: etaKey[0],
    etaKey1: etaKey[1],
    name0: nameWords[0],
    name1: nameWords[1],
    a,
    b,
  };
  if (slot.rows !== null) {
    expectShape("perturbIntoSlot: rows", slot.rows.shape, weight.shape, "A slot holds a copy of the weight.");
    run(perturbRowsKernel, { weight, slot: slot.rows }, params);
  }
  if (slot.panels !== null) {
    if (weight.shape.length !== 2) throw new ShapeError(`perturbIntoSlot: panels of [${weight.shape}]: a matrix has panels.`);
    const [outputs, inputs] = weight.shape;
    expectShape("perturbIntoSlot: panels", slot.panels.shape, panelShape(outputs, inputs), `The weight is [${weight.shape}].`);
    if (outputs % 8 !== 0) {
      const last = slot.panels.sliceRows(slot.panels.rows - 1, 1);
      run(fillKernel, { y: last }, { rowSize: last.rowSize, value: 0 });
    }
    run(perturbPanelsKernel, { weight, slot: slot.panels }, params);
  }
}

/**
 * The same with directions that are given as tensors (from a file, a gradient, a difference of checkpoints):
 * slot = (W + a·delta) + b·eta.
 * @param weight, delta, eta, slot  tensors of one shape
 */
export function perturbFromDirections(weight: Tensor, delta: Tensor, eta: Tensor, slot: Tensor, a: number, b: number): void {
  for (const [name, tensor] of Object.entries({ delta, eta, slot }))
    expectShape(`perturbFromDirections: ${name}`, tensor.shape, weight.shape, "Directions have the weight's shape.");
  run(addDirectionsKernel, { weight, delta, eta, slot }, { rowSize: weight.rowSize, a, b });
}
