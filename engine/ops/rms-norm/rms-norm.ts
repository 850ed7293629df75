// Root-mean-square normalisation.
//
// A row is summed in one of two orders, fixed per adapter. On software drivers one invocation sums the row from left to
// right, four columns at a time if the width allows, because lanes that share a row would only wait for each other. On
// GPUs a workgroup sums the row: each of LANES invocations takes every LANES-th column, then a tree reduction.
import { shouldRecord } from "../../autograd.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import {
  asParameter,
  type BatchRows,
  forEachGroup,
  type OperandPrecision,
  type Parameter,
  selectionOf,
  shapeOfParameter,
} from "../../parameters.ts";
import { areWhole, type GroupedRows, groupedRows, type Reached, reach } from "../../row-tables.ts";
import { type Run, run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, type Tensor } from "../../tensor.ts";
import { elementConstants, elementForm, elementVariants, elementWorkgroups } from "../elementwise/work-split.ts";
import { toHalf } from "../matmul/half.ts";
import type { Selection } from "../matmul/linear.ts";
import { sumRows } from "../matmul/matmul.ts";
import * as cpu from "./rms-norm.cpu.ts";

/** Rows per workgroup if an invocation sums a whole row. */
const rowsPerWorkgroup = 64;

/** Two kernels with the same bits: one reads a row number by number, the other in fours. */
function inEitherWidth<K>(define: (ending: "" | "Fours", inOrder: string) => K): { ones: K; fours: K } {
  return { ones: define("", "in-order"), fours: define("Fours", "in-order-fours") };
}

const forward = {
  axes: { rows: "map" },
  bindings: {
    x: { access: "read", axis: "rows" },
    weight: { access: "read" },
    y: { access: "write", axis: "rows" },
    inverseRms: { access: "write", axis: "rows" },
  },
  params: { width: "u32", eps: "f32" },
  cpu: cpu.rmsNorm,
} as const;
/** For rows of several slots: an entry of the table for each row (engine/row-tables.ts). */
const ofSlots = {
  ...forward,
  bindings: { ...forward.bindings, tiles: { access: "read" } },
  params: { ...forward.params, stride: "u32" },
  cpu: cpu.rmsNormSlots,
} as const;
const oneWeight = { name: "", uses: ["one-weight"], constants: {} };
const manySlots = { name: "Slots", uses: ["slot-of-row"], constants: { TILES: 4 } };

const byRow = (ending: "" | "Fours", inOrder: string, { name, uses, constants }: typeof oneWeight) => ({
  name: `rmsNorm${name}${ending}`,
  wgsl: new URL("./rms-norm.wgsl", import.meta.url),
  uses: ["flat-workgroup", inOrder, "output-f32", ...uses],
  constants: { Stored: "Vector", ...constants },
  workgroups: ({ rows }: { rows: number }): [number] => [Math.ceil(rows / rowsPerWorkgroup)],
});
const halvesByRow = ({ name, uses, constants }: typeof oneWeight) => ({
  name: `rmsNorm${name}FoursHalf`,
  wgsl: new URL("./rms-norm.wgsl", import.meta.url),
  uses: ["flat-workgroup", "in-order-fours", "output-half-fours", "halves", ...uses],
  constants: { Stored: "vec2u", ...constants },
  workgroups: ({ rows }: { rows: number }): [number] => [Math.ceil(rows / rowsPerWorkgroup)],
});
const byTree = (output: "f32" | "f16", { name, uses, constants }: typeof oneWeight) => ({
  name: `rmsNorm${name}Tree${output === "f16" ? "Half" : ""}`,
  wgsl: new URL("./rms-norm-tree.wgsl", import.meta.url),
  uses: [
    "flat-workgroup",
    "tree-sum",
    ...(output === "f16" ? ["tree-output-half", "halves"] : ["tree-output"]),
    ...uses,
  ],
  constants: { LANES: 64, Stored: output === "f16" ? "u32" : "f32", ...constants },
  workgroups: ({ rows }: { rows: number }): [number] => [rows],
});

