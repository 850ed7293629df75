// Softmax and its logarithm over the last axis, whole rows at once. The model itself never calls them (attention and
// head compute their own); these are the plain forms that those are checked against.
import { defineKernel } from "../../kernel.ts";
import { defineOp } from "../../op.ts";
import type { Run } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import * as cpu from "./softmax.cpu.ts";

const softmaxKernel = defineKernel({
  name: "softmax",
  axes: { rows: "map" },
  bindings: { x: { access: "read", axis: "rows" }, y: { access: "write", axis: "rows" } },
  /** isLog 1: log-softmax. `inner` rows of `width` in each row of the tensor. */
  params: { inner: "u32", width: "u32", isLog: "u32" },
  cpu: cpu.softmax,
  wgsl: new URL("./softmax.wgsl", import.meta.url),
  uses: ["flat-workgroup", "is-finite"],
  workgroups: ({ rows, inner }) => [Math.ceil((rows * inner) / 64)],
});

const softmaxBackwardKernel = defineKernel({
  name: "softmaxBackward",
  axes: { rows: "map" },
  bindings: {
    dy: { access: "read", axis: "rows" },
    y: { access: "read", axis: "rows" },
    dx: { access: "gradient", axis: "rows" },
  },
  params: { inner: "u32", width: "u32", isLog: "u32" },
  cpu: cpu.softmaxBackward,
  wgsl: new URL("./softmax-backward.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: ({ rows, inner }) => [Math.ceil((rows * inner) / 64)],
});

function extent(x: Tensor): { inner: number; width: number } {
  const width = x.shape.length < 2 ? x.size : x.shape[x.shape.length - 1];
  return { inner: x.shape.length < 2 ? 1 : x.rowSize / Math.max(width, 1), width };
}

function defineSoftmax(name: string, isLog: 0 | 1) {
  return defineOp<"x", "y">({
    name,
    shapes: ({ x }) => ({ y: x }),
    forward: (run: Run, { x }, { y }) => run(softmaxKernel, { x, y }, { ...extent(x), isLog }),
    // softmax: dx = y · (dy − Σ dy·y);  log-softmax: dx = dy − e^y · Σ dy
    vjp: (run, { x, y }, { y: dy }, d) => {
      if (d.x) run(softmaxBackwardKernel, { dy, y, dx: d.x }, { ...extent(x), isLog });
    },
  });
}

/** The ops below `softmax` and `logSoftmax`. */
export const softmaxOp = defineSoftmax("softmax", 0);
export const logSoftmaxOp = defineSoftmax("logSoftmax", 1);

/**
 * Softmax over the last axis: y = e^(x − max) / Σ e^(x − max).
 * @param x  [..., V] f32
 * @returns  [..., V]
 */
export function softmax(x: Tensor): Tensor {
  return softmaxOp({ x }, {}).y;
}

/**
 * Log-softmax over the last axis: y = x − max − ln Σ e^(x − max).
 * @param x  [..., V] f32
 * @returns  [..., V]
 */
export function logSoftmax(x: Tensor): Tensor {
  return logSoftmaxOp({ x }, {}).y;
}
