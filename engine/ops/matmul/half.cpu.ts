import type { NumberArray } from "../../dtype.ts";
import { f16ToF32, f32ToF16 } from "../../dtype-conversion.ts";

/** x in f16, rounded to nearest; ±∞ if x is not finite, +∞ for NaN */
export function roundedToHalf(x: number): number {
  const rounded = f16ToF32(f32ToF16(x));
  return Number.isNaN(rounded) ? Number.POSITIVE_INFINITY : rounded;
}

/** x in f16, rounded to nearest; NaN if f16 does not hold it */
export function keptHalf(x: number): number {
  const rounded = roundedToHalf(x);
  return Number.isFinite(rounded) ? rounded : Number.NaN;
}

/** half[i] = x[i] in f16, rounded to nearest; ±∞ if x[i] is not finite, +∞ for NaN */
export function toHalf(
  { x, half }: { x: NumberArray; half: NumberArray },
  { rows, rowSize }: { rows: number; rowSize: number },
): void {
  for (let i = 0; i < rows * rowSize; i++) half[i] = roundedToHalf(x[i]);
}
