// A weighted sum of a vector: how per-token quantities become a loss. The weights carry the normalisation, so that a batch
// may be cut into micro-batches in any way: their losses and gradients add up.
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import * as cpu from "./weighted-sum.cpu.ts";

/** Invocations of a workgroup in kernels that give each token one. */
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

/**
 * Weighted sum: y = Σ weights · x. The supervised loss is −Σ w · log p: log-probabilities with weights −w.
 * @param x        [N] f32
 * @param weights  [N] f32; a weight of 0 leaves its term out, even where x is NaN
 * @returns        y [1]
 * @throws ShapeError when weights is not [N]
 */
export const weightedSum = defineOp<"x" | "weights", "y">({
  name: "weightedSum",
  shapes: ({ x, weights }) => {
    expectRank("weightedSum: x", x, "N");
    expectShape("weightedSum: weights", weights, x, "There is one for each element of x.");
    return { y: [1] };
  },
  forward: (run, { x, weights }, { y }) =>
    run(weightedSumKernel, { x, weights, y: { tensor: y, add: false } }, { factor: 1 }),
  // dx = dy · weights, dweights = dy · x
  vjp: (run, { x, weights }, { y: dy }, d) => {
    if (d.x) run(weightedSumBackwardKernel, { weights, dy, dx: d.x }, {});
    if (d.weights) run(weightedSumBackwardKernel, { weights: x, dy, dx: d.weights }, {});
  },
});
