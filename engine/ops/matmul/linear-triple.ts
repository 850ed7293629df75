// Three linear layers that read the same x, as query, key and value do: in one dispatch if the panels of their weights
// follow each other in memory.
import { shouldRecord } from "../../autograd.ts";
import { defineOp, expectShape } from "../../op.ts";
import {
  asParameter,
  type BatchRows,
  hasHalfPanels,
  type Parameter,
  selectionOf,
  shapeOfParameter,
} from "../../parameters.ts";
import { groupedRows, type Reached, reach } from "../../row-tables.ts";
import { empty, type Tensor } from "../../tensor.ts";
import { multiplyForwardSlots, multiplyTripleSlots } from "./grouped.ts";
import { multiplyTriple, type Triple } from "./joined.ts";
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
import { multiplyInput, multiplyWeight, sumRows } from "./matmul.ts";

type Inputs = "x" | `weight${0 | 1 | 2}` | `panels${0 | 1 | 2}` | `bias${0 | 1 | 2}`;

/** The op below `linearTriple`, for plain weights. `panels` are their forward copies; temporary ones are made if absent. */
export const linearTripleOp = defineOp<Inputs, "y0" | "y1" | "y2", never, Selection>({
  name: "linearTriple",
  optional: ["panels0", "panels1", "panels2", "bias0", "bias1", "bias2"],
  constants: ["panels0", "panels1", "panels2"],
  shapes: ({ x, weight0, weight1, weight2, bias0, bias1, bias2 }) => ({
    y0: checkShapes(x, weight0, bias0),
    y1: checkShapes(x, weight1, bias1),
    y2: checkShapes(x, weight2, bias2),
  }),
  forward: (_, given, { y0, y1, y2 }) => {
    const { weight0, weight1, weight2, panels0, panels1, panels2 } = given;
    const weights = [
      { rows: weight0, panels: panels0 ?? null },
      { rows: weight1, panels: panels1 ?? null },
      { rows: weight2, panels: panels2 ?? null },
    ] as const;
    const biases = [given.bias0 ?? null, given.bias1 ?? null, given.bias2 ?? null] as const;
    multiplyAll(asMatrix(given.x), weights, biases, [asMatrix(y0), asMatrix(y1), asMatrix(y2)]);
  },
  // As three linear layers in reverse: dx = dy2 · W2 + dy1 · W1 + dy0 · W0,  dW_i = dy_iᵀ · x,  db_i = Σ_t dy_i[t]
  vjp: (_, { x, weight0, weight1, weight2 }, { y0, y1, y2 }, d, { selected = null }) => {
    const layers = [
      { weight: weight2, dy: asMatrix(y2), dWeight: d.weight2, dBias: d.bias2 },
      { weight: weight1, dy: asMatrix(y1), dWeight: d.weight1, dBias: d.bias1 },
      { weight: weight0, dy: asMatrix(y0), dWeight: d.weight0, dBias: d.bias0 },
    ];
    for (const [i, { weight, dy, dWeight, dBias }] of layers.entries()) {
      if (d.x) multiplyInput(dy, weight, { tensor: asMatrix(d.x.tensor), add: d.x.add || i > 0 });
      if (dWeight) multiplyWeight(dy, asMatrix(x), dWeight, selected);
      if (dBias) sumRows(dy, dBias, selected);
    }
  },
});

type MixedInputs = "x" | "xHalf" | `${"weight" | "rows" | "panels" | "bias"}${0 | 1 | 2}`;

/**
 * `linearTripleOp` with f16 operands: xHalf, rows and panels are copies of x and the weights, and are read in their place.
 * Everything else is as in `mixedLinearOp`.
 */
