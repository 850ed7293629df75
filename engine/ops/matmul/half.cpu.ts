import type { NumberArray } from "../../dtype.ts";
import { f16ToF32, f32ToF16 } from "../../dtype-conversion.ts";

/** half[i] = x[i] in f16, rounded to nearest; ±∞ if x[i] is not finite, +∞ for NaN */
export function toHalf(
  { x, half }: { x: NumberArray; half: NumberArray },
  { rows, rowSize }: { rows: number; rowSize: number },
): void {
  for (let i = 0; i < rows * rowSize; i++) {
    const rounded = f16ToF32(f32ToF16(x[i]));
    half[i] = Number.isNaN(rounded) ? Number.POSITIVE_INFINITY : rounded;
  }
}
