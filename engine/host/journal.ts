// Append-only files that survive a kill and a power cut, and that show any damage.
//
// A journal holds one JSON object per line. Each line ends in "crc", the CRC-32 of this line and of all lines before
// it. So if a line was cut, changed or lost, the first affected line reveals it. There are two cases:
//
// - No whole line follows the bad line: an interrupted write leaves this. Reading returns the lines before it. Opening
//   for writing cuts it off and keeps the cut part in a file beside the journal (NAME.damaged). Both tell the caller,
//   who must report it.
// - Whole lines follow it: no interrupted write leaves this. The journal is refused and not changed.
//
// A journal contains neither a time nor a machine name, so a continued journal equals an uninterrupted one byte for
// byte.
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, renameSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { crc32 } from "node:zlib";
import type { z } from "zod";
import { FileError } from "./errors.ts";
import { explained, keepBeside, syncFolder, temporaryPath, writeAll } from "./files.ts";
import { killPoint } from "./kill-point.ts";

/** Called with a sentence about damage. It is required, so that no caller can ignore damage. */
export type OnDamage = (message: string) => void;

/**
 * The damaged end of a journal: its first line (counted from 1), its size in bytes, and what is wrong with that line.
 */
export interface DamagedTail {
  line: number;
  bytes: number;
  reason: string;
}

/**
 * Opens a journal for appending; makes it if it is missing. Cuts off a damaged end and keeps it in NAME.damaged.
 * @param schema    the form of a record, without "crc"
 * @param onDamage  called with a message about the part that was cut off
 * @throws FileError if the file cannot be opened, if sound lines follow a damaged one, or if a sound line does not fit
 *         the schema (another version wrote it); the file is not changed then
 */
export function openJournal<T extends object>(
  path: string,
  schema: z.ZodType<T>,
  onDamage: OnDamage,
): { journal: Journal<T>; records: T[]; damaged: DamagedTail | null } {
  const records: T[] = [];
  return { ...openJournalOf(path, schema, onDamage, (record) => records.push(record)), records };
}

/**
 * As `openJournal`, and hands over one record at a time: for a journal whose records together need much memory.
 * @param take  called with each sound record, in order; also before a FileError is thrown
 */
export function openJournalOf<T extends object>(
  path: string,
  schema: z.ZodType<T>,
  onDamage: OnDamage,
  take: (record: T) => void,
): { journal: Journal<T>; damaged: DamagedTail | null } {
  return explained(path, () => {
    const descriptor = openSync(path, "a+");
    try {
      const bytes = readFileSync(descriptor);
      const ends = new Ends();
      const damaged = scan(path, bytes, ({ json, ...end }) => {
        take(parsed(path, ends.length, json(), schema));
        ends.push(end);
      });
      const journal = new Journal<T>(path, descriptor, ends);
      if (damaged !== null) {
        const kept = keepBeside(path, bytes.subarray(bytes.length - damaged.bytes));
        journal.truncate(ends.length);
        onDamage(
          `${path}: line ${damaged.line} is damaged (${damaged.reason}). The ${damaged.bytes} bytes from there on were cut off ` +
            `and are kept in ${basename(kept)}.`,
        );
      }
      syncFolder(dirname(resolve(path)));
      return { journal, damaged };
    } catch (thrown) {
      closeSync(descriptor);
      throw thrown;
    }
  });
}

/** Writes a whole journal. It replaces one of that name, and appears only when it is whole. */
export function writeJournal<T extends object>(path: string, schema: z.ZodType<T>, records: Iterable<T>): void {
  const partial = temporaryPath(path);
  const { journal } = openJournal(partial, schema, () => {});
  try {
    for (const record of records) journal.append(record);
  } finally {
    journal.close();
  }
  killPoint("write-journal");
  explained(path, () => renameSync(partial, path));
  syncFolder(dirname(resolve(path)));
}

/**
 * Reads the sound records of a journal without changing the file: for reports, and for a run that another process
 * continues.
 * @param onDamage  called if the end is damaged
 * @throws FileError as `openJournal`
 */
export function readJournal<T extends object>(
  path: string,
  schema: z.ZodType<T>,
  onDamage: OnDamage,
): { records: T[]; damaged: DamagedTail | null } {
  const records: T[] = [];
  return { damaged: readJournalOf(path, schema, onDamage, (record) => records.push(record)), records };
}

/**
 * As `readJournal`, and hands over one record at a time: for a journal whose records together need much memory.
 * @param take  called with each sound record, in order; also before a FileError is thrown
 */
