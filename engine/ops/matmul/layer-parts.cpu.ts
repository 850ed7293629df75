import type { NumberArray } from "../../dtype.ts";
import { rmsNorm } from "../rms-norm/rms-norm.cpu.ts";
import { ropeIntoCache } from "../rope/rope.cpu.ts";
import { swiglu } from "../swiglu/swiglu.cpu.ts";
import { multiplyForward } from "./matmul.cpu.ts";

const like = (array: NumberArray, length: number): NumberArray =>
  array instanceof Float64Array ? new Float64Array(length) : new Float32Array(length);

interface Layer {
  readonly rows: number;
  readonly width: number;
}

/** left · Wᵀ, from panels of W. */
function product(
  left: NumberArray,
  right: NumberArray,
  { rows, width, columns }: Layer & { readonly columns: number },
): NumberArray {
  const result = like(left, rows * columns);
  const own = { left, right, bias: left, residual: left, result };
  const panels = Math.ceil(columns / 8);
  multiplyForward(own, { ...{ rows, width, columns, panels, panelsStart: 0 }, hasBias: 0, hasResidual: 0 });
  return result;
}

function normalised(x: NumberArray, weight: NumberArray, { rows, width, eps }: Layer & { eps: number }): NumberArray {
  const y = like(x, rows * width);
  rmsNorm({ x, weight, y, inverseRms: like(x, rows) }, { rows, width, eps });
  return y;
}

/** a = x + mixed · Oᵀ,  h = rmsNorm(a),  y = a + (silu(h · Gᵀ) ⊙ (h · Uᵀ)) · Dᵀ */
export function afterAttention(
  b: Record<"mixed" | "x" | "output" | "gated" | "down" | "weight" | "scratch" | "y", NumberArray>,
  p: Layer & { mixedWidth: number; inner: number; eps: number },
): void {
  const { rows, width, inner } = p;
  const { x, y } = b;
  const output = product(b.mixed, b.output, { rows, width: p.mixedWidth, columns: width });
  for (let i = 0; i < rows * width; i++) y[i] = x[i] + output[i];
  const h = normalised(y, b.weight, p);
  const gate = product(h, b.gated, { rows, width, columns: inner });
  const up = product(h, b.gated.subarray(inner * width), { rows, width, columns: inner });
  const gated = like(x, rows * inner);
  swiglu({ gate, up, y: gated }, { rows, rowSize: inner });
  const down = product(gated, b.down, { rows, width: inner, columns: width });
  for (let i = 0; i < rows * width; i++) y[i] += down[i];
}

/** h = rmsNorm(x);  q, k, v = h · W_iᵀ + b_i;  q[t] = rope(q[t]) at the start of scratch,  keys[slots[t]] = rope(k[t]),  values[slots[t]] = v[t] */
export function beforeAttention(
  b: Record<"x" | "right" | "vectors" | "angles" | "slots" | "scratch" | "keys" | "values", NumberArray>,
  p: Layer & {
    eps: number;
    heads: number;
    keyHeads: number;
    half: number;
    norm: number;
    cosStart: number;
    sinStart: number;
    firstBias: number;
    secondBias: number;
    thirdBias: number;
    cacheSlots: number;
  },
): void {
  const { rows, width, heads, keyHeads, half } = p;
  const h = normalised(b.x, b.vectors.subarray(p.norm), p);
  let start = 0;
  const next = (columns: number, bias: number): NumberArray => {
    const result = like(b.x, rows * columns);
    const own = { left: h, right: b.right.subarray(start), bias: b.vectors.subarray(bias), residual: h, result };
    multiplyForward(own, {
      ...{ rows, width, columns, panels: columns / 8, panelsStart: 0, hasBias: 1, hasResidual: 0 },
    });
    start += columns * width;
    return result;
  };
  const q = next(heads * 2 * half, p.firstBias);
  const k = next(keyHeads * 2 * half, p.secondBias);
  const v = next(keyHeads * 2 * half, p.thirdBias);
  const [cos, sin] = [b.angles.subarray(p.cosStart), b.angles.subarray(p.sinStart)];
  ropeIntoCache(
    { ...b, q, k, v, cos, sin },
    { tokens: rows, cache: p.cacheSlots, cacheStart: 0, heads, keyHeads, half },
  );
  b.scratch.set(q);
}
