// SwiGLU, the gated activation of Qwen2.5's MLP.
import { shouldRecord } from "../../autograd.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectShape } from "../../op.ts";
import type { OperandPrecision } from "../../parameters.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, type Tensor } from "../../tensor.ts";
import {
  elementConstants,
  elementForm,
  elementVariants,
  elementWorkgroups,
  roundsOf,
} from "../elementwise/work-split.ts";
import { writeHalf } from "../matmul/half.ts";
import * as cpu from "./swiglu.cpu.ts";

const forward = {
  axes: { rows: "map" },
  bindings: {
    gate: { access: "read", axis: "rows" },
    up: { access: "read", axis: "rows" },
    y: { access: "write", axis: "rows" },
  },
  params: { rowSize: "u32" },
  wgsl: new URL("./swiglu.wgsl", import.meta.url),
} as const;

const swigluKernel = defineKernel({
  ...forward,
  name: "swiglu",
  cpu: cpu.swiglu,
  uses: ["flat-workgroup", "sigmoid", "output-f32"],
  constants: { ...elementConstants, Stored: "Vector" },
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rows * p.rowSize, p.gateBase, p.upBase, p.yBase),
  workgroups: ({ rows, rowSize }, constants) => elementWorkgroups(rows * rowSize, constants),
});

/** For rows of whole fours. */
const swigluHalfKernel = defineKernel({
  ...forward,
  name: "swigluHalf",
  cpu: cpu.swigluHalf,
  uses: ["flat-workgroup", "sigmoid", "output-half-fours", "halves"],
  constants: { ...elementConstants, Stored: "vec2u" },
  variants: [{ ROUNDS: 1 }],
  form: (_, style) => ({ ROUNDS: roundsOf(style) }),
  workgroups: ({ rows, rowSize }, constants) => elementWorkgroups(rows * rowSize, constants),
});

export const swigluBackwardKernel = defineKernel({
  name: "swigluBackward",
  axes: { rows: "map" },
  bindings: {
    dy: { access: "read", axis: "rows" },
    gate: { access: "read", axis: "rows" },
    up: { access: "read", axis: "rows" },
    d: { access: "gradient", axis: "rows" },
  },
  /** Which gradient: 0 that of `gate`, 1 that of `up`. */
  params: { rowSize: "u32", which: "u32" },
  cpu: cpu.swigluBackward,
  wgsl: new URL("./swiglu-backward.wgsl", import.meta.url),
  uses: ["flat-workgroup", "sigmoid"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rows * p.rowSize, p.dyBase, p.gateBase, p.upBase, p.dBase),
  workgroups: ({ rows, rowSize }, constants) => elementWorkgroups(rows * rowSize, constants),
});

/** The op below `swiglu`. */
export const swigluOp = defineOp<"gate" | "up", "y">({
  name: "swiglu",
  shapes: ({ gate, up }) => {
    expectShape("swiglu: up", up, gate, "It is gated element by element.");
    return { y: gate };
  },
  forward: (runKernel, { gate, up }, { y }) => runKernel(swigluKernel, { gate, up, y }, { rowSize: gate.rowSize }),
  // s = 1 / (1 + e^(−gate));  dGate = dy · up · s · (1 + gate · (1 − s)),  dUp = dy · gate · s
  vjp: (runKernel, { gate, up }, { y: dy }, d) => {
    const { rowSize } = gate;
    if (d.gate) runKernel(swigluBackwardKernel, { dy, gate, up, d: d.gate }, { rowSize, which: 0 });
    if (d.up) runKernel(swigluBackwardKernel, { dy, gate, up, d: d.up }, { rowSize, which: 1 });
  },
});

/**
 * y = silu(gate) · up,  silu(x) = x / (1 + e^(−x)).
 * @param gate  [T, F] f32
 * @param up    [T, F]
 * @param output  f16: y is rounded to f16, for products alone, without gradient. Default: the type of gate
 * @returns     [T, F]
 * @throws ShapeError when the shapes differ
 * Source: Shazeer 2020.
 */
export function swiglu(gate: Tensor, up: Tensor, output: OperandPrecision = "f32"): Tensor {
  if (output === "f32") return swigluOp({ gate, up }, {}).y;
  if (shouldRecord([gate, up])) throw new Error("swiglu: a result in f16 has no gradient: run it under noGradient");
  expectShape("swiglu: up", up.shape, gate.shape, "It is gated element by element.");
  const y = empty(gate.backend, gate.shape, "f16", "swiglu.y");
  writeSwiglu({ gate, up, y });
  return y;
}

/**
 * y = silu(gate) · up, for code that has y already.
 * @param tensors  [T, F] each; gate and up f32, y f32 or f16, rounded to nearest
 */
export function writeSwiglu({ gate, up, y }: Record<"gate" | "up" | "y", Tensor>): void {
  const { rowSize } = gate;
  if (y.dtype !== "f16") {
    run(swigluKernel, { gate, up, y }, { rowSize });
    return;
  }
  const isDirect = [gate, up, y].every(
    ({ segments }) => rowSize % 4 === 0 && segments.every(({ base }) => base % 4 === 0),
  );
  if (isDirect) run(swigluHalfKernel, { gate, up, y }, { rowSize });
  else
    scope(() => {
      const single = empty(gate.backend, gate.shape, gate.dtype, "swiglu.y");
      run(swigluKernel, { gate, up, y: single }, { rowSize });
      writeHalf(single, y);
    });
}
