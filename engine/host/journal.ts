// Append-only files that survive a power cut.
//
// A journal holds one JSON object a line, each ending in "crc": the CRC-32 of this line and of all before it. A write that was
// cut, a damaged sector or a missing line therefore shows at the first line it touches, and everything from there on is cut off:
// what remains is a run's honest past, to be continued. No times and no names of machines go in, so a continued journal equals an
// undisturbed one byte for byte.
//
// Bulky records (texts of rollouts) go to a member file beside it, one gzip member a record; the journal's records carry
// the members' sizes. A member reaches the disk before the line that tells its size, and so the longer file is cut to the other.
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { crc32, gunzipSync, gzipSync } from "node:zlib";
import type { z } from "zod";
import { FileError } from "./errors.ts";
import { explained, syncFolder, writeAll } from "./files.ts";
import { killPoint } from "./kill-point.ts";

/** What opening cut off, or reading passed over: from which line on (counted from 1), how many bytes, and why. */
export interface DamagedTail {
  line: number;
  bytes: number;
  reason: string;
}

export interface OpenedJournal<T extends object> {
  journal: Journal<T>;
  records: T[];
  damaged: DamagedTail | null;
}

/**
 * Opens a journal for appending, made if missing; a damaged tail is cut off and reported.
 * @param schema  what a record must be, "crc" apart
 * @throws FileError when it cannot be opened, or when a sound line does not fit the schema (another version wrote it)
 */
export function openJournal<T extends object>(path: string, schema: z.ZodType<T>): OpenedJournal<T> {
  return explained(path, () => {
    const descriptor = openSync(path, "a+");
    try {
      const { records, ends, damaged } = parseJournal(path, readFileSync(descriptor), schema);
      const journal = new Journal<T>(path, descriptor, ends);
      if (damaged) journal.truncate(records.length);
      syncFolder(dirname(resolve(path)));
      return { journal, records, damaged };
    } catch (thrown) {
      closeSync(descriptor);
      throw thrown;
    }
  });
}

/** The sound records of a journal, without touching it: for reports, and for runs that another process continues. */
export function readJournal<T extends object>(
  path: string,
  schema: z.ZodType<T>,
): { records: T[]; damaged: DamagedTail | null } {
  const { records, damaged } = parseJournal(
    path,
    explained(path, () => readFileSync(path)),
    schema,
  );
  return { records, damaged };
}

/** Where a record ends, and the checksum of everything up to there. */
interface End {
  offset: number;
  crc: number;
}

export class Journal<T extends object> {
  readonly path: string;
  #descriptor: number;
  #ends: End[];

  /** Use `openJournal`. */
  constructor(path: string, descriptor: number, ends: End[]) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#ends = ends;
  }

  /** How many records it holds. */
  get length(): number {
    return this.#ends.length;
  }

  /**
   * Appends records, all of them on the disk when it returns.
   * @throws FileError when they cannot be written; the journal is then as it was before
   * @throws Error for a record that would not read back: a number that is NaN or infinite, a key "crc"
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

  /** Keeps the first `count` records only. */
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
    return this.#ends.at(-1) ?? { offset: 0, crc: 0 };
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

/** A line: the record's JSON without its closing brace, then the checksum of that text and of those on all lines before. */
function seal(body: string, crc: number): string {
  return `${body}${body === "{" ? "" : ","}"crc":"${crc.toString(16).padStart(8, "0")}"}`;
}

function parseJournal<T extends object>(
  path: string,
  bytes: Buffer,
  schema: z.ZodType<T>,
): { records: T[]; ends: End[]; damaged: DamagedTail | null } {
  const records: T[] = [];
  const ends: End[] = [];
  let start = 0;
  let crc = 0;
  while (start < bytes.length) {
    const newline = bytes.indexOf(10, start);
    const line = newline < 0 ? null : checkLine(bytes.toString("utf8", start, newline), crc);
    if (line === null || typeof line === "string") {
      const damaged = { line: records.length + 1, bytes: bytes.length - start, reason: line ?? "the line was cut" };
      return { records, ends, damaged };
    }
    const fitted = schema.safeParse(line.record);
    if (!fitted.success) {
      const [issue] = fitted.error.issues;
      throw new FileError(
        `${path}: line ${records.length + 1}: ${issue.path.join(".") || "the record"}: ${issue.message}. ` +
          "The line is undamaged, so another version wrote it: use that version, or start a new folder with --out.",
      );
    }
    records.push(fitted.data);
    start = newline + 1;
    crc = line.crc;
    ends.push({ offset: start, crc });
  }
  return { records, ends, damaged: null };
}