export function readJournalOf<T extends object>(
  path: string,
  schema: z.ZodType<T>,
  onDamage: OnDamage,
  take: (record: T) => void,
): DamagedTail | null {
  let count = 0;
  const damaged = scan(
    path,
    explained(path, () => readFileSync(path)),
    ({ json }) => take(parsed(path, count++, json(), schema)),
  );
  if (damaged !== null)
    onDamage(
      `${path}: line ${damaged.line} is damaged (${damaged.reason}). Only the ${damaged.line - 1} lines before it were read.`,
    );
  return damaged;
}

/**
 * How many sound records a journal has, by the checksums alone.
 * @throws FileError if sound lines follow a damaged one
 */
export function countRecords(path: string): number {
  let count = 0;
  scan(
    path,
    explained(path, () => readFileSync(path)),
    () => count++,
  );
  return count;
}

/**
 * The number of records of a journal and the checksum of all of them, without parsing them. Two journals with the same
 * have the same records.
 * @returns null if its end is damaged
 * @throws FileError if sound lines follow a damaged one
 */
export function journalChecksum(path: string): { records: number; crc: string } | null {
  let records = 0;
  let last = 0;
  const damaged = scan(
    path,
    explained(path, () => readFileSync(path)),
    ({ crc }) => {
      records++;
      last = crc;
    },
  );
  return damaged === null ? { records, crc: hexadecimal(last) } : null;
}

/** The end of a record, and the checksum of everything up to there. */
interface End {
  offset: number;
  crc: number;
}

/** The ends of all records, 16 bytes each: a journal may hold millions. */
class Ends {
  #numbers = new Float64Array(64);
  length = 0;

