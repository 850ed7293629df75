// The linear layer: y = x · Wᵀ + b. Its three products are in matmul.ts. This file makes an op of them, for weights
// that are one tensor or one per grid point.
//
// Mixed precision. If a weight has copies in f16, all three products use f16 operands: x, W and dy are rounded to f16.
// Sums, bias, y, dx and dW stay f32, and so does the weight that the optimiser changes. x is rounded once for all
// layers that read it; the backward pass needs only that copy.
import { accumulateKernel } from "../../accumulate.ts";
import { noGradient, shouldRecord } from "../../autograd.ts";
import { ShapeError } from "../../errors.ts";
import { defineOp, expectShape } from "../../op.ts";
import {
  asParameter,
  type BatchRows,
  forEachGroup,
  hasHalfPanels,
  type Parameter,
  type SelectedRows,
  selectionOf,
  shapeOfParameter,
  sliceBatchRows,
  type WeightTensors,
} from "../../parameters.ts";
import { groupedRows, reach } from "../../row-tables.ts";
import type { GradientTarget } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, type Shape, type Tensor } from "../../tensor.ts";
import { multiplyForwardSlots } from "./grouped.ts";
import { toHalf } from "./half.ts";
import { multiplyForward, multiplyInput, multiplyWeight, packPanels, panelShape, sumRows } from "./matmul.ts";

/** Setting of ops with plain weights: which rows of a longer batch theirs are, for the order of sums over rows. */
export interface Selection {
  readonly selected?: SelectedRows | null;
}

/**
 * The op below `linear`, for plain weights. `panels` is the weight's forward copy; if it is absent, a temporary one is
 * made.
 */
export const linearOp = defineOp<"x" | "weight" | "panels" | "bias" | "residual", "y", never, Selection>({
  name: "linear",
  optional: ["panels", "bias", "residual"],
  constants: ["panels"],
  shapes: ({ x, weight, panels, bias, residual }) => {
    if (panels !== undefined)
      expectShape("linear: panels", panels, panelShape(weight[0], weight[1]), "They are a copy of the weight.");
    const y = checkShapes(x, weight, bias);
    if (residual !== undefined) expectShape("linear: residual", residual, y, "It is added to the product.");
    return { y };
  },
  forward: (_, { x, weight, panels, bias, residual }, { y }) =>
    multiplyByPanels(
      asMatrix(x),
      { rows: weight, panels: panels ?? null },
      bias ?? null,
      asMatrix(y),
      residual && asMatrix(residual),
    ),
  // dResidual = dy,  dx = dy · W,  dW = dyᵀ · x,  db = Σ_t dy[t]
  vjp: (run, { x, weight }, upstream, d, { selected = null }) => {
    const dy = asMatrix(upstream.y);
    if (d.residual) run(accumulateKernel, { x: upstream.y, y: d.residual }, { rowSize: upstream.y.rowSize, factor: 1 });
    if (d.x) multiplyInput(dy, weight, { tensor: asMatrix(d.x.tensor), add: d.x.add });
    if (d.weight) multiplyWeight(dy, asMatrix(x), d.weight, selected);
    if (d.bias) sumRows(dy, d.bias, selected);
  },
});

/** `linearOp` with f16 operands: xHalf, rows and panels are copies of x and weight, and are read in their place. */
export const mixedLinearOp = defineOp<
  "x" | "weight" | "xHalf" | "rows" | "panels" | "bias" | "residual",
  "y",
  never,
  Selection
>({
  name: "mixedLinear",
  optional: ["bias", "residual"],
  constants: ["xHalf", "rows", "panels"],
  shapes: ({ x, weight, xHalf, rows, panels, bias, residual }) => {
    expectShape("linear: xHalf", xHalf, x, "It is a copy of x.");
    expectCopies(weight, rows, panels);
    const y = checkShapes(x, weight, bias);
    if (residual !== undefined) expectShape("linear: residual", residual, y, "It is added to the product.");
    return { y };
  },
  forward: (_, { xHalf, panels, bias, residual }, { y }) =>
    multiplyForward(asMatrix(xHalf), panels, bias ?? null, asMatrix(y), residual && asMatrix(residual)),
  vjp: (run, { xHalf, rows }, upstream, d, { selected = null }) => {
    if (d.residual) run(accumulateKernel, { x: upstream.y, y: d.residual }, { rowSize: upstream.y.rowSize, factor: 1 });
    const layer = { dy: asMatrix(upstream.y), rows, dWeight: d.weight, dBias: d.bias };
    mixedGradients(layer, asMatrix(xHalf), d.x, selected);
  },
});

