import type { NumberArray } from "../../dtype.ts";
import { swiglu } from "../swiglu/swiglu.cpu.ts";
import { roundedToHalf } from "./half.cpu.ts";
import { multiplyForward } from "./matmul.cpu.ts";

/** y_i[t, o] = bias_i[o] + Σ_c left[t, c] · W_i[o, c] for three weights, whose panels follow each other in `right` */
export function multiplyTriple(
  b: Record<"left" | "right" | "bias" | "result" | "second" | "third", NumberArray>,
  p: {
    rows: number;
    width: number;
    hasBias: number;
    firstColumns: number;
    secondColumns: number;
    thirdColumns: number;
    firstBias: number;
    secondBias: number;
    thirdBias: number;
  },
): void {
  let firstPanel = 0;
  for (const [result, columns, bias] of [
    [b.result, p.firstColumns, p.firstBias],
    [b.second, p.secondColumns, p.secondBias],
    [b.third, p.thirdColumns, p.thirdBias],
  ] as const) {
    multiplyForward(
      {
        left: b.left,
        right: b.right.subarray(firstPanel * p.width * 8),
        bias: b.bias.subarray(bias),
        residual: b.left,
        result,
      },
      { ...p, columns, panels: columns / 8, panelsStart: 0, hasResidual: 0 },
    );
    firstPanel += columns / 8;
  }
}

/** result = left · Gᵀ (gate),  up = left · Uᵀ,  y = gate · sigmoid(gate) · up; panels of U follow those of G in `right` */
export function multiplyGated(
  b: Record<"left" | "right" | "result" | "up" | "y", NumberArray>,
  { rows, width, columns }: { rows: number; width: number; columns: number },
): void {
  for (let t = 0; t < rows; t++)
    for (let o = 0; o < columns; o++) {
      let [gate, up] = [0, 0];
      for (let c = 0; c < width; c++) {
        const place = ((o >> 3) * width + c) * 8 + (o & 7);
        gate += b.left[t * width + c] * b.right[place];
        up += b.left[t * width + c] * b.right[place + columns * width];
      }
      const y = t * columns + o;
      b.result[y] = gate;
      b.up[y] = up;
    }
  // From the stored products, so that arrays of f32 get the bits of separate kernels.
  swiglu({ gate: b.result, up: b.up, y: b.y }, { rows, rowSize: columns });
}

/** multiplyGated with y rounded to f16 */
export function multiplyGatedToHalf(...[b, p]: Parameters<typeof multiplyGated>): void {
  multiplyGated(b, p);
  for (let i = 0; i < p.rows * p.columns; i++) b.y[i] = roundedToHalf(b.y[i]);
}