export const mixedLinearTripleOp = defineOp<MixedInputs, "y0" | "y1" | "y2", never, Selection>({
  name: "mixedLinearTriple",
  optional: ["bias0", "bias1", "bias2"],
  constants: ["xHalf", "rows0", "rows1", "rows2", "panels0", "panels1", "panels2"],
  shapes: (given) => {
    const { x, weight0, weight1, weight2 } = given;
    expectShape("linear: xHalf", given.xHalf, x, "It is a copy of x.");
    expectCopies(weight0, given.rows0, given.panels0);
    expectCopies(weight1, given.rows1, given.panels1);
    expectCopies(weight2, given.rows2, given.panels2);
    return {
      y0: checkShapes(x, weight0, given.bias0),
      y1: checkShapes(x, weight1, given.bias1),
      y2: checkShapes(x, weight2, given.bias2),
    };
  },
  forward: (_, given, { y0, y1, y2 }) => {
    const weights = [
      { rows: null, panels: given.panels0 },
      { rows: null, panels: given.panels1 },
      { rows: null, panels: given.panels2 },
    ] as const;
    const biases = [given.bias0 ?? null, given.bias1 ?? null, given.bias2 ?? null] as const;
    multiplyAll(asMatrix(given.xHalf), weights, biases, [asMatrix(y0), asMatrix(y1), asMatrix(y2)]);
  },
  // As three linear layers in reverse.
  vjp: (_, { xHalf, rows0, rows1, rows2 }, { y0, y1, y2 }, d, { selected = null }) => {
    const layers = [
      { dy: asMatrix(y2), rows: rows2, dWeight: d.weight2, dBias: d.bias2 },
      { dy: asMatrix(y1), rows: rows1, dWeight: d.weight1, dBias: d.bias1 },
      { dy: asMatrix(y0), rows: rows0, dWeight: d.weight0, dBias: d.bias0 },
    ];
    for (const [i, layer] of layers.entries())
      mixedGradients(layer, asMatrix(xHalf), d.x && { ...d.x, add: d.x.add || i > 0 }, selected);
  },
});

/** y_i = x · W_iᵀ + b_i: one dispatch if weights and biases follow each other, else one per layer. */
function multiplyAll(
  x: Tensor,
  weights: Triple<{ rows: Tensor | null; panels: Tensor | null }>,
  biases: Triple<Tensor | null>,
  ys: Triple<Tensor>,
): void {
  const panels = [weights[0].panels, weights[1].panels, weights[2].panels] as const;
  if (isWhole(panels) && (isWhole(biases) || biases.every((bias) => bias === null)))
    if (multiplyTriple(x, panels, isWhole(biases) ? biases : null, ys)) return;
  weights.forEach((weight, i) => void multiplyByPanels(x, weight, biases[i], ys[i]));
}

function isWhole(triple: Triple<Tensor | null>): triple is Triple<Tensor> {
  return triple.every((tensor) => tensor !== null);
}

/**
 * Three linear layers of one x: y_i = x · W_iᵀ + b_i, with the bits of `linear`. One dispatch computes all three if their
 * panels follow each other in memory (a `group` of a ParameterArena) and each O_i is a multiple of 8. Gradients flow as in
 * `linear`.
 * @param x        [..., C] f32, or f16 for weights in f16 panels. In mixed precision it must have no other reader: it is freed
 * @param weights  [O_i, C]
 * @param biases   [O_i]
 * @param rows     as in `linear`
 * @returns        [..., O_i]
 * @throws ShapeError when a weight is not [O_i, C] or a bias not [O_i]
 */