/** @throws ShapeError when rows and panels cannot be copies of a weight */
export function expectCopies(weight: Shape, rows: Shape, panels: Shape): void {
  expectShape("linear: rows", rows, weight, "They are a copy of the weight.");
  expectShape("linear: panels", panels, panelShape(weight[0], weight[1]), "They are a copy of the weight.");
}

/** A linear layer in mixed precision: its upstream gradient in f32, the copy of its weight, and the gradients that are wanted. */
interface MixedLayer {
  readonly dy: Tensor;
  readonly rows: Tensor;
  readonly dWeight?: GradientTarget;
  readonly dBias?: GradientTarget;
}

/** The gradients of a linear layer in mixed precision, with dy rounded to f16: dx = dy · W,  dW = dyᵀ · x,  db = Σ_t dy[t] */
export function mixedGradients(
  { dy, rows, dWeight, dBias }: MixedLayer,
  xHalf: Tensor,
  dx: GradientTarget | undefined,
  selected: SelectedRows | null,
): void {
  scope(() => {
    const dyHalf = toHalf(dy);
    if (dx) multiplyInput(dyHalf, rows, { tensor: asMatrix(dx.tensor), add: dx.add });
    if (dWeight) multiplyWeight(dyHalf, xHalf, dWeight, selected);
  });
  if (dBias) sumRows(dy, dBias, selected);
}

const halves = new WeakMap<Tensor, Tensor>();

/** x in f16: one copy for all layers that read x, as long as it is alive. */
export function halfOf(x: Tensor): Tensor {
  const found = halves.get(x);
  if (found !== undefined && !found.storage.isFreed) return found;
  const made = noGradient(() => toHalf(x));
  halves.set(x, made);
  return made;
}

export interface LinearOptions {
  /**
   * Set this if only linear layers read x (forward and backward) and this is the last one: in mixed precision x is then
   * freed, and only its f16 copy is kept. Default false.
   */
  isLastReader?: boolean;
  /** [..., O], added to the product: one dispatch less than `add`, with the same bits. Default: none. */
  residual?: Tensor;
}

/**
 * y = x · Wᵀ + b, or residual + (x · Wᵀ + b). Gradients flow to x, W, b and the residual with plain weights; perturbed
 * weights (slots) and weights in f16 panels are forward only.
 * @param x       [..., C] f32; or f16, if the weight is f16 panels. f32 is rounded to f16 for such a weight
 * @param weight  [O, C]
 * @param bias    [O]; null (the default) for none
 * @param rows    of the batch, leading axes of x flattened: which grid point each belongs to, or with plain weights which
 *                rows were selected; null (the default) for all rows of a batch with plain weights
 * @returns       [..., O] f32
 * @throws ShapeError when weight is not [O, C], bias not [O] or the residual not [..., O]
 */
export function linear(
  x: Tensor,
  weightGiven: Tensor | Parameter,
  biasGiven: Tensor | Parameter | null = null,
  rows: BatchRows = null,
  options: LinearOptions = {},
): Tensor {
  const weight = asParameter(weightGiven);
  const bias = biasGiven === null ? null : asParameter(biasGiven);
  const { residual = null } = options;
  if (weight.kind === "tensor" && (bias === null || bias.kind === "tensor")) {
    const given = { x, weight: weight.tensor, bias: bias?.tensor ?? null };
    const selected = selectionOf(rows);
    if (weight.half === undefined) return linearOp({ ...given, panels: weight.panels, residual }, { selected }).y;
    const { y } = mixedLinearOp({ ...given, ...weight.half, xHalf: halfOf(x), residual }, { selected });
    if (options.isLastReader) x.free();
    return y;
  }
  if (shouldRecord(residual === null ? [x] : [x, residual]))
    throw new Error("linear: perturbed weights have no gradient, nor have f16 panels: run it under noGradient");
  const y = empty(
    x.backend,
    checkShapes(x.shape, shapeOfParameter(weight), bias === null ? undefined : shapeOfParameter(bias)),
    x.dtype === "f16" ? "f32" : x.dtype,
    "linear.y",
  );
  const from = asMatrix(x);
  const to = asMatrix(y);
  if (residual !== null) expectShape("linear: residual", residual.shape, y.shape, "It is added to the product.");
  const added = residual && asMatrix(residual);
  const half = hasHalfPanels(weight) && from.dtype !== "f16" ? halfOf(from) : from;
  if (multiplyAllPoints(half, weight, bias, to, added, rows)) return y;
  if (weight.kind === "moved" || bias?.kind === "moved") {
    multiplyMoved(half, weight, bias, to, added, rows);
    return y;
  }
  const weights = groupsOf(weight, rows, from.rows);
  const biases = bias === null ? [] : groupsOf(bias, rows, from.rows);
  // A parameter without slots is one group of all rows, and goes with every group of the other parameter.
  (bias?.kind === "slots" ? biases : weights).forEach(({ start, count }, i) => {
    const own = weights[weight.kind === "slots" ? i : 0].tensors;
    const ownBias = bias === null ? null : biases[bias.kind === "slots" ? i : 0].tensors.rows;
    multiplyByPanels(
      half.sliceRows(start, count),
      own,
      ownBias,
      to.sliceRows(start, count),
      added?.sliceRows(start, count),
    );
  });
  return y;
}

