import type { NumberArray } from "../../dtype.ts";

export function warpScale(
  { logits, seen, warped }: { logits: NumberArray; seen: NumberArray; warped: NumberArray },
  params: {
    rows: number;
    columns: number;
    width: number;
    seenWidth: number;
    hasSeen: number;
    penalty: number;
    temperature: number;
  },
): void {
  const { rows, columns, width, seenWidth, hasSeen, penalty, temperature } = params;
  for (let row = 0; row < rows; row++)
    for (let v = 0; v < columns; v++) {
      let z = logits[row * width + v];
      const isSeen = hasSeen === 1 && ((seen[row * seenWidth + (v >>> 5)] >>> (v & 31)) & 1) === 1;
      if (isSeen) z = z > 0 ? z / penalty : z * penalty;
      warped[row * width + v] = z / temperature;
    }
}

export function warpCut(
  { warped }: { warped: NumberArray },
  {
    rows,
    columns,
    width,
    isCount,
    reach,
  }: { rows: number; columns: number; width: number; isCount: number; reach: number },
): void {
  for (let row = 0; row < rows; row++) {
    const own = warped.subarray(row * width, row * width + columns);
    // NaN has no order, and +∞ gives no probabilities: the sampler detects both and refuses.
    if (own.some((z) => Number.isNaN(z) || z === Number.POSITIVE_INFINITY)) continue;
    const descending = Array.from(own)
      .filter((z) => z !== Number.NEGATIVE_INFINITY)
      .sort((a, b) => b - a);
    const weights = descending.map((z) => (isCount === 1 ? 1 : Math.exp(z - descending[0])));
    const total = isCount === 1 ? 1 : weights.reduce((sum, weight) => sum + weight, 0);
    let reached = 0;
    let kept = 0;
    while (kept < descending.length && reached < reach * total) reached += weights[kept++];
    const least = kept === 0 ? Number.NEGATIVE_INFINITY : descending[kept - 1];
    for (let v = 0; v < columns; v++) if (own[v] < least) own[v] = Number.NEGATIVE_INFINITY;
  }
}
