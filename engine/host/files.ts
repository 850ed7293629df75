// Files that are either complete or absent.
//
// A file gets its name by a rename, after its bytes have reached the disk. So a file that exists is complete, whenever
// the process died. Errors that a user can fix (no space, no permission) become one message with the path.
import { createHash, randomUUID } from "node:crypto";
import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { z } from "zod";
import { asError, FileError, UserError } from "./errors.ts";
import { killPoint } from "./kill-point.ts";

/** The name pattern of temporary files, so that the next run recognises those that a killed run left. */
const temporaryName = /^\..+\.[0-9a-f-]{36}\.foothold-temporary$/;

/** The meaning of each system error, and how to fix it. */
const systemErrors: Record<string, string> = {
  ENOSPC: "the disk is full. Free some space, or put the output on another disk (--out)",
  EDQUOT: "your disk quota is used up. Free some space, or put the output elsewhere (--out)",
  EACCES: "permission denied. Change its owner or mode, or choose another place",
  EPERM: "permission denied. Change its owner or mode, or choose another place",
  EFBIG:
    "the file is larger than the file system or your limit allows (ulimit -f). Raise it, or choose another disk (--out)",
  EROFS: "the file system is read-only. Choose a place that can be written (--out)",
  EMFILE: "too many open files in this process. Raise the limit: ulimit -n 4096",
  ENFILE: "too many open files on this machine. Close other programs",
  ENOENT: "no such file or folder. Check the path",
  ENOTDIR: "a part of this path is a file, not a folder. Check the path",
  EEXIST: "a file of this name is in the way. Remove it, or choose another name",
  EISDIR: "this is a folder, a file was expected. Check the path",
  ENAMETOOLONG: "the name is too long for this file system. Choose a shorter one",
  EIO: "the disk reports a read or write error. Check the disk",
};

/**
 * A file system error as a FileError that names the path and the fix; null if it is no file system error.
 * @param path  for errors that carry no path (a write to an open file)
 */
export function explainSystemError(thrown: unknown, path?: string): UserError | null {
  if (thrown instanceof UserError) return thrown;
  if (!(thrown instanceof Error) || !("code" in thrown) || typeof thrown.code !== "string") return null;
  const meaning = systemErrors[thrown.code];
  if (meaning === undefined) return null;
  const own = "path" in thrown && typeof thrown.path === "string" ? thrown.path : undefined;
  return new FileError(`${path ?? own ?? "a file"}: ${meaning}. (${thrown.code})`, { cause: thrown });
}

/** Runs `body`; an error of the file system is rethrown as a FileError about `path`. */
export function explained<T>(path: string, body: () => T): T {
  try {
    return body();
  } catch (thrown) {
    throw explainSystemError(thrown, path) ?? thrown;
  }
}

/**
 * Makes the folder, and those above it that are missing. One by one, so that the error is the system's own about the first that
 * it does not make.
 */
export function ensureFolder(folder: string): void {
  explained(folder, () => {
    const missing: string[] = [];
    for (let above = resolve(folder); !isFolder(above) && above !== dirname(above); above = dirname(above))
      missing.unshift(above);
    for (const one of missing)
      try {
        mkdirSync(one);
      } catch (thrown) {
        if (!isFolder(one)) throw thrown; // otherwise another process made it in between
      }
  });
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/**
 * Refuses a folder that could not be made or written to, before the work whose result it shall hold. Nothing is made.
 * @throws FileError
 */
export function expectFolderPlace(folder: string): void {
  explained(folder, () => {
    let place = resolve(folder);
    // What is there may be a link to nothing, which no folder can replace.
    while (lstatSync(place, { throwIfNoEntry: false }) === undefined && place !== dirname(place))
      place = dirname(place);
    if (!isFolder(place))
      throw new FileError(`${folder}: expected a folder, but ${place} is a file. Choose another place (--out).`);
    accessSync(place, constants.W_OK | constants.X_OK);
  });
}

/** As `expectFolderPlace`, of the folder of a file that is written or replaced at the end of the work. @throws FileError */
export function expectFilePlace(path: string): void {
  if (isFolder(path)) throw new FileError(`${path}: expected a file, got a folder. Name a file in it.`);
  const folder = dirname(resolve(path));
  explained(folder, () => accessSync(folder, constants.W_OK | constants.X_OK));
}

/**
 * Writes a file. After a kill or a power cut it is either completely written or as it was before.
 * @param content  parts are written one after the other, for files that are too large to hold in memory
 * @throws FileError if it cannot be written; nothing is left behind then
 */
export function writeAtomic(path: string, content: string | Uint8Array | Iterable<Uint8Array>): void {
  const parts =
    typeof content === "string" ? [Buffer.from(content)] : ArrayBuffer.isView(content) ? [content] : content;
  const file = beginAtomic(path);
  try {
    for (const part of parts) file.write(part);
    file.commit();
  } catch (thrown) {
    throw file.abandon(thrown);
  }
}

/** As `writeAtomic`, for parts that arrive one by one (read back from a GPU). */
export async function writeAtomicFrom(path: string, parts: AsyncIterable<Uint8Array>): Promise<void> {
  const file = beginAtomic(path);
  try {
    for await (const part of parts) file.write(part);
    file.commit();
  } catch (thrown) {
    throw file.abandon(thrown);
  }
}

interface AtomicFile {
  write(part: Uint8Array): void;
  commit(): void;
  /** Removes the temporary file; returns the error to throw. */
  abandon(thrown: unknown): unknown;
}

/** A name beside the path, which the next run recognises as one that a killed run left. */
export function temporaryPath(path: string): string {
  return join(dirname(resolve(path)), `.${basename(path)}.${randomUUID()}.foothold-temporary`);
}

function beginAtomic(path: string): AtomicFile {
  const folder = dirname(resolve(path));
  const temporary = temporaryPath(path);
  let descriptor: number | null = explained(path, () => openSync(temporary, "wx"));
  const close = () => {
    if (descriptor !== null) closeSync(descriptor);
    descriptor = null;
  };
  return {
    write(part) {
      if (descriptor === null) throw new Error(`${path}: written to after it was closed`);
      writeAll(descriptor, part);
    },
    commit() {
      if (descriptor === null) throw new Error(`${path}: committed twice`);
      killPoint("write-atomic");
      fsyncSync(descriptor);
      close();
      renameSync(temporary, path);
      syncFolder(folder);
    },
    abandon(thrown) {
      close();
      rmSync(temporary, { force: true });
      return explainSystemError(thrown, path) ?? thrown;
    },
  };
}

/** Writes all bytes: a single call of write may write only a part of them. */
export function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
}