const forwardByRow = inEitherWidth((ending, inOrder) =>
  defineKernel({ ...forward, ...byRow(ending, inOrder, oneWeight) }),
);
const halfByRow = defineKernel({ ...forward, cpu: cpu.rmsNormHalf, ...halvesByRow(oneWeight) });
const halfByTree = defineKernel({ ...forward, cpu: cpu.rmsNormHalf, ...byTree("f16", oneWeight) });
const forwardByTree = defineKernel({ ...forward, ...byTree("f32", oneWeight) });
const slotsByRow = inEitherWidth((ending, inOrder) =>
  defineKernel({ ...ofSlots, ...byRow(ending, inOrder, manySlots) }),
);
const slotsHalfByRow = defineKernel({ ...ofSlots, cpu: cpu.rmsNormSlotsHalf, ...halvesByRow(manySlots) });
const slotsHalfByTree = defineKernel({ ...ofSlots, cpu: cpu.rmsNormSlotsHalf, ...byTree("f16", manySlots) });
const slotsByTree = defineKernel({ ...ofSlots, ...byTree("f32", manySlots) });

const backwardX = {
  axes: { rows: "map" },
  bindings: {
    dy: { access: "read", axis: "rows" },
    x: { access: "read", axis: "rows" },
    weight: { access: "read" },
    inverseRms: { access: "read", axis: "rows" },
    dx: { access: "gradient", axis: "rows" },
  },
  params: { width: "u32" },
  cpu: cpu.rmsNormBackward,
} as const;
const backwardByRow = inEitherWidth((ending, inOrder) =>
  defineKernel({
    ...backwardX,
    name: `rmsNormBackward${ending}`,
    wgsl: new URL("./rms-norm-backward.wgsl", import.meta.url),
    uses: ["flat-workgroup", inOrder],
    workgroups: ({ rows }) => [Math.ceil(rows / rowsPerWorkgroup)],
  }),
);
const backwardByTree = defineKernel({
  ...backwardX,
  name: "rmsNormBackwardTree",
  wgsl: new URL("./rms-norm-backward-tree.wgsl", import.meta.url),
  uses: ["flat-workgroup", "tree-sum"],
  constants: { LANES: 64 },
  workgroups: ({ rows }) => [rows],
});

