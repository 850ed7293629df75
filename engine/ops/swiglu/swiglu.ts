// SwiGLU, the gated activation of Qwen2.5's MLP.
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectShape } from "../../op.ts";
import type { Tensor } from "../../tensor.ts";
import { elementConstants, elementForm, elementVariants, elementWorkgroups } from "../elementwise/work-split.ts";
import * as cpu from "./swiglu.cpu.ts";

export const swigluKernel = defineKernel({
  name: "swiglu",
  axes: { rows: "map" },
  bindings: {
    gate: { access: "read", axis: "rows" },
    up: { access: "read", axis: "rows" },
    y: { access: "write", axis: "rows" },
  },
  params: { rowSize: "u32" },
  cpu: cpu.swiglu,
  wgsl: new URL("./swiglu.wgsl", import.meta.url),
  uses: ["flat-workgroup", "sigmoid"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rows * p.rowSize, p.gateBase, p.upBase, p.yBase),
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
  forward: (run, { gate, up }, { y }) => run(swigluKernel, { gate, up, y }, { rowSize: gate.rowSize }),
  // s = 1 / (1 + e^(−gate));  dGate = dy · up · s · (1 + gate · (1 − s)),  dUp = dy · gate · s
  vjp: (run, { gate, up }, { y: dy }, d) => {
    const { rowSize } = gate;
    if (d.gate) run(swigluBackwardKernel, { dy, gate, up, d: d.gate }, { rowSize, which: 0 });
    if (d.up) run(swigluBackwardKernel, { dy, gate, up, d: d.up }, { rowSize, which: 1 });
  },
});

/**
 * y = silu(gate) · up,  silu(x) = x / (1 + e^(−x)).
 * @param gate  [T, F] f32
 * @param up    [T, F]
 * @returns     [T, F]
 * @throws ShapeError when the shapes differ
 * Source: Shazeer 2020.
 */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  return swigluOp({ gate, up }, {}).y;
}
