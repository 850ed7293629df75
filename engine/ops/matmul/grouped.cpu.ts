import type { NumberArray } from "../../dtype.ts";
import { roundedToHalf } from "./half.cpu.ts";
import { multiplyGated, multiplyTriple } from "./joined.cpu.ts";
import { multiplyForward } from "./matmul.cpu.ts";

interface Tiles {
  tileCount: number;
  rightStride: number;
  biasStride: number;
}

/** Calls `body` for each tile: its first row and number of rows, and where its slot's weight and bias begin. */
function forEachTile(
  tiles: NumberArray,
  { tileCount, rightStride, biasStride }: Tiles,
  body: (first: number, rows: number, right: number, bias: number) => void,
): void {
  for (let i = 0; i < tileCount; i++) {
    const [first, rows, slot] = tiles.subarray(3 * i, 3 * i + 3);
    body(first, rows, slot * rightStride, slot * biasStride);
  }
}

/** multiplyForward, each tile's rows with the weight and bias of their slot */
export function multiplyForwardSlots(
  b: Record<"left" | "right" | "bias" | "residual" | "result" | "tiles", NumberArray>,
  p: Parameters<typeof multiplyForward>[1] & Tiles,
): void {
  forEachTile(b.tiles, p, (first, rows, right, bias) => {
    const own = {
      left: b.left.subarray(first * p.width),
      right: b.right.subarray(right),
      bias: b.bias.subarray(bias),
      residual: b.residual.subarray(first * p.columns),
      result: b.result.subarray(first * p.columns),
    };
    multiplyForward(own, { ...p, rows });
  });
}

/** multiplyTriple, each tile's rows with the weights and biases of their slot */
export function multiplyTripleSlots(
  b: Parameters<typeof multiplyTriple>[0] & { tiles: NumberArray },
  p: Parameters<typeof multiplyTriple>[1] & Tiles,
): void {
  forEachTile(b.tiles, p, (first, rows, right, bias) => {
    const own = {
      left: b.left.subarray(first * p.width),
      right: b.right.subarray(right),
      bias: b.bias.subarray(bias),
      result: b.result.subarray(first * p.firstColumns),
      second: b.second.subarray(first * p.secondColumns),
      third: b.third.subarray(first * p.thirdColumns),
    };
    multiplyTriple(own, { ...p, rows });
  });
}

/** multiplyGated, each tile's rows with the weights of their slot */
export function multiplyGatedSlots(
  b: Parameters<typeof multiplyGated>[0] & { tiles: NumberArray },
  p: Parameters<typeof multiplyGated>[1] & Tiles,
): void {
  forEachTile(b.tiles, p, (first, rows, right) => {
    const cut = (array: NumberArray): NumberArray => array.subarray(first * p.columns);
    const own = { left: b.left.subarray(first * p.width), right: b.right.subarray(right) };
    multiplyGated({ ...own, result: cut(b.result), up: cut(b.up), y: cut(b.y) }, { ...p, rows });
  });
}

/** multiplyGatedSlots with y rounded to f16 */
export function multiplyGatedSlotsToHalf(...[b, p]: Parameters<typeof multiplyGatedSlots>): void {
  multiplyGatedSlots(b, p);
  for (let i = 0; i < p.rows * p.columns; i++) b.y[i] = roundedToHalf(b.y[i]);
}
