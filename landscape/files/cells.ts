// The files of a sweep: cells.jsonl with one record per grid point, rollouts.jsonl.gz with the conversations there, and
// reference.json. Each schema is written once; types are derived from it.
//
// A record keeps sums per (prompt, rollout), so that every average and statistic can be computed again from the files.
// It covers two sets of completions: fresh rollouts of the perturbed policy (R and its companions) and the checkpoint's
// own reference completions, scored under the perturbed policy (KL and J). Both sets take the first prompts of one
// list.
import { existsSync } from "node:fs";
import { basename, dirname } from "node:path";
import { z } from "zod";
import {
  countRecords,
  ensureFolder,
  MemberFile,
  type OnDamage,
  openJournalOf,
  readJournalOf,
  readJson,
  readMembers,
  writeAtomic,
} from "../../engine/host/index.ts";
import { referencePath, type SlicePlace, sliceFolder, slicePaths } from "./layout.ts";

/** [prompt][rollout] */
export type ByRollout = readonly (readonly number[])[];

const listsOfNumbers = z.array(z.array(z.number()));

/** A list of lists of numbers. The schema is asked only for the message about one that is not: a cell has thousands. */
export const byRollout = z.unknown().transform((value, context): ByRollout => {
  if (isByRollout(value)) return value;
  const { error } = listsOfNumbers.safeParse(value);
  for (const { message, path } of error?.issues ?? []) context.addIssue({ code: "custom", message, path });
  return z.NEVER;
});

function isByRollout(value: unknown): value is ByRollout {
  if (!Array.isArray(value)) return false;
  for (const list of value) {
    if (!Array.isArray(list)) return false;
    for (let k = 0; k < list.length; k++) if (!Number.isFinite(list[k])) return false;
  }
  return true;
}

export const cellRecord = z.object({
  i: z.int(),
  j: z.int(),
  alpha: z.number(),
  beta: z.number(),
  /** Fresh completions of π_θ(α,β). */
  rollouts: z.object({
    reward: byRollout,
    /** Assistant tokens. */
    tokens: byRollout,
    /** Summed over the tokens, nats. */
    entropy: byRollout,
    /** 0 or 1. */
    truncated: byRollout,
    /** 0 or 1; absent if the environment asks for no form. */
    formatFailed: byRollout.optional(),
    /** 0 or 1: the environment failed, and the reward counts as 0. Absent if there is no such rollout. */
    failed: byRollout.optional(),
  }),
  /** Sums over the assistant tokens of the reference completions. */
  reference: z.object({
    /** Σ_v p (log p − log q), p of the checkpoint, q of π_θ(α,β); nats. */
    kl: byRollout,
    /** −d with d = log q − log p of the sampled token. */
    k1: byRollout,
    /** e^d − 1 − d. */
    k3: byRollout,
    /** Clipped surrogate min(ρA, clip(ρ)A). */
    objective: byRollout,
    /** Of π_θ(α,β), nats. */
    entropy: byRollout,
  }),
  /**
   * Assistant tokens of a rollout before the first that differs from the checkpoint's; −1 if none does. For the prompts
   * and rollouts that the reference completions have too. Absent in cells of earlier versions.
   */
  firstDifference: byRollout.optional(),
});
/** What is measured at one grid point. */
export type CellRecord = z.infer<typeof cellRecord>;

/** A line of cells.jsonl. */
export const journalledCell = cellRecord.extend({
  /** Bytes of the cell's member in rollouts.jsonl.gz. */
  conversationBytes: z.int(),
});
export type JournalledCell = z.infer<typeof journalledCell>;

export const referenceSet = z.object({ tokens: byRollout, reward: byRollout, advantage: byRollout });
/** The checkpoint's own completions. */
export type ReferenceSet = z.infer<typeof referenceSet>;

const conversation = z.object({
  reward: z.number(),
  messages: z.array(z.object({ role: z.string(), content: z.string() })),
  /** For each answer the UTF-16 units of text that each of its tokens adds; absent in runs of earlier versions. */
  tokenLengths: z.array(z.array(z.int())).optional(),
});
/** One conversation at a grid point, kept for reading. */
export type Conversation = z.infer<typeof conversation>;

/** How many grid points of a slice are measured, judged by the checksums alone; 0 when reference.json is missing. */
export function countCells(folder: string, place: SlicePlace): number {
  const { cells } = slicePaths(sliceFolder(folder, place));
  return existsSync(cells) && existsSync(referencePath(folder, place.step)) ? countRecords(cells) : 0;
}

/** What was read of a slice's cells, in the order of measurement. */
export interface ReadSlice<T> extends SlicePlace {
  /** The slice's folder. */
  folder: string;
  cells: readonly T[];
  reference: ReferenceSet;
}

/** A slice with the whole records of its cells. */
export type SliceFiles = ReadSlice<JournalledCell>;

/**
 * Reads the measurements of a slice. Changes no file.
 * @returns null when the slice has no measurements
 * @throws FileError when a file is so damaged that its content cannot be trusted
 */
export const readSlice = (folder: string, place: SlicePlace, onDamage: OnDamage): SliceFiles | null =>
  readSliceOf(folder, place, onDamage, (cell) => cell);

