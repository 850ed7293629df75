// KL of the cells of a slice from the policies of other checkpoints: a journal for each of them beside cells.jsonl. So what a
// map has without them keeps its bytes, and they can be added later.
import { existsSync } from "node:fs";
import { z } from "zod";
import { countRecords, type OnDamage, readJournal, readJson } from "../../engine/host/index.ts";
import type { PointPlace } from "../grid.ts";
import type { StudySettings } from "../settings.ts";
import type { RecordJournal } from "./arrived-records.ts";
import { byRollout, type ReferenceSet, referenceSet } from "./cells.ts";
import { earlierKlFromPath, klFromPath, referencePath, type SlicePlace, sliceFolder } from "./layout.ts";
import { coordinatesOf } from "./set-aside.ts";

export const klFromRecord = z.object({
  i: z.int(),
  j: z.int(),
  alpha: z.number(),
  beta: z.number(),
  /** Σ over the assistant tokens of the other checkpoint's own completions of Σ_v p (log p − log q), p of that checkpoint, nats. */
  kl: byRollout,
});
/** A cell's KL from one other checkpoint. */
export type KlFromRecord = z.infer<typeof klFromRecord>;

export interface KlFromFiles {
  readonly cells: readonly KlFromRecord[];
  /** The other checkpoint's own completions. */
  readonly reference: ReferenceSet;
}

/** @param order  the cells, in the order of the journal */
export function klFromJournal(
  folder: string,
  place: SlicePlace,
  from: number,
  order: readonly PointPlace[],
  { reference }: Pick<StudySettings["landscape"], "reference">,
): RecordJournal<KlFromRecord> {
  const own = sliceFolder(folder, place);
  return {
    ...{ path: klFromPath(own, from), earlier: earlierKlFromPath(own, from), schema: klFromRecord, order },
    ...{ keyOf: coordinatesOf, keyOfPlace: coordinatesOf },
    at: (record, { i, j }) => ({ ...record, i, j }),
    isWhole: ({ kl }) => kl.length === reference.prompts && kl.every(({ length }) => length === reference.rollouts),
  };
}

/** Number of cells whose KL from another checkpoint is measured, judged by the checksums alone. */
export function countKlFrom(folder: string, place: SlicePlace, from: number): number {
  const path = klFromPath(sliceFolder(folder, place), from);
  return existsSync(path) && existsSync(referencePath(folder, from)) ? countRecords(path) : 0;
}

/** Null if nothing is measured. @throws FileError when a file is so damaged that its content cannot be trusted */
export function readKlFrom(folder: string, place: SlicePlace, from: number, onDamage: OnDamage): KlFromFiles | null {
  const path = klFromPath(sliceFolder(folder, place), from);
  const ofReference = referencePath(folder, from);
  if (!existsSync(path)) return null;
  if (!existsSync(ofReference)) {
    onDamage(
      `${ofReference}: missing, so ${path} cannot be used. The command that made this run makes the file again.`,
    );
    return null;
  }
  const { records } = readJournal(path, klFromRecord, onDamage);
  return records.length === 0 ? null : { cells: records, reference: readJson(ofReference, referenceSet) };
}
