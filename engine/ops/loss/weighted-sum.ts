// A weighted sum of a vector: it turns per-token quantities into a loss. The weights contain the normalisation, so a
// batch may be cut into micro-batches in any way: their losses and gradients add up.
import { fillKernel } from "../../accumulate.ts";
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import { run } from "../../run.ts";
import { empty, type Tensor } from "../../tensor.ts";
import { scale } from "../elementwise/elementwise.ts";
import * as cpu from "./weighted-sum.cpu.ts";

/** Invocations per workgroup in kernels with one invocation per token. */
export const tokensPerWorkgroup = 256;

export const weightedSumKernel = defineKernel({
  name: "weightedSum",
  axes: { rows: "reduce" },
  bindings: {
    x: { access: "read", axis: "rows" },
    weights: { access: "read", axis: "rows" },
    y: { access: "gradient" },
  },
  params: { factor: "f32" },
  cpu: cpu.weightedSum,
  wgsl: new URL("./weighted-sum.wgsl", import.meta.url),
  uses: ["tree-sum"],
  constants: { LANES: 256 },
  workgroups: () => [1],
});

const weightedSumBackwardKernel = defineKernel({
  name: "weightedSumBackward",
  axes: { rows: "map" },
  bindings: {
    weights: { access: "read", axis: "rows" },
    dy: { access: "read" },
    dx: { access: "gradient", axis: "rows" },
  },
  cpu: cpu.weightedSumBackward,
  wgsl: new URL("./weighted-sum-backward.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: ({ rows }) => [Math.ceil(rows / tokensPerWorkgroup)],
});

/** The op below `weightedSum`. */
export const weightedSumOp = defineOp<"x" | "weights", "y">({
  name: "weightedSum",
  shapes: ({ x, weights }) => {
    expectRank("weightedSum: x", x, "N");
    expectShape("weightedSum: weights", weights, x, "There is one for each element of x.");
    return { y: [1] };
  },
  forward: (runKernel, { x, weights }, { y }) =>
    runKernel(weightedSumKernel, { x, weights, y: { tensor: y, add: false } }, { factor: 1 }),
  // dx = dy · weights, dweights = dy · x
  vjp: (runKernel, { x, weights }, { y: dy }, d) => {
    if (d.x) runKernel(weightedSumBackwardKernel, { weights, dy, dx: d.x }, {});
    if (d.weights) runKernel(weightedSumBackwardKernel, { weights: x, dy, dx: d.weights }, {});
  },
});

/**
 * Weighted sum: y = Σ weights · x. The supervised loss is −Σ w · log p: log-probabilities with weights −w.
 * @param x        [N] f32
 * @param weights  [N] f32; a weight of 0 leaves its term out, even if x is NaN
 * @returns        [1]
 * @throws ShapeError when weights is not [N]
 */
export function weightedSum(x: Tensor, weights: Tensor): Tensor {
  return weightedSumOp({ x, weights }, {}).y;
}

/**
 * Sum of all elements: y = Σ x.
 * @param x  [...] f32
 * @returns  [1]; 0 without elements
 */
export function sum(x: Tensor): Tensor {
  const ones = empty(x.backend, [x.size], x.dtype, "sum.ones");
  run(fillKernel, { y: ones }, { rowSize: 1, value: 1 });
  return weightedSum(x.view([x.size]), ones);
}

/**
 * Mean of all elements: y = Σ x / N.
 * @param x  [...] f32, of N elements
 * @returns  [1]
 * @throws ShapeError when there is no element
 */
export function mean(x: Tensor): Tensor {
  if (x.size === 0) throw new ShapeError(`mean: x: expected elements, got [${x.shape}].`);
  return scale(sum(x), 1 / x.size);
}
