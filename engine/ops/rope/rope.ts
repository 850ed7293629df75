// Rotary position embedding, in Hugging Face's layout of halves. Angles are computed on the host in float64: float32
// would give errors of up to 5e-4 at large positions.
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import type { GradientTarget, Run } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import { elementConstants, elementForm, elementVariants, elementWorkgroups } from "../elementwise/work-split.ts";
import * as cpu from "./rope.cpu.ts";

const ropeKernel = defineKernel({
  name: "rope",
  axes: { rows: "map" },
  bindings: {
    x: { access: "read", axis: "rows" },
    cos: { access: "read", axis: "rows" },
    sin: { access: "read", axis: "rows" },
    y: { access: "gradient", axis: "rows" },
  },
  /** `direction` 1 rotates forwards, −1 back: the gradient is the inverse rotation. */
  params: { heads: "u32", half: "u32", direction: "f32" },
  cpu: cpu.rope,
  wgsl: new URL("./rope.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.half, p.xBase, p.cosBase, p.sinBase, p.yBase),
  workgroups: ({ rows, heads, half }, constants) => elementWorkgroups(rows * heads * half, constants),
});

/** y (+)= x rotated: forwards by direction 1, back by −1. */
export function rotate(run: Run, x: Tensor, cos: Tensor, sin: Tensor, y: GradientTarget, direction: 1 | -1): void {
  run(ropeKernel, { x, cos, sin, y }, { heads: x.shape[1], half: x.shape[2] / 2, direction });
}

/** The op below `rope`. */
export const ropeOp = defineOp<"x" | "cos" | "sin", "y">({
  name: "rope",
  constants: ["cos", "sin"],
  shapes: ({ x, cos, sin }) => {
    expectRank("rope: x", x, "T, H, D");
    expectShape("rope: cos", cos, [x[0], x[2] / 2], "One angle per pair and token: [T, D/2].");
    expectShape("rope: sin", sin, [x[0], x[2] / 2], "One angle per pair and token: [T, D/2].");
    return { y: x };
  },
  forward: (run, { x, cos, sin }, { y }) => rotate(run, x, cos, sin, { tensor: y, add: false }, 1),
  vjp: (run, { cos, sin }, { y: dy }, d) => {
    if (d.x) rotate(run, dy, cos, sin, d.x, -1);
  },
});

/**
 * Rotates pairs (i, i + D/2) of each head by the token's angles:
 * y[i] = x[i]·cos − x[i+D/2]·sin,  y[i+D/2] = x[i+D/2]·cos + x[i]·sin.
 * @param x         [T, H, D] f32
 * @param cos, sin  [T, D/2], from `rotaryTables`
 * @returns         [T, H, D]
 * @throws ShapeError when the tables do not fit x
 * Source: Su et al. 2021; the layout is Hugging Face's.
 */
export function rope(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  return ropeOp({ x, cos, sin }, {}).y;
}

/** Tables made so far, by head size and theta: row p is for position p. */
const tables = new Map<string, { cos: Float64Array; sin: Float64Array; positions: number }>();

/**
 * Cosines and sines of position · theta^(−2i/D), in float64.
 * @param positions  [T], whole numbers from 0 on
 * @returns          [T · D/2] each
 * @throws ShapeError when a position is not a whole number from 0 on
 */
export function rotaryTables(
  positions: ArrayLike<number>,
  headSize: number,
  theta: number,
): { cos: Float64Array; sin: Float64Array } {
  const half = headSize / 2;
  let most = 0;
  for (let t = 0; t < positions.length; t++) {
    if (!(Number.isInteger(positions[t]) && positions[t] >= 0))
      throw new ShapeError(
        `rotaryTables: positions: token ${t}: expected a whole number from 0 on, got ${positions[t]}.`,
      );
    most = Math.max(most, positions[t] + 1);
  }
  const table = tableUpTo(most, half, theta);
  const cos = new Float64Array(positions.length * half);
  const sin = new Float64Array(positions.length * half);
  // Number by number: a view of each row would cost more than its few numbers.
  for (let t = 0, to = 0; t < positions.length; t++)
    for (let from = positions[t] * half, end = from + half; from < end; from++, to++) {
      cos[to] = table.cos[from];
      sin[to] = table.sin[from];
    }
  return { cos, sin };
}

function tableUpTo(positions: number, half: number, theta: number): { cos: Float64Array; sin: Float64Array } {
  const key = `${half} ${theta}`;
  const found = tables.get(key);
  if (found !== undefined && found.positions >= positions) return found;
  // Doubling the table avoids computing it again at each token of a growing answer.
  const size = Math.max(256, 2 ** Math.ceil(Math.log2(Math.max(positions, 1))));
  const cos = new Float64Array(size * half);
  const sin = new Float64Array(size * half);
  for (let i = 0; i < half; i++) {
    const frequency = theta ** (-i / half);
    for (let position = 0; position < size; position++) {
      cos[position * half + i] = Math.cos(position * frequency);
      sin[position * half + i] = Math.sin(position * frequency);
    }
  }
  const made = { cos, sin, positions: size };
  tables.set(key, made);
  return made;
}