/**
 * Appends bytes that are about to be cut off PATH to PATH.damaged; they are on the disk when it returns. So no program
 * discards measurements, and earlier damaged parts are kept.
 * @returns the path of that file
 */
export function keepBeside(path: string, bytes: Uint8Array): string {
  const beside = `${path}.damaged`;
  explained(beside, () => {
    const descriptor = openSync(beside, "a");
    try {
      writeAll(descriptor, bytes);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    syncFolder(dirname(resolve(beside)));
  });
  return beside;
}

/**
 * Makes a rename or a new name in this folder survive a power cut. Windows does this by itself and has no such call.
 */
export function syncFolder(folder: string): void {
  if (process.platform === "win32") return;
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Removes temporary files that a killed run left in the folder or below it. Call under the folder's lock. */
export function removeTemporary(folder: string): string[] {
  const left = explained(folder, () => readdirSync(folder, { recursive: true, encoding: "utf8" }))
    .filter((name) => temporaryName.test(basename(name)))
    .map((name) => join(folder, name))
    .sort();
  for (const path of left) rmSync(path, { force: true });
  return left;
}

/** The text of a file in UTF-8, without a byte order mark. @throws FileError */
export function readText(path: string): string {
  return withoutByteOrderMark(explained(path, () => readFileSync(path, "utf8")));
}

/**
 * Some editors put U+FEFF in front of a text to mark it as UTF-8. It is not part of the text, and JSON.parse refuses
 * it.
 */
export function withoutByteOrderMark(text: string): string {
  return text.startsWith("\ufeff") ? text.slice(1) : text;
}

/** The lines of a text. Lines end at LF or CRLF only: U+2028 and U+2029 may occur within JSON. */
export function linesOf(text: string): string[] {
  return text.split("\n").map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
}

/**
 * A JSON file, checked against a schema.
 * @throws FileError that names the file and everything in it that does not match
 */
export function readJson<T>(path: string, schema: z.ZodType<T>): T {
  const text = readText(path);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (thrown) {
    throw new FileError(
      `${path}: expected JSON, found ${text.length === 0 ? "an empty file" : `none: ${asError(thrown).message}`}. Restore it from a copy.`,
    );
  }
  const checked = schema.safeParse(parsed);
  if (checked.success) return checked.data;
  const places = checked.error.issues.map((issue) => `  ${issue.path.join(".") || "the whole"}: ${issue.message}`);
  throw new FileError(
    `${path}: does not have the expected form:\n${places.join("\n")}\nRestore it from a copy, or use the version that wrote it.`,
  );
}

/** SHA-256 of a file's bytes, in hexadecimal; read in pieces, so the file may have any size. */
export function sha256File(path: string): string {
  return explained(path, () => {
    const hash = createHash("sha256");
    const piece = Buffer.alloc(1 << 20);
    const descriptor = openSync(path, "r");
    try {
      for (let size = readSync(descriptor, piece); size > 0; size = readSync(descriptor, piece))
        hash.update(piece.subarray(0, size));
    } finally {
      closeSync(descriptor);
    }
    return hash.digest("hex");
  });
}

/** Bytes that this user can still write on the file system of the folder (which may not exist yet). */
export function freeDiskBytes(folder: string): number {
  for (let at = resolve(folder); ; at = dirname(at)) {
    try {
      const { bavail, bsize } = statfsSync(at);
      return bavail * bsize;
    } catch (thrown) {
      if (at === dirname(at)) throw explainSystemError(thrown, folder) ?? thrown;
    }
  }
}

/**
 * Refuses to begin a job whose output does not fit on the disk.
 * @throws FileError with the bytes needed, free and missing
 */
export function expectDiskSpace(folder: string, neededBytes: number, what: string): void {
  const free = freeDiskBytes(folder);
  if (neededBytes <= free) return;
  throw new FileError(
    `${folder}: ${what} needs ${formatBytes(neededBytes)} of disk, ${formatBytes(free)} are free. ` +
      `Free ${formatBytes(neededBytes - free)}, or put the output on another disk (--out).`,
  );
}

/** For plans: "free: 3.4 MiB", and whether the output would not fit. */
export function freeDisk(folder: string, neededBytes: number): string {
  const free = freeDiskBytes(folder);
  return `free: ${formatBytes(free)}${neededBytes > free ? `. It does not fit there: ${formatBytes(neededBytes - free)} are missing` : ""}`;
}

/** "512 bytes", "3.4 MiB": binary units, one decimal. */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  // 1023.95 would print as 1024.0 of its unit.
  while (value >= (unit === 0 ? 1024 : 1023.95) && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
