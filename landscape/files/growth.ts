// Maps that grow: a larger or finer grid that has the measured points, more prompts, or more rollouts. What a slice has
// measured is set aside in its folder `earlier`, under coordinates, before the larger settings are recorded. The sweep then
// makes every cell anew in its own order, computes what is not there, and deletes the folder. So a grown run folder has the
// bytes of a fresh one of that size. A process may be killed at any moment in this. part-growth.ts has what is measured besides
// maps.
import { existsSync } from "node:fs";
import { type OnDamage, RunFolderError } from "../../engine/host/index.ts";
import { configPath } from "../../rl/index.ts";
import type { StudySettings } from "../settings.ts";
import { type SlicePlace, sliceFolder, slicePaths } from "./layout.ts";
import { type Growth, grownParts, hasOther } from "./part-growth.ts";
import { readRunSettings } from "./run-settings.ts";
import { setAsideSlice } from "./set-aside.ts";

const hasLargerGrid = ({ before, after }: Growth): boolean =>
  (["points", "radius"] as const).some((name) => before.landscape[name] !== after.landscape[name]);

const growsMaps = (growth: Growth): boolean =>
  hasLargerGrid(growth) || hasOther(growth, "reference") || hasOther(growth, "rollouts");

/**
 * How the measurements of a folder grow with the new settings; null if none of them changes its place or size.
 * @throws RunFolderError when the folder holds a study with training and this is none, or the reverse; when the maps cannot
 *   grow now: for a shard's grid or lines, and while points are under way, whose rollouts have no coordinates
 */
export async function growthOf(folder: string, after: StudySettings): Promise<Growth | null> {
  if (!existsSync(configPath(folder))) return null;
  const before = await readRunSettings(folder);
  if (before.landscape.steps.length === 0) return null;
  if ((before.checkpoints.length === 0) !== (after.checkpoints.length === 0))
    throw new RunFolderError(
      before.checkpoints.length === 0
        ? `${folder}: this folder holds a study with its own training. Measure other checkpoints in another folder: --out OTHER`
        : `${folder}: this folder holds maps around given checkpoints (landscape/sweep.ts). Train in another folder: --out OTHER`,
    );
  const growth = { before, after };
  const parts = grownParts(folder, growth);
  if (!growsMaps(growth) && parts.length === 0) return null;
  if (after.shard !== "" && (hasLargerGrid(growth) || parts.some(({ isCut }) => isCut)))
    throw new RunFolderError(
      `${folder}: the grid and the lines of a shard cannot grow, because its part of the new ones has other points. Merge the ` +
        "shards first (node landscape/merge.ts) and grow the merged folder, or measure in another folder: --out OTHER",
    );
  const found = [
    ...(growsMaps(growth) ? placesOf(before).map((place) => slicePaths(sliceFolder(folder, place)).underWay) : []),
    ...parts.flatMap(({ underWay }) => underWay),
  ].find((path) => existsSync(path));
  if (found !== undefined)
    throw new RunFolderError(
      `${found}: grid points are under way, so the maps cannot grow now. Finish them with the settings that the folder has, or ` +
        "delete this file to measure these points again; then let the maps grow.",
    );
  return growth;
}

const placesOf = ({ landscape: { steps, slices } }: StudySettings): SlicePlace[] =>
  steps.flatMap((step) => Array.from({ length: slices }, (_, slice) => ({ step, slice })));

/**
 * Sets the measurements that grow aside. Calling it again changes nothing.
 * @param say  called with what cannot be read or kept; it is measured again
 */
export async function setAside(folder: string, growth: Growth, say: OnDamage): Promise<void> {
  if (growsMaps(growth))
    for (const place of placesOf(growth.before)) await setAsideSlice(sliceFolder(folder, place), say);
  for (const part of grownParts(folder, growth)) await part.setAside(say);
}
