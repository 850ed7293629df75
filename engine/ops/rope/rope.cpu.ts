import type { NumberArray } from "../../dtype.ts";

export function rope(
  { x, cos, sin, y }: { x: NumberArray; cos: NumberArray; sin: NumberArray; y: NumberArray },
  {
    rows,
    heads,
    half,
    direction,
    addToY,
  }: { rows: number; heads: number; half: number; direction: number; addToY: number },
): void {
  for (let t = 0; t < rows; t++)
    for (let head = 0; head < heads; head++)
      for (let i = 0; i < half; i++) {
        const low = (t * heads + head) * 2 * half + i;
        const high = low + half;
        const c = cos[t * half + i];
        const s = direction * sin[t * half + i];
        const rotated = [x[low] * c - x[high] * s, x[high] * c + x[low] * s];
        y[low] = (addToY ? y[low] : 0) + rotated[0];
        y[high] = (addToY ? y[high] : 0) + rotated[1];
      }
}