/** dy · x · inverseRms, whose column sums are the weight's gradient. */
const weightTermsKernel = defineKernel({
  name: "rmsNormWeightTerms",
  axes: { rows: "map" },
  bindings: {
    dy: { access: "read", axis: "rows" },
    x: { access: "read", axis: "rows" },
    inverseRms: { access: "read", axis: "rows" },
    terms: { access: "write", axis: "rows" },
  },
  params: { width: "u32" },
  cpu: cpu.rmsNormWeightTerms,
  wgsl: new URL("./rms-norm-weight-terms.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.width, p.dyBase, p.xBase, p.termsBase),
  workgroups: ({ rows, width }, constants) => elementWorkgroups(rows * width, constants),
});

/** The kernel for an adapter and for the alignment of these tensors' rows. */
function choose<K>(byRow: { ones: K; fours: K }, byTree: K, x: Tensor, ...others: readonly Tensor[]): K {
  const { style } = x.backend;
  if (style !== "lavapipe" && style !== "swiftshader") return byTree;
  const bases = [x, ...others].flatMap(({ segments }) => segments.map(({ base }) => base));
  return [x.rowSize, ...bases].every((place) => place % 4 === 0) ? byRow.fours : byRow.ones;
}

/** @param y  f32, or f16 if everything begins at multiples of four */
function normalise(runKernel: Run, x: Tensor, weight: Tensor, y: Tensor, inverseRms: Tensor, eps: number): void {
  const kernel =
    y.dtype === "f16"
      ? choose({ ones: halfByRow, fours: halfByRow }, halfByTree, x, weight, y)
      : choose(forwardByRow, forwardByTree, x, weight, y);
  runKernel(kernel, { x, weight, y, inverseRms }, { width: x.rowSize, eps });
}

/** The rows of all grid points in one dispatch; false, and nothing is done, if that is not possible. */
function normaliseSlots(
  x: Tensor,
  { first, stride }: Reached,
  y: Tensor,
  inverseRms: Tensor,
  eps: number,
  { rows, tables }: GroupedRows,
): boolean {
  if (!areWhole([x, y, inverseRms])) return false;
  const table = tables.tilesOf("rmsNorm", rows, x.rows, 1);
  if (table === null) return false;
  const inFours = stride % 4 === 0 ? slotsByRow : { ones: slotsByRow.ones, fours: slotsByRow.ones };
  const kernel =
    y.dtype === "f16"
      ? choose({ ones: slotsHalfByRow, fours: slotsHalfByRow }, slotsHalfByTree, x, first, y)
      : choose(inFours, slotsByTree, x, first, y);
  run(kernel, { x, weight: first, y, inverseRms, tiles: table.tiles }, { width: x.rowSize, eps, stride });
  return true;
}

/** The op below `rmsNorm`, for plain weights. */
export const rmsNormOp = defineOp<"x" | "weight", "y", "inverseRms", { eps: number } & Selection>({
  name: "rmsNorm",
  saved: ["inverseRms"],
  shapes: ({ x, weight }) => {
    expectRank("rmsNorm: x", x, "T, C");
    expectShape("rmsNorm: weight", weight, x.slice(-1), "It scales the last axis of x.");
    return { y: x, inverseRms: [x[0]] };
  },
  forward: (runKernel, { x, weight }, { y, inverseRms }, { eps }) =>
    normalise(runKernel, x, weight, y, inverseRms, eps),
  // dx = r · (dy·w − x · r² · mean(dy·w·x)),  dw = Σ_rows dy · x · r,  with r = inverseRms
  vjp: (runKernel, { x, weight, inverseRms }, { y: dy }, d, { selected = null }) => {
    const width = x.rowSize;
    if (d.x) {
      const kernel = choose(backwardByRow, backwardByTree, x, dy, weight, d.x.tensor);
      runKernel(kernel, { dy, x, weight, inverseRms, dx: d.x }, { width });
    }
    const target = d.weight;
    if (target === undefined) return;
    scope(() => {
      const terms = empty(x.backend, x.shape, x.dtype, "rmsNorm.terms");
      runKernel(weightTermsKernel, { dy, x, inverseRms, terms }, { width });
      sumRows(terms, target, selected);
    });
  },
});

/** Whether a norm of these rows can write f16 directly: words and fours must not be shared by two rows. */
function writesHalf(x: Tensor, weights: readonly (Tensor | null | undefined)[]): boolean {
  const bases = [x, ...weights].flatMap((tensor) => tensor?.segments.map(({ base }) => base) ?? []);
  return [x.rowSize, ...bases].every((place) => place % 4 === 0);
}

/**
 * Root-mean-square normalisation over the last axis: y = x · weight / sqrt(mean(x²) + eps).
 * @param x       [T, C] f32
 * @param weight  [C]; perturbed weights (slots) are forward only
 * @param rows    as in `linear`
 * @param output  f16: y is rounded to f16, for products alone, without gradient. Default: the type of x
 * @returns       [T, C]
 * @throws ShapeError when weight is not [C]
 * Source: Zhang & Sennrich 2019, eq. 4. Qwen2.5 sets eps = 1e-6.
 */
export function rmsNorm(
  x: Tensor,
  weightGiven: Tensor | Parameter,
  eps: number,
  rows: BatchRows = null,
  output: OperandPrecision = "f32",
): Tensor {
  const weight = asParameter(weightGiven);
  const isHalf = output === "f16";
  if (weight.kind === "tensor" && !isHalf)
    return rmsNormOp({ x, weight: weight.tensor }, { eps, selected: selectionOf(rows) }).y;
  if (shouldRecord(weight.kind === "tensor" ? [x, weight.tensor] : [x]))
    throw new Error("rmsNorm: perturbed weights have no gradient, nor have results in f16: run it under noGradient");
  expectShape("rmsNorm: weight", shapeOfParameter(weight), x.shape.slice(-1), "It scales the last axis of x.");
  const read: (Tensor | null)[] = [];
  forEachGroup("rmsNorm", weight, rows, x.rows, (own) => void read.push(own.rows));
  const isDirect = isHalf && writesHalf(x, read);
  const y = empty(x.backend, x.shape, isDirect ? "f16" : x.dtype, "rmsNorm.y");
  scope(() => {
    const inverseRms = empty(x.backend, [x.rows], x.dtype, "rmsNorm.inverseRms");
    const group = groupedRows(rows, [weight]);
    const reached = group === null ? null : reach(weight, "rows");
    if (group !== null && reached !== null && normaliseSlots(x, reached, y, inverseRms, eps, group)) return;
    forEachGroup("rmsNorm", weight, rows, x.rows, (own, start, count) => {
      if (own.rows === null) throw new Error("rmsNorm: the slot lacks the weight in Hugging Face's layout");
      const cut = (t: Tensor): Tensor => t.sliceRows(start, count);
      normalise(run, cut(x), own.rows, cut(y), cut(inverseRms), eps);
    });
  });
  if (!isHalf || isDirect) return y;
  const half = toHalf(y);
  y.free();
  return half;
}