/** All grid points in one dispatch; false, and nothing is done, if that is not possible. */
function multiplyAllPoints(
  x: Tensor,
  weight: Parameter,
  bias: Parameter | null,
  y: Tensor,
  residual: Tensor | null,
  rows: BatchRows,
): boolean {
  const group = groupedRows(rows, [weight, bias]);
  if (group === null) return false;
  const panels = reach(weight, "panels");
  const ownBias = bias === null ? null : reach(bias, "rows");
  if (panels === null || (bias !== null && ownBias === null)) return false;
  return multiplyForwardSlots(x, panels, ownBias, y, residual, group);
}

/** Point by point, with weights that are made for it and freed after it. */
function multiplyMoved(
  x: Tensor,
  weight: Parameter,
  bias: Parameter | null,
  y: Tensor,
  residual: Tensor | null,
  rows: BatchRows,
): void {
  forEachGroup("linear", weight, rows, x.rows, (own, first, total) => {
    const multiply = (ofBias: Tensor | null, start: number, count: number): void =>
      multiplyByPanels(
        x.sliceRows(start, count),
        own,
        ofBias,
        y.sliceRows(start, count),
        residual?.sliceRows(start, count),
      );
    if (bias === null) multiply(null, first, total);
    // The rows of this weight, which a plain weight has for all points.
    else
      forEachGroup(
        "linear",
        bias,
        sliceBatchRows(rows, { start: first, count: total }),
        total,
        (tensors, start, count) => multiply(tensors.rows, first + start, count),
      );
  });
}

/** y = residual + (x · Wᵀ + b), x and y as matrices. Makes panels if there are none. */
export function multiplyByPanels(
  x: Tensor,
  { rows: weight, panels }: WeightTensors,
  bias: Tensor | null,
  y: Tensor,
  residual: Tensor | null = null,
): void {
  if (panels !== null) {
    multiplyForward(x, panels, bias, y, residual);
    return;
  }
  if (weight === null) throw new Error("linear: this weight has neither rows nor panels");
  scope(() => {
    const packed = empty(weight.backend, panelShape(weight.rows, weight.rowSize), weight.dtype, "linear.panels");
    packPanels(weight, packed);
    multiplyForward(x, packed, bias, y, residual);
  });
}

/** The runs of rows that share their weights, with these. */
export function groupsOf(parameter: Parameter, rows: BatchRows, total: number) {
  const groups: { tensors: WeightTensors; start: number; count: number }[] = [];
  forEachGroup("linear", parameter, rows, total, (tensors, start, count) => groups.push({ tensors, start, count }));
  return groups;
}

/** [..., C] as [rows, C]. */
export function asMatrix(tensor: Tensor): Tensor {
  const width = tensor.shape[tensor.shape.length - 1];
  return tensor.shape.length === 2 ? tensor : tensor.view([tensor.size / width, width]);
}

/** The shape of y. @throws ShapeError when weight or bias does not fit x */
export function checkShapes(x: Shape, weight: Shape, bias: Shape | undefined): Shape {
  if (x.length < 2) throw new ShapeError(`linear: x: expected [..., C], got [${x}].`);
  const width = x[x.length - 1];
  expectShape("linear: weight", weight, [weight[0], width], "Its rows are as long as those of x.");
  if (bias !== undefined) expectShape("linear: bias", bias, [weight[0]], `weight is [${weight}].`);
  return [...x.slice(0, -1), weight[0]];
}