  push({ offset, crc }: End): void {
    if (2 * this.length === this.#numbers.length) {
      const larger = new Float64Array(2 * this.#numbers.length);
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#numbers[2 * this.length] = offset;
    this.#numbers[2 * this.length + 1] = crc;
    this.length++;
  }

  /** After the first `count` records. */
  after(count: number): End {
    return count === 0
      ? { offset: 0, crc: 0 }
      : { offset: this.#numbers[2 * count - 2], crc: this.#numbers[2 * count - 1] };
  }
}

export class Journal<T extends object> {
  readonly path: string;
  #descriptor: number;
  #ends: Ends;

  /** Use `openJournal`. */
  constructor(path: string, descriptor: number, ends: Ends) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#ends = ends;
  }

  /** How many records it holds. */
  get length(): number {
    return this.#ends.length;
  }

  /**
   * Appends records. All of them are on the disk when it returns.
   * @throws FileError if they cannot be written; the journal is then as it was before
   * @throws Error for a record that could not be read back: a number that is NaN or infinite, a key "crc"
   */
  append(...records: T[]): void {
    let end = this.#last();
    const ends: End[] = [];
    const lines = records.map((record) => {
      const body = serialise(this.path, record);
      const crc = crc32(body, end.crc);
      const line = `${seal(body, crc)}\n`;
      end = { offset: end.offset + Buffer.byteLength(line), crc };
      ends.push(end);
      return line;
    });
    const bytes = Buffer.from(lines.join(""));
    killPoint("journal", () => this.#write(bytes.subarray(0, bytes.length >> 1)));
    this.#write(bytes);
    for (const one of ends) this.#ends.push(one);
  }

  /** Keeps only the first `count` records; moves the others to NAME.damaged. */
  cutTo(count: number, onDamage: OnDamage): void {
    if (count >= this.length) return;
    const { offset } = this.#ends.after(count);
    const cut = explained(this.path, () => readFileSync(this.path)).subarray(offset);
    const kept = keepBeside(this.path, cut);
    const records = this.length - count;
    this.truncate(count);
    onDamage(`${this.path}: the last ${records} records were cut off and are kept in ${basename(kept)}.`);
  }

  /** Keeps only the first `count` records; the others are lost. */
  truncate(count: number): void {
    explained(this.path, () => {
      this.#ends.length = Math.min(this.#ends.length, count);
      ftruncateSync(this.#descriptor, this.#last().offset);
      fsyncSync(this.#descriptor);
    });
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #last(): End {
    return this.#ends.after(this.#ends.length);
  }

  #write(bytes: Uint8Array): void {
    appendDurably(this.path, this.#descriptor, this.#last().offset, bytes);
  }
}

function serialise(path: string, record: object): string {
  if ("crc" in record) throw new Error(`${path}: a record's key "crc" is the journal's own`);
  const json = JSON.stringify(record, (key, value: unknown) => {
    if (typeof value === "number" && !Number.isFinite(value))
      throw new Error(`${path}: ${key} is ${value}, which JSON cannot hold`);
    return value;
  });
  return json.slice(0, -1);
}

/** A line: the record's JSON without its closing brace, then the checksum of that text and of all lines before it. */
function seal(body: string, crc: number): string {
  return `${body}${body === "{" ? "" : ","}"crc":"${hexadecimal(crc)}"}`;
}

const hexadecimal = (crc: number): string => crc.toString(16).padStart(8, "0");

const OPENING_BRACE = 0x7b;
const COMMA = 0x2c;

interface Line extends End {
  /** The record's JSON, without its checksum, as text. */
  json: () => string;
}

/**
 * Finds the sound lines of a journal by their checksums.
 * @param take  called with each of them, in order; also before an error is thrown
 * @returns     the damaged end; null if there is none
 * @throws FileError if a line of the right form follows a damaged one
 */
function scan(path: string, bytes: Buffer, take: (line: Line) => void): DamagedTail | null {
  let count = 0;
  let start = 0;
  let crc = 0;
  while (start < bytes.length) {
    const newline = bytes.indexOf(10, start);
    const line = newline < 0 ? "the line was cut" : checkLine(bytes.subarray(start, newline), crc);
    if (typeof line === "string") {
      const damaged = { line: count + 1, bytes: bytes.length - start, reason: line };
      const following = newline < 0 ? 0 : wellFormedLines(bytes, newline + 1);
      if (following === 0) return damaged;
      const back = damaged.line === 1 ? "" : ` put its first ${damaged.line - 1} lines back under this name,`;
      throw new FileError(
        `${path}: line ${damaged.line} is damaged (${line}), and ${following} whole ${following === 1 ? "line follows" : "lines follow"} it. ` +
          "An interrupted write does not leave this, so the file stays as it is. Restore it from a copy. Without a copy, move it " +
          `away,${back} and the command that wrote it makes the rest again.`,
      );
    }
    start = newline + 1;
    crc = line.crc;
    count++;
    take({ json: line.json, offset: start, crc });
  }
  return null;
}

const lineForm = /^(\{.*?),?"crc":"[0-9a-f]{8}"\}$/s;

/** Complete lines in the form of a journal from `start` on, whatever their checksums are. */
function wellFormedLines(bytes: Buffer, start: number): number {
  let count = 0;
  for (let newline = bytes.indexOf(10, start); newline >= 0; newline = bytes.indexOf(10, start)) {
    const match = lineForm.exec(bytes.toString("utf8", start, newline));
    if (match !== null && parsedObject(`${match[1]}}`) !== null) count++;
    start = newline + 1;
  }
  return count;
}

/** What `seal` writes at the end of a line, without the comma. */
const SEAL_LENGTH = '"crc":"01234567"}'.length;

/** The JSON of a line and its checksum; or, as text, what is wrong with it. Looks at the line's ends alone. */
function checkLine(line: Buffer, previous: number): Pick<Line, "json" | "crc"> | string {
  const sealed = line.toString("latin1", Math.max(0, line.length - SEAL_LENGTH));
  const match = /^"crc":"([0-9a-f]{8})"\}$/.exec(sealed);
  if (match === null || line[0] !== OPENING_BRACE) return "it has no checksum";
  const end = line.length - SEAL_LENGTH;
  const hasComma = line[end - 1] === COMMA;
  const body = line.subarray(0, hasComma ? end - 1 : end);
  const crc = crc32(body, previous);
  if (match[1] !== hexadecimal(crc) || hasComma !== body.length > 1) return "its checksum does not match";
  return { json: () => `${body.toString("utf8")}}`, crc };
}

function parsedObject(json: string): object | null {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null ? value : null;
  } catch {
    return null;
  }
}

/** The record of a sound line. @throws FileError when it is not of this form */
function parsed<T extends object>(path: string, index: number, json: string, schema: z.ZodType<T>): T {
  const record = parsedObject(json);
  const fitted = schema.safeParse(record);
  if (fitted.success) return fitted.data;
  const [issue] = fitted.error.issues;
  throw new FileError(
    `${path}: line ${index + 1}: ${issue.path.join(".") || "the record"}: ${issue.message}. ` +
      "The line is undamaged, so another version wrote it: use that version, or start a new folder with --out.",
  );
}

/** Appends at `offset`, the end of the file; after a failed write nothing of it remains. */
export function appendDurably(path: string, descriptor: number, offset: number, bytes: Uint8Array): void {
  explained(path, () => {
    try {
      writeAll(descriptor, bytes);
      fsyncSync(descriptor);
    } catch (thrown) {
      ftruncateSync(descriptor, offset);
      throw thrown;
    }
  });
}
