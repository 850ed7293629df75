// The mean over each sequence of a packed batch, given back to every token of that sequence: for losses whose ratio
// belongs to a whole sequence (GSPO).
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectRank } from "../../op.ts";
import { type GradientTarget, run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, fromArray, type Tensor } from "../../tensor.ts";
import * as cpu from "./sequence-mean.cpu.ts";
import { tokensPerWorkgroup } from "./weighted-sum.ts";

const meansKernel = defineKernel({
  name: "sequenceMeans",
  axes: { sequences: "map", tokens: "reduce" },
  bindings: {
    x: { access: "read", axis: "tokens" },
    starts: { access: "read", axis: "sequences" },
    lengths: { access: "read", axis: "sequences" },
    means: { access: "gradient", axis: "sequences" },
  },
  cpu: cpu.sequenceMeans,
  wgsl: new URL("./sequence-means.wgsl", import.meta.url),
  uses: ["flat-workgroup", "tree-sum"],
  constants: { LANES: 64 },
  workgroups: ({ sequences }) => [sequences],
});

const spreadKernel = defineKernel({
  name: "spreadMeans",
  axes: { tokens: "map", sequences: "reduce" },
  bindings: {
    means: { access: "read", axis: "sequences" },
    sequenceOf: { access: "read", axis: "tokens" },
    y: { access: "gradient", axis: "tokens" },
  },
  cpu: cpu.spreadMeans,
  wgsl: new URL("./spread-means.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: ({ tokens }) => [Math.ceil(tokens / tokensPerWorkgroup)],
});

function meanOfSequences(x: Tensor, y: GradientTarget, lengths: readonly number[]): void {
  const starts = new Uint32Array(lengths.length);
  const sequenceOf = new Uint32Array(x.rows);
  let next = 0;
  for (const [s, length] of lengths.entries()) {
    starts[s] = next;
    sequenceOf.fill(s, next, next + length);
    next += length;
  }
  const list = (values: ArrayLike<number>, name: string): Tensor =>
    fromArray(x.backend, values, [values.length], "u32", `sequenceMean.${name}`);
  scope(() => {
    const means = empty(x.backend, [lengths.length], x.dtype, "sequenceMean.means");
    run(
      meansKernel,
      {
        x,
        starts: list(starts, "starts"),
        lengths: list(Uint32Array.from(lengths), "lengths"),
        means: { tensor: means, add: false },
      },
      {},
    );
    run(spreadKernel, { means, sequenceOf: list(sequenceOf, "sequenceOf"), y }, {});
  });
}

/** The op below `sequenceMean`. */
export const sequenceMeanOp = defineOp<"x", "y", never, { lengths: readonly number[] }>({
  name: "sequenceMean",
  shapes: ({ x }, { lengths }) => {
    expectRank("sequenceMean: x", x, "N");
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    if (tokens !== x[0])
      throw new ShapeError(`sequenceMean: lengths: expected numbers of tokens that sum to ${x[0]}, got ${tokens}.`);
    return { y: x };
  },
  forward: (_, { x }, { y }, { lengths }) => meanOfSequences(x, { tensor: y, add: false }, lengths),
  // Each x reaches every y of its sequence with 1 / length, so the gradient is the mean of dy.
  vjp: (_, __, { y: dy }, d, { lengths }) => {
    if (d.x) meanOfSequences(dy, d.x, lengths);
  },
});

/**
 * Mean over each sequence: y[t] = mean of x over the tokens of the sequence that t belongs to.
 * @param x        [N] f32, the sequences one after another
 * @param lengths  number of tokens of each sequence, which sum to N
 * @returns        [N]; the same bits wherever a sequence lies in the batch
 * @throws ShapeError when the lengths do not sum to N
 * Source: Zheng et al. 2025 (GSPO), eq. 7: the log of its ratio is this mean of log-ratios.
 */
export function sequenceMean(x: Tensor, lengths: readonly number[]): Tensor {
  return sequenceMeanOp({ x }, { lengths }).y;
}
