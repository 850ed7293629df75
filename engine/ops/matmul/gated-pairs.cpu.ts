import type { NumberArray } from "../../dtype.ts";
import { multiplyGatedSlots } from "./grouped.cpu.ts";
import { multiplyGated } from "./joined.cpu.ts";

type Bindings = Record<"left" | "right" | "result", NumberArray>;
interface Sizes {
  rows: number;
  width: number;
  columns: number;
}

/** Both products in arrays of their own, of the type of the result. */
function withProducts<B extends Bindings>(bindings: B): B & Record<"gate" | "up", NumberArray> {
  return { ...bindings, gate: bindings.result.slice(), up: bindings.result.slice() };
}

/** multiplyGated without its products */
export function multiplyGatedPairs(bindings: Bindings, sizes: Sizes): void {
  multiplyGated(withProducts(bindings), sizes);
}

/** multiplyGatedSlots without its products */
export function multiplyGatedPairsSlots(
  bindings: Bindings & { tiles: NumberArray },
  sizes: Sizes & Pick<Parameters<typeof multiplyGatedSlots>[1], "tileCount" | "rightStride" | "biasStride">,
): void {
  multiplyGatedSlots(withProducts(bindings), sizes);
}