export function linearTriple(
  x: Tensor,
  weights: Triple<Tensor | Parameter>,
  biases: Triple<Tensor | Parameter>,
  rows: BatchRows = null,
): Triple<Tensor> {
  const [w0, w1, w2] = weights.map(asParameter);
  const [b0, b1, b2] = biases.map(asParameter);
  const own = [w0, w1, w2];
  const all = [w0, w1, w2, b0, b1, b2];
  if (all.every((one) => one.kind === "tensor")) {
    const [weight0, weight1, weight2, bias0, bias1, bias2] = all.map(({ tensor }) => tensor);
    const given = { x, weight0, weight1, weight2, bias0, bias1, bias2 };
    const settings = { selected: selectionOf(rows) };
    const [half0, half1, half2] = all.map(({ half }) => half);
    if (half0 !== undefined && half1 !== undefined && half2 !== undefined) {
      const copies = { rows0: half0.rows, rows1: half1.rows, rows2: half2.rows, xHalf: halfOf(x) };
      const panels = { panels0: half0.panels, panels1: half1.panels, panels2: half2.panels };
      const { y0, y1, y2 } = mixedLinearTripleOp({ ...given, ...copies, ...panels }, settings);
      x.free();
      return [y0, y1, y2];
    }
    if (all.every(isPlain)) {
      const [panels0, panels1, panels2] = all.map(({ panels }) => panels);
      const { y0, y1, y2 } = linearTripleOp({ ...given, panels0, panels1, panels2 }, settings);
      return [y0, y1, y2];
    }
  }
  const inSlots = all.filter(({ kind }) => kind === "slots").length;
  const isHalf = own.some(hasHalfPanels);
  // One dispatch has operands of one type. Weights that exist only while a product reads them are made one by one.
  if (
    all.some(({ kind }) => kind === "moved") ||
    own.some(({ kind }) => kind === "tensor") ||
    ![0, all.length].includes(inSlots) ||
    isHalf !== own.every(hasHalfPanels)
  )
    return [linear(x, w0, b0, rows), linear(x, w1, b1, rows), linear(x, w2, b2, rows, { isLastReader: true })];
  if (shouldRecord([x]))
    throw new Error("linear: perturbed weights have no gradient, nor have f16 panels: run it under noGradient");
  const dtype = x.dtype === "f16" ? "f32" : x.dtype;
  const made = (weight: Parameter, bias: Parameter): Tensor =>
    empty(x.backend, checkShapes(x.shape, shapeOfParameter(weight), shapeOfParameter(bias)), dtype, "linear.y");
  const ys = [made(w0, b0), made(w1, b1), made(w2, b2)] as const;
  const given = asMatrix(x);
  const from = isHalf && given.dtype !== "f16" ? halfOf(given) : given;
  const group = groupedRows(rows, [w0, w1, w2, b0, b1, b2]);
  if (group !== null) {
    const panels = [reach(w0, "panels"), reach(w1, "panels"), reach(w2, "panels")] as const;
    const ofBias = [reach(b0, "rows"), reach(b1, "rows"), reach(b2, "rows")] as const;
    const to = [asMatrix(ys[0]), asMatrix(ys[1]), asMatrix(ys[2])] as const;
    if (isReached(panels) && isReached(ofBias)) {
      if (multiplyTripleSlots(from, panels, ofBias, to, group)) return ys;
      const isDone = panels.map((one, i) => multiplyForwardSlots(from, one, ofBias[i], to[i], null, group));
      if (isDone.every(Boolean)) return ys;
    }
  }
  const [g0, g1, g2, h0, h1, h2] = [w0, w1, w2, b0, b1, b2].map((parameter) => groupsOf(parameter, rows, from.rows));
  g0.forEach(({ start, count }, i) => {
    const cut = (y: Tensor): Tensor => asMatrix(y).sliceRows(start, count);
    multiplyAll(
      from.sliceRows(start, count),
      [g0[i].tensors, g1[i].tensors, g2[i].tensors],
      [h0[i].tensors.rows, h1[i].tensors.rows, h2[i].tensors.rows],
      [cut(ys[0]), cut(ys[1]), cut(ys[2])],
    );
  });
  return ys;
}

function isReached(triple: Triple<Reached | null>): triple is Triple<Reached> {
  return triple.every((one) => one !== null);
}

/** A plain weight that products read in f32. */
export function isPlain(parameter: Parameter): parameter is Parameter & { kind: "tensor" } {
  return parameter.kind === "tensor" && parameter.half === undefined;
}
