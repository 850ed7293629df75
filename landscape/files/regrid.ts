// A map that grows: measured cells keep their coordinates, and get the indices that these have on the larger grid. The
// order of the records stays, so rollouts.jsonl.gz stays as it is.
import { existsSync, renameSync, rmSync } from "node:fs";
import { explained, openJournal, RunFolderError, readJournal } from "../../engine/host/index.ts";
import { axis, type Grid } from "../grid.ts";
import { journalledCell } from "./cells.ts";
import { configPath, sliceFolder, slicePaths } from "./layout.ts";
import type { StudySettings } from "./run-folder.ts";
import { readRunSettings } from "./run-settings.ts";

/**
 * Rewrites the indices of a slice's cells if its grid has grown since they were measured. Calling it again changes nothing.
 * @param folder  the slice's
 * @throws RunFolderError when a cell is not on the grid
 */
export function regrid(folder: string, grid: Grid): void {
  const { cells: path } = slicePaths(folder);
  if (!existsSync(path)) return;
  const coordinates = axis(grid);
  const { records } = readJournal(path, journalledCell, () => {}); // opening it for writing says what is damaged
  const moved = records.map((cell) => ({
    ...cell,
    i: coordinates.indexOf(cell.alpha),
    j: coordinates.indexOf(cell.beta),
  }));
  const strange = moved.find(({ i, j }) => i < 0 || j < 0);
  if (strange !== undefined)
    throw new RunFolderError(
      `${path}: the cell at (${strange.alpha}, ${strange.beta}) is not on a grid of ${grid.points} points within ±${grid.radius}. ` +
        "Restore config.toml from a copy.",
    );
  if (moved.every(({ i, j }, index) => i === records[index].i && j === records[index].j)) return;
  const partial = `${path}.growing`;
  explained(path, () => rmSync(partial, { force: true }));
  const { journal } = openJournal(partial, journalledCell, () => {});
  try {
    for (const cell of moved) journal.append(cell);
  } finally {
    journal.close();
  }
  explained(path, () => renameSync(partial, path));
}

/**
 * Refuses to grow maps in the middle of a grid point: the rollouts that are kept of it have no coordinates.
 * @throws RunFolderError for a shard; when the grid differs from the one the folder was begun with, and grid points are under way
 */
export async function expectGrowable(folder: string, { shard, landscape }: StudySettings): Promise<void> {
  if (!existsSync(configPath(folder))) return;
  const before = (await readRunSettings(folder)).landscape;
  if (before.points === landscape.points && before.radius === landscape.radius) return;
  if (shard !== "")
    throw new RunFolderError(
      `${folder}: the grid of a shard cannot grow, because its part of the new grid has other cells. Merge the shards first ` +
        "(node landscape/merge.ts) and grow the merged folder, or measure the new grid in another folder: --out OTHER",
    );
  const found = before.steps
    .flatMap((step) => Array.from({ length: before.slices }, (_, slice) => ({ step, slice })))
    .map((place) => slicePaths(sliceFolder(folder, place)).underWay)
    .find((path) => existsSync(path));
  if (found !== undefined)
    throw new RunFolderError(
      `${found}: grid points are under way, so the grid cannot grow now. Finish them with the settings that the folder has, or ` +
        "delete this file to measure them again; then grow the grid.",
    );
}
