// Maps that grow: a larger or finer grid that has the measured points, more prompts, or more rollouts. What a slice has
// measured is set aside in its folder `earlier`, under coordinates, before the larger settings are recorded. The sweep then
// makes every cell anew in its own order, computes what is not there, and deletes the folder. So a grown run folder has the
// bytes of a fresh one of that size. A process may be killed at any moment in this.
import { existsSync, rmSync } from "node:fs";
import {
  countRecords,
  explained,
  MemberFile,
  type OnDamage,
  openJournal,
  RunFolderError,
  readJournal,
  readMembers,
} from "../../engine/host/index.ts";
import { writeFolderAtomically } from "../../model/index.ts";
import { configPath } from "../../rl/index.ts";
import type { StudySettings } from "../settings.ts";
import { type CellRecord, journalledCell } from "./cells.ts";
import { type SlicePlace, sliceFolder, slicePaths } from "./layout.ts";
import { readRunSettings } from "./run-settings.ts";

/** A grid point as it was measured before its map grew, with its conversations as lines of JSON. */
export interface EarlierCell {
  readonly record: CellRecord;
  readonly conversations: Buffer;
}

/** The place of a cell that stays the same when the grid grows. */
export const coordinatesOf = ({ alpha, beta }: { alpha: number; beta: number }): string => `${alpha},${beta}`;

/**
 * The settings that the maps of a folder have, if the new ones make the maps larger; else null.
 * @throws RunFolderError when the folder holds a study with training and this is none, or the reverse; when the maps cannot
 *   grow now: for a shard's grid, and while grid points are under way, whose rollouts have no coordinates
 */
export async function growthOf(folder: string, settings: StudySettings): Promise<StudySettings | null> {
  if (!existsSync(configPath(folder))) return null;
  const before = await readRunSettings(folder);
  if (before.landscape.steps.length === 0) return null;
  if ((before.checkpoints.length === 0) !== (settings.checkpoints.length === 0))
    throw new RunFolderError(
      before.checkpoints.length === 0
        ? `${folder}: this folder holds a study with its own training. Measure other checkpoints in another folder: --out OTHER`
        : `${folder}: this folder holds maps around given checkpoints (landscape/sweep.ts). Train in another folder: --out OTHER`,
    );
  const hasLargerGrid = (["points", "radius"] as const).some(
    (name) => before.landscape[name] !== settings.landscape[name],
  );
  const hasMore = (["reference", "rollouts"] as const).some((set) =>
    (["prompts", "rollouts"] as const).some((name) => before.landscape[set][name] !== settings.landscape[set][name]),
  );
  if (!hasLargerGrid && !hasMore) return null;
  if (hasLargerGrid && settings.shard !== "")
    throw new RunFolderError(
      `${folder}: the grid of a shard cannot grow, because its part of the new grid has other cells. Merge the shards first ` +
        "(node landscape/merge.ts) and grow the merged folder, or measure the new grid in another folder: --out OTHER",
    );
  const found = placesOf(before)
    .map((place) => slicePaths(sliceFolder(folder, place)).underWay)
    .find((path) => existsSync(path));
  if (found !== undefined)
    throw new RunFolderError(
      `${found}: grid points are under way, so the maps cannot grow now. Finish them with the settings that the folder has, or ` +
        "delete this file to measure these points again; then let the maps grow.",
    );
  return before;
}

const placesOf = ({ landscape: { steps, slices } }: StudySettings): SlicePlace[] =>
  steps.flatMap((step) => Array.from({ length: slices }, (_, slice) => ({ step, slice })));

/**
 * Sets the measured cells of all slices aside. Calling it again changes nothing.
 * @param before  the settings that they were measured with
 * @param say     called with cells that cannot be read; they are measured again
 */
export async function setAside(folder: string, before: StudySettings, say: OnDamage): Promise<void> {
  for (const place of placesOf(before)) await setAsideSlice(sliceFolder(folder, place), say);
}

/** As `setAside`, for one slice. @param own  its folder */
export async function setAsideSlice(own: string, say: OnDamage): Promise<void> {
  const paths = slicePaths(own);
  if (!existsSync(paths.cells)) return;
  const cells = new Map([...readEarlier(own, say), ...cellsIn(own, say)]);
  await writeFolderAtomically(paths.earlier, async (earlier) => {
    const to = slicePaths(earlier);
    const { journal } = openJournal(to.cells, journalledCell, say);
    const { members } = MemberFile.open(to.conversations, [], say);
    try {
      for (const { record, conversations } of cells.values())
        journal.append({ ...record, conversationBytes: members.append(conversations) });
    } finally {
      journal.close();
      members.close();
    }
  });
  for (const path of [paths.cells, paths.conversations, paths.points, paths.summary])
    explained(path, () => rmSync(path, { force: true }));
}

/** The cells of a slice that were set aside, by coordinates. @param folder  the slice's */
export function readEarlier(folder: string, say: OnDamage): Map<string, EarlierCell> {
  return cellsIn(slicePaths(folder).earlier, say);
}

function cellsIn(folder: string, say: OnDamage): Map<string, EarlierCell> {
  const paths = slicePaths(folder);
  if (!existsSync(paths.cells)) return new Map();
  const { records } = readJournal(paths.cells, journalledCell, say);
  const members = readMembers(
    paths.conversations,
    records.map(({ conversationBytes }) => conversationBytes),
  );
  const found = new Map<string, EarlierCell>();
  for (const [index, { conversationBytes: _, ...record }] of records.entries()) {
    const { content } = members[index];
    if (content !== null) found.set(coordinatesOf(record), { record, conversations: content });
    else
      say(
        `${paths.conversations}: the conversations of cell (${record.i}, ${record.j}) cannot be read. It is measured again.`,
      );
  }
  return found;
}

/** How many cells of a slice were set aside, judged by the checksums alone. */
export function countEarlier(folder: string, place: SlicePlace): number {
  const { cells } = slicePaths(slicePaths(sliceFolder(folder, place)).earlier);
  return existsSync(cells) ? countRecords(cells) : 0;
}

/** Deletes what was set aside, once the slice is complete. */
export function dropEarlier(folder: string): void {
  const { earlier } = slicePaths(folder);
  explained(earlier, () => rmSync(earlier, { recursive: true, force: true }));
}
