// Two linear layers that read the same x, the first of which gates the second by SiLU: the first half of Qwen2.5's MLP.
// One dispatch computes both if the panels of their weights follow each other in memory.
import { shouldRecord } from "../../autograd.ts";
import { defineOp, expectShape } from "../../op.ts";
import {
  asParameter,
  type BatchRows,
  hasHalfPanels,
  type OperandPrecision,
  type Parameter,
  selectionOf,
  shapeOfParameter,
  type WeightTensors,
} from "../../parameters.ts";
import { groupedRows, reach } from "../../row-tables.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, type Tensor } from "../../tensor.ts";
import { swiglu, swigluBackwardKernel, writeSwiglu } from "../swiglu/swiglu.ts";
import { multiplyGatedPairs, multiplyGatedPairsSlots } from "./gated-pairs.ts";
import { multiplyForwardSlots, multiplyGatedSlots } from "./grouped.ts";
import { multiplyGated } from "./joined.ts";
import {
  asMatrix,
  checkShapes,
  expectCopies,
  groupsOf,
  halfOf,
  linear,
  mixedGradients,
  multiplyByPanels,
  type Selection,
} from "./linear.ts";
import { isPlain } from "./linear-triple.ts";
import { multiplyInput, multiplyWeight } from "./matmul.ts";

/**
 * The op below `gatedLinear`, for plain weights. `gatePanels` and `upPanels` are their forward copies; temporary ones are
 * made if absent. It saves both products, x · Gᵀ and x · Uᵀ.
 */
export const gatedLinearOp = defineOp<
  "x" | "gate" | "up" | "gatePanels" | "upPanels",
  "y",
  "gateProduct" | "upProduct",
  Selection
>({
  name: "gatedLinear",
  optional: ["gatePanels", "upPanels"],
  constants: ["gatePanels", "upPanels"],
  saved: ["gateProduct", "upProduct"],
  shapes: ({ x, gate, up }) => {
    expectShape("gatedLinear: up", up, gate, "It is gated element by element.");
    const y = checkShapes(x, gate, undefined);
    return { y, gateProduct: y, upProduct: y };
  },
  forward: (_, { x, gate, up, gatePanels, upPanels }, { y, gateProduct, upProduct }) =>
    multiplyBoth(
      asMatrix(x),
      { rows: gate, panels: gatePanels ?? null },
      { rows: up, panels: upPanels ?? null },
      { gate: asMatrix(gateProduct), up: asMatrix(upProduct), y: asMatrix(y) },
    ),
  // As swiglu and two linear layers in reverse: dx = dUp · U + dGate · G,  dU = dUpᵀ · x,  dG = dGateᵀ · x
  vjp: (_, { x, gate, up, gateProduct, upProduct }, { y: dy }, d, { selected = null }) =>
    scope(() => {
      const layers = [
        { weight: up, dWeight: d.up, which: 1 },
        { weight: gate, dWeight: d.gate, which: 0 },
      ] as const;
      for (const [i, { weight, dWeight, which }] of layers.entries()) {
        if (!d.x && !dWeight) continue;
        const dProduct = slopesOf(dy, gateProduct, upProduct, which);
        if (d.x) multiplyInput(dProduct, weight, { tensor: asMatrix(d.x.tensor), add: d.x.add || i > 0 });
        if (dWeight) multiplyWeight(dProduct, asMatrix(x), dWeight, selected);
      }
    }),
});

/** The gradient of one product, x · Gᵀ (0) or x · Uᵀ (1). */
function slopesOf(dy: Tensor, gateProduct: Tensor, upProduct: Tensor, which: 0 | 1): Tensor {
  const given = { dy: asMatrix(dy), gate: asMatrix(gateProduct), up: asMatrix(upProduct) };
  const made = empty(dy.backend, given.dy.shape, dy.dtype, "gatedLinear.gradient");
  run(swigluBackwardKernel, { ...given, d: { tensor: made, add: false } }, { rowSize: made.rowSize, which });
  return made;
}

/**
 * `gatedLinearOp` with f16 operands: xHalf, rows and panels are copies of x and the weights, and are read in their place.
 * Everything else is as in `mixedLinearOp`.
 */
export const mixedGatedLinearOp = defineOp<
  "x" | "gate" | "up" | "xHalf" | "gateRows" | "gatePanels" | "upRows" | "upPanels",
  "y",
  "gateProduct" | "upProduct",
  Selection