/** The record of a line, or as text what is wrong with it. */
function checkLine(line: string, before: number): { record: object; crc: number } | string {
  const match = /^(\{.*?),?"crc":"[0-9a-f]{8}"\}$/.exec(line);
  if (!match) return "the line has no checksum";
  const crc = crc32(match[1], before);
  if (line !== seal(match[1], crc)) return "the checksum does not match";
  try {
    const record: unknown = JSON.parse(`${match[1]}}`);
    return typeof record === "object" && record !== null ? { record, crc } : "the line is not an object";
  } catch {
    return "the line is not JSON";
  }
}

/** Appends to what ends at `offset`; after a failed write nothing of it stays. */
function appendDurably(path: string, descriptor: number, offset: number, bytes: Uint8Array): void {
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

/**
 * Gzip members one after the other, of which a journal knows the sizes: `zcat` reads the whole, `readMember` one of them.
 */
export class MemberFile {
  readonly path: string;
  #descriptor: number;
  #sizes: number[];

  private constructor(path: string, descriptor: number, sizes: number[]) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#sizes = sizes;
  }

  /**
   * Opens the file, made if missing, and cuts it to the members that the journal knows.
   * @param sizes  the members' sizes in bytes, from the journal
   * @returns `sound`: how many of them are there whole; where it is less than `sizes.length`, cut the journal to it
   */
  static open(path: string, sizes: readonly number[]): { members: MemberFile; sound: number } {
    return explained(path, () => {
      const descriptor = openSync(path, "a+");
      const members = new MemberFile(path, descriptor, [...sizes]);
      // A member is on the disk before the journal names it, so only the last ones can be bad.
      while (members.length > 0 && !members.#isSound(members.length - 1)) members.#sizes.pop();
      members.truncate(members.length);
      syncFolder(dirname(resolve(path)));
      return { members, sound: members.length };
    });
  }

  get length(): number {
    return this.#sizes.length;
  }

  /** Appends one member, on the disk when it returns. @returns its size in bytes, for the journal */
  append(content: string | Uint8Array): number {
    const bytes = gzipMember(content);
    killPoint("members", () => writeSync(this.#descriptor, bytes, 0, bytes.length >> 1));
    appendDurably(this.path, this.#descriptor, this.#offset(this.length), bytes);
    this.#sizes.push(bytes.length);
    return bytes.length;
  }

  /** The content of one member. */
  read(index: number): Buffer {
    if (!(index >= 0 && index < this.length))
      throw new RangeError(`${this.path}: no member ${index} of ${this.length}`);
    return explained(this.path, () => gunzipSync(this.#bytes(index)));
  }

  /** Keeps the first `count` members only. */
  truncate(count: number): void {
    explained(this.path, () => {
      this.#sizes.length = Math.min(this.#sizes.length, count);
      ftruncateSync(this.#descriptor, this.#offset(this.length));
      fsyncSync(this.#descriptor);
    });
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #offset(index: number): number {
    let offset = 0;
    for (let i = 0; i < index; i++) offset += this.#sizes[i];
    return offset;
  }

  #bytes(index: number): Buffer {
    const bytes = Buffer.alloc(this.#sizes[index]);
    const size = readSync(this.#descriptor, bytes, 0, bytes.length, this.#offset(index));
    return bytes.subarray(0, size);
  }

  #isSound(index: number): boolean {
    const bytes = this.#bytes(index);
    if (bytes.length !== this.#sizes[index]) return false;
    try {
      gunzipSync(bytes); // checks gzip's own CRC-32
      return true;
    } catch {
      return false;
    }
  }
}

/** One gzip member whose header holds no time and no operating system. */
export function gzipMember(content: string | Uint8Array): Buffer {
  const bytes = gzipSync(content, { level: 9 });
  bytes.fill(0, 4, 8); // MTIME
  bytes[9] = 255; // OS: unknown
  return bytes;
}
