import type { NumberArray } from "../../dtype.ts";
import { multiplyGatedSlots } from "./grouped.cpu.ts";
import { multiplyGated } from "./joined.cpu.ts";

type Bindings = Record<"left" | "right" | "result", NumberArray>;
interface Sizes {
  rows: number;
  width: number;
  columns: number;
}

/** Both products in arrays of their own, of the type of the result, which is their gated product. */
function withProducts<B extends Bindings>(bindings: B): B & Record<"up" | "y", NumberArray> {
  const { result } = bindings;
  return { ...bindings, result: result.slice(), up: result.slice(), y: result };
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