>({
  name: "mixedGatedLinear",
  constants: ["xHalf", "gateRows", "gatePanels", "upRows", "upPanels"],
  saved: ["gateProduct", "upProduct"],
  shapes: ({ x, gate, up, xHalf, gateRows, gatePanels, upRows, upPanels }) => {
    expectShape("linear: xHalf", xHalf, x, "It is a copy of x.");
    expectShape("gatedLinear: up", up, gate, "It is gated element by element.");
    expectCopies(gate, gateRows, gatePanels);
    expectCopies(up, upRows, upPanels);
    const y = checkShapes(x, gate, undefined);
    return { y, gateProduct: y, upProduct: y };
  },
  forward: (_, { xHalf, gatePanels, upPanels }, { y, gateProduct, upProduct }) =>
    multiplyBoth(
      asMatrix(xHalf),
      { rows: null, panels: gatePanels },
      { rows: null, panels: upPanels },
      { gate: asMatrix(gateProduct), up: asMatrix(upProduct), y: asMatrix(y) },
    ),
  vjp: (_, { xHalf, gateRows, upRows, gateProduct, upProduct }, { y: dy }, d, { selected = null }) => {
    const layers = [
      { rows: upRows, dWeight: d.up, which: 1 },
      { rows: gateRows, dWeight: d.gate, which: 0 },
    ] as const;
    for (const [i, { rows, dWeight, which }] of layers.entries()) {
      if (!d.x && !dWeight) continue;
      scope(() => {
        const layer = { dy: slopesOf(dy, gateProduct, upProduct, which), rows, dWeight };
        mixedGradients(layer, asMatrix(xHalf), d.x && { ...d.x, add: d.x.add || i > 0 }, selected);
      });
    }
  },
});

/** Both products and silu(gate) · up: one dispatch if the weights' panels follow each other, else three. */
function multiplyBoth(
  x: Tensor,
  gate: WeightTensors,
  up: WeightTensors,
  to: Record<"gate" | "up" | "y", Tensor>,
): void {
  if (gate.panels !== null && up.panels !== null && multiplyGated(x, [gate.panels, up.panels], to)) return;
  multiplyByPanels(x, gate, null, to.gate);
  multiplyByPanels(x, up, null, to.up);
  writeSwiglu(to);
}

/** All grid points in one dispatch, or in three; false if that is not possible. */
function multiplyAllPoints(
  x: Tensor,
  gate: Parameter,
  up: Parameter,
  to: Record<"gate" | "up" | "y", Tensor>,
  rows: BatchRows,
): boolean {
  const group = groupedRows(rows, [gate, up]);
  const [ofGate, ofUp] = [reach(gate, "panels"), reach(up, "panels")];
  if (group === null || ofGate === null || ofUp === null) return false;
  if (multiplyGatedSlots(x, [ofGate, ofUp], to, group)) return true;
  if (!multiplyForwardSlots(x, ofGate, null, to.gate, null, group)) return false;
  if (!multiplyForwardSlots(x, ofUp, null, to.up, null, group)) return false;
  writeSwiglu(to);
  return true;
}

type PlainParameter = Parameter & { kind: "tensor" };

/** Without a gradient, in one dispatch that stores neither product; null if this adapter, these weights or sizes have another kernel. */
function gatedWithoutProducts(x: Tensor, gate: PlainParameter, up: PlainParameter): Tensor | null {
  if (shouldRecord([x, gate.tensor, up.tensor]) || !gate.panels || !up.panels || x.dtype !== "f32") return null;
  expectShape("gatedLinear: up", up.tensor.shape, gate.tensor.shape, "It is gated element by element.");
  const y = empty(x.backend, checkShapes(x.shape, gate.tensor.shape, undefined), x.dtype, "gatedLinear.y");
  if (multiplyGatedPairs(asMatrix(x), [gate.panels, up.panels], asMatrix(y))) return y;
  y.free();
  return null;
}

/** The same for grid points; false, and nothing is done, if they have another kernel. */
function multiplyPointsInPairs(x: Tensor, gate: Parameter, up: Parameter, y: Tensor, rows: BatchRows): boolean {
  const group = groupedRows(rows, [gate, up]);
  const [ofGate, ofUp] = [reach(gate, "panels"), reach(up, "panels")];
  if (group === null || ofGate === null || ofUp === null) return false;
  return multiplyGatedPairsSlots(x, [ofGate, ofUp], y, group);
}

