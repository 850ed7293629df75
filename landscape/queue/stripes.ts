// Cuts a map, rays, a line or another part into stripes of neighbouring points, each of which one worker measures together. The cut depends on the
// points and the size alone, so a study that is handed out again has the same jobs.
import type { PointPart } from "../files/point-parts.ts";
import type { PointPlace } from "../grid.ts";
import type { Stripe } from "./messages.ts";

/**
 * @param size      points of a stripe
 * @param isWanted  whether a point is to be measured
 * @param keyOf     its key (files/cell-key.ts)
 */
export function stripesOf(
  { name, neighbours }: Pick<PointPart, "name" | "neighbours">,
  size: number,
  isWanted: (cell: PointPlace) => boolean,
  keyOf: (cell: PointPlace) => string,
): Stripe[] {
  const stripes: Stripe[] = [];
  for (let start = 0; start < neighbours.length; start += size) {
    const wanted = neighbours.slice(start, start + size).filter(isWanted);
    if (wanted.length > 0)
      stripes.push({
        schemaVersion: 3,
        part: name,
        cells: wanted.map((cell) => ({
          ...{ i: cell.i, j: cell.j, scale: name === "fixed-kl" ? cell.alpha : null, key: keyOf(cell) },
        })),
        notBy: null,
      });
  }
  return stripes;
}
