// Tables of maps: the numbers in a figure that is made of grid points.
import { csv, inOrder, type LandscapeMap, type MapPoint } from "./figure-data.ts";

export type Field = number | null | undefined;

/** The coordinates of every measured point: the first columns of every table of maps. */
const PLACE = ["step", "slice", "i", "j", "alpha", "beta"] as const;

/** A table of maps: every measured point, by step, slice, i, j, with these further columns. */
export function mapsCsv(
  maps: readonly LandscapeMap[],
  columns: readonly string[],
  fields: (map: LandscapeMap, point: MapPoint) => readonly Field[],
): string {
  const rows = inOrder(maps).flatMap((map) =>
    [...map.points]
      .sort((a, b) => a.i - b.i || a.j - b.j)
      .map((point) => [map.step, map.slice, point.i, point.j, point.alpha, point.beta, ...fields(map, point)]),
  );
  return csv([...PLACE, ...columns], rows);
}
