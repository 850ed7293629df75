// Cuts a map into stripes of neighbouring cells, each of which one worker measures together. The cut depends on the grid and
// the size alone, so a study that is handed out again has the same jobs.
import { type Grid, type GridCell, gridCells } from "../grid.ts";
import type { Stripe } from "./messages.ts";

/**
 * @param size      cells of a stripe
 * @param isWanted  whether a cell is to be measured
 * @param keyOf     its key (files/cell-key.ts)
 */
export function stripesOf(
  grid: Grid,
  slice: number,
  size: number,
  isWanted: (cell: GridCell) => boolean,
  keyOf: (cell: GridCell) => string,
): Stripe[] {
  const cells = gridCells(grid);
  const stripes: Stripe[] = [];
  for (let start = 0; start < cells.length; start += size) {
    const wanted = cells.slice(start, start + size).filter(isWanted);
    if (wanted.length > 0)
      stripes.push({
        schemaVersion: 1,
        slice,
        cells: wanted.map((cell) => ({ i: cell.i, j: cell.j, key: keyOf(cell) })),
        notBy: null,
      });
  }
  return stripes;
}