/**
 * As `readSlice`, and keeps only what `of` takes of each cell: the records of a whole slice need much memory.
 * @param of  called with one record after the other
 */
export function readSliceOf<T>(
  folder: string,
  place: SlicePlace,
  onDamage: OnDamage,
  of: (cell: JournalledCell, reference: ReferenceSet) => T,
): ReadSlice<T> | null {
  const own = sliceFolder(folder, place);
  const found = readMeasured(slicePaths(own).cells, referencePath(folder, place.step), onDamage, of);
  return found && { ...place, folder: own, ...found };
}

/** The points in one cells.jsonl, and the checkpoint's own completions. As `readSliceOf`. */
export function readMeasured<T>(
  path: string,
  pathOfReference: string,
  onDamage: OnDamage,
  of: (cell: JournalledCell, reference: ReferenceSet) => T,
): { cells: readonly T[]; reference: ReferenceSet } | null {
  if (!existsSync(path)) return null;
  if (!existsSync(pathOfReference)) {
    onDamage(
      `${pathOfReference}: missing, so the cells in ${path} cannot be used. The command that made this run makes the file again.`,
    );
    return null;
  }
  let reference: ReferenceSet | null = null;
  const cells: T[] = [];
  readJournalOf(path, journalledCell, onDamage, (cell) => {
    reference ??= readJson(pathOfReference, referenceSet);
    cells.push(of(cell, reference));
  });
  return reference === null ? null : { cells, reference };
}

/** The checkpoint's own completions; null if they are not there. */
export function readReference(folder: string, step: number): ReferenceSet | null {
  const path = referencePath(folder, step);
  return existsSync(path) ? readJson(path, referenceSet) : null;
}

/** Writes the checkpoint's own completions. */
export function writeReference(folder: string, step: number, set: ReferenceSet): void {
  const path = referencePath(folder, step);
  ensureFolder(dirname(path));
  writeAtomic(path, `${JSON.stringify(set)}\n`);
}

export interface CellWriter {
  /** The cells measured so far: where they are, without their numbers. */
  readonly done: readonly Pick<JournalledCell, "i" | "j">[];
  /** Adds one grid point with its conversations (one JSON object per line). They are on disk when it returns. */
  append(record: CellRecord, conversations: string): void;
  close(): void;
}

/**
 * Opens the files of a slice for appending the missing cells.
 * @param onDamage  called with what was cut off; those cells are measured again
 * @throws FileError when cutting off the damage would lose more than an interrupted write does
 */
export function openCells(folder: string, onDamage: OnDamage): CellWriter {
  const paths = slicePaths(folder);
  ensureFolder(folder);
  const say: OnDamage = (message) => onDamage(`${message} What was cut off is measured again.`);
  const records: Pick<JournalledCell, "i" | "j" | "conversationBytes">[] = [];
  const { journal } = openJournalOf(paths.cells, journalledCell, say, ({ i, j, conversationBytes }) =>
    records.push({ i, j, conversationBytes }),
  );
  try {
    const { members, sound } = MemberFile.open(
      paths.conversations,
      records.map(({ conversationBytes }) => conversationBytes),
      say,
    );
    journal.cutTo(sound, say);
    return {
      done: records.slice(0, sound),
      append: (record, conversations) =>
        journal.append({ ...record, conversationBytes: members.append(conversations) }),
      close() {
        journal.close();
        members.close();
      },
    };
  } catch (thrown) {
    journal.close();
    throw thrown;
  }
}

/** Where a cell's conversations are. */
export type CellPlace = Pick<JournalledCell, "i" | "j" | "conversationBytes">;

/** The conversations at each cell; null for a cell whose conversations cannot be read, which is reported. */
export function readConversations(
  { folder, cells }: { folder: string; cells: readonly CellPlace[] },
  onDamage: OnDamage,
): (Conversation[] | null)[] {
  const path = slicePaths(folder).conversations;
  const problems: { i: number; j: number; problem: string }[] = [];
  const members = readMembers(
    path,
    cells.map(({ conversationBytes }) => conversationBytes),
  );
  const found = members.map((member, index) => {
    const problem = (text: string): null => {
      problems.push({ i: cells[index].i, j: cells[index].j, problem: text });
      return null;
    };
    if (member.content === null) return problem(member.problem);
    const said = conversationsIn(member.content.toString("utf8"));
    return said ?? problem("its lines are not conversations");
  });
  if (problems.length > 0) {
    const [{ i, j, problem }] = problems;
    onDamage(
      `${path}: the conversations of ${problems.length} of ${cells.length} cells cannot be read (the first is cell ` +
        `(${i}, ${j}): ${problem}). They are left out. The measurements are in ${basename(slicePaths(folder).cells)} and are ` +
        "whole. Restore the file from a copy to see them again.",
    );
  }
  return found;
}

/** Conversations as lines of JSON; null if a line is none. */
export function conversationsIn(text: string): Conversation[] | null {
  try {
    const lines = text.split("\n").filter((line) => line !== "");
    const checked = z.array(conversation).safeParse(lines.map((line): unknown => JSON.parse(line)));
    return checked.success ? checked.data : null;
  } catch {
    return null;
  }
}
