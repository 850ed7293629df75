// Measured points that are set aside in the folder `earlier` of a slice, of rays or of a line, by places that stay the same when the
// folder's points become more (growth.ts) or are in another order (arrived-cells.ts).
import { existsSync, rmSync } from "node:fs";
import type { z } from "zod";
import {
  countRecords,
  explained,
  MemberFile,
  type OnDamage,
  openJournal,
  readJournal,
  readMembers,
  writeJournal,
} from "../../engine/host/index.ts";
import { writeFolderAtomically } from "../../model/index.ts";
import { type CellRecord, journalledCell } from "./cells.ts";
import { type SlicePlace, sliceFolder, slicePaths } from "./layout.ts";

/** A grid point as it was measured before its map grew, with its conversations as lines of JSON. */
export interface EarlierCell {
  readonly record: CellRecord;
  readonly conversations: Buffer;
}

type Place = Pick<CellRecord, "i" | "alpha" | "beta">;
/** The place of a point that stays the same when a folder's points grow. */
export type StayingPlace = (point: Place) => string;

/** In a slice, whose indices change with the grid. */
export const coordinatesOf: StayingPlace = ({ alpha, beta }) => `${alpha},${beta}`;
/** On rays and lines: several rays have the same radii. */
export const rayCoordinatesOf: StayingPlace = ({ i, alpha }) => `${i},${alpha}`;

/** Sets the cells of a slice aside. Calling it again changes nothing. @param own  its folder */
export const setAsideSlice = (own: string, say: OnDamage): Promise<void> => setAsidePoints(own, coordinatesOf, say);

/**
 * As `setAsideSlice`, for any folder of points.
 * @param placeOf  by what the points are found again
 * @param more     writes further files into the folder `earlier`
 */
export async function setAsidePoints(
  own: string,
  placeOf: StayingPlace,
  say: OnDamage,
  more: (earlier: string) => void = () => {},
): Promise<void> {
  const paths = slicePaths(own);
  if (!existsSync(paths.cells)) return;
  const cells = new Map([...readEarlier(own, say, placeOf), ...cellsIn(own, say, placeOf)]);
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
    more(earlier);
  });
  for (const path of [paths.cells, paths.conversations, paths.points, paths.summary])
    explained(path, () => rmSync(path, { force: true }));
}

/** The points of a folder that were set aside, by their place. @param folder  for example a slice's */
export function readEarlier(
  folder: string,
  say: OnDamage,
  placeOf: StayingPlace = coordinatesOf,
): Map<string, EarlierCell> {
  return cellsIn(slicePaths(folder).earlier, say, placeOf);
}

function cellsIn(folder: string, say: OnDamage, placeOf: StayingPlace): Map<string, EarlierCell> {
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
    if (content !== null) found.set(placeOf(record), { record, conversations: content });
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

/** Moves the records of a journal to another one, which then has each once. Calling it again changes nothing. */
export function setAsideRecords<T extends object>(
  path: string,
  to: string,
  schema: z.ZodType<T>,
  keyOf: (record: T) => string,
  say: OnDamage,
): void {
  if (!existsSync(path)) return;
  const records = [to, path].filter((one) => existsSync(one)).flatMap((one) => readJournal(one, schema, say).records);
  writeJournal(to, schema, new Map(records.map((record) => [keyOf(record), record])).values());
  explained(path, () => rmSync(path));
}