/**
 * y = silu(x · Gᵀ) · (x · Uᵀ), with the bits of `linear` and `swiglu`. One dispatch computes it if the panels of U follow
 * those of G in memory (a `group` of a ParameterArena) and F is a multiple of 8. Gradients flow to x and to plain weights;
 * perturbed weights (slots) are forward only.
 * @param x     [..., C] f32, or f16 for weights in f16 panels. In mixed precision it must have no other reader: it is freed
 * @param gate  [F, C], G
 * @param up    [F, C], U
 * @param rows  as in `linear`
 * @param operands  f16: with weights in f16 panels y is f16 too, the operand of the product that follows. Default f32
 * @returns     [..., F]
 * @throws ShapeError when gate or up is not [F, C]
 * Source: Shazeer 2020.
 */
export function gatedLinear(
  x: Tensor,
  gateGiven: Tensor | Parameter,
  upGiven: Tensor | Parameter,
  rows: BatchRows = null,
  operands: OperandPrecision = "f32",
): Tensor {
  const [gate, up] = [asParameter(gateGiven), asParameter(upGiven)];
  if (isPlain(gate) && isPlain(up)) {
    const direct = gatedWithoutProducts(x, gate, up);
    if (direct !== null) return direct;
    const panels = { gatePanels: gate.panels, upPanels: up.panels };
    return gatedLinearOp({ x, gate: gate.tensor, up: up.tensor, ...panels }, { selected: selectionOf(rows) }).y;
  }
  if (gate.kind === "tensor" && up.kind === "tensor" && gate.half !== undefined && up.half !== undefined) {
    const copies = {
      gateRows: gate.half.rows,
      gatePanels: gate.half.panels,
      upRows: up.half.rows,
      upPanels: up.half.panels,
    };
    const given = { x, gate: gate.tensor, up: up.tensor, xHalf: halfOf(x), ...copies };
    const { y } = mixedGatedLinearOp(given, { selected: selectionOf(rows) });
    x.free();
    return y;
  }
  const isHalf = hasHalfPanels(gate);
  // One dispatch has operands of one type. Weights that exist only while a product reads them are made one by one.
  if (gate.kind !== up.kind || gate.kind === "tensor" || gate.kind === "moved" || hasHalfPanels(up) !== isHalf) {
    const gateProduct = linear(x, gate, null, rows);
    return swiglu(gateProduct, linear(x, up, null, rows, { isLastReader: true }), operands);
  }
  if (shouldRecord([x]))
    throw new Error("linear: perturbed weights have no gradient, nor have f16 panels: run it under noGradient");
  expectShape("gatedLinear: up", shapeOfParameter(up), shapeOfParameter(gate), "It is gated element by element.");
  const dtype = x.dtype === "f16" ? "f32" : x.dtype;
  const shape = checkShapes(x.shape, shapeOfParameter(gate), undefined);
  const y = empty(x.backend, shape, isHalf && operands === "f16" ? "f16" : dtype, "gatedLinear.y");
  scope(() => {
    const given = asMatrix(x);
    const from = isHalf && given.dtype !== "f16" ? halfOf(given) : given;
    if (!isHalf && multiplyPointsInPairs(from, gate, up, asMatrix(y), rows)) return;
    const product = (rows: number): Tensor => empty(x.backend, [rows, asMatrix(y).rowSize], dtype);
    const isDone = scope(() => {
      const both = { gate: product(from.rows), up: product(from.rows), y: asMatrix(y) };
      return multiplyAllPoints(from, gate, up, both, rows);
    });
    if (isDone) return;
    const ups = groupsOf(up, rows, from.rows);
    groupsOf(gate, rows, from.rows).forEach(({ tensors, start, count }, i) => {
      const [part, result] = [from, asMatrix(y)].map((tensor) => tensor.sliceRows(start, count));
      const panels = [tensors.panels, ups[i].tensors.panels] as const;
      if (!isHalf && panels[0] && panels[1] && multiplyGatedPairs(part, [panels[0], panels[1]], result)) return;
      scope(() => multiplyBoth(part, tensors, ups[i].tensors, { gate: product(count), up: product(count), y: result }));
    });
  });
  return y;
}
