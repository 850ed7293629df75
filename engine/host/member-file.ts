// Large texts beside a journal: one gzip member per record, one after the other. `zcat` reads the whole file, and a
// reader that knows the sizes can read any single member. The journal's records contain the sizes.
//
// A member reaches the disk before the journal line that contains its size. So after a kill or a power cut the file may
// hold one member more than the journal names, never fewer. A writer keeps what it cuts off in NAME.damaged, and says
// so.
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { asError, FileError } from "./errors.ts";
import { explained, keepBeside, syncFolder } from "./files.ts";
import { appendDurably, type OnDamage } from "./journal.ts";
import { killPoint } from "./kill-point.ts";

/** A member that was read: its content, or the reason why it cannot be read. */
export type Member = { readonly content: Buffer } | { readonly content: null; readonly problem: string };

/**
 * Reads all members without changing the file. A damaged or missing member does not affect the others.
 * @param sizes  the members' sizes in bytes, from the journal
 */
export function readMembers(path: string, sizes: readonly number[]): Member[] {
  const bytes = explained(path, () => {
    try {
      return readFileSync(path);
    } catch (thrown) {
      if (thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT") return null;
      throw thrown;
    }
  });
  let start = 0;
  return sizes.map((size): Member => {
    const member = bytes?.subarray(start, start + size);
    start += size;
    if (member === undefined) return { content: null, problem: "the file is missing" };
    if (member.length < size) return { content: null, problem: "the file is cut short" };
    try {
      return { content: gunzipSync(member) }; // checks gzip's own CRC-32
    } catch (thrown) {
      return { content: null, problem: asError(thrown).message };
    }
  });
}

export class MemberFile {
  readonly path: string;
  #descriptor: number;
  #end: number;

  private constructor(path: string, descriptor: number, end: number) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#end = end;
  }

  /**
   * Opens the file for appending, makes it if it is missing, and cuts off members that the journal does not name.
   * @param sizes     the members' sizes in bytes, from the journal
   * @param onDamage  called with a message about the part that was cut off
   * @returns `sound`: the number of members in the file; if that is one less than `sizes.length`, cut the journal to it
   * @throws FileError if more than the last member is missing; the file is then as it was
   */
  static open(path: string, sizes: readonly number[], onDamage: OnDamage): { members: MemberFile; sound: number } {
    return explained(path, () => {
      const descriptor = openSync(path, "a+");
      try {
        const { size } = fstatSync(descriptor);
        let sound = 0;
        let end = 0;
        while (sound < sizes.length && end + sizes[sound] <= size) end += sizes[sound++];
        const missing = sizes.length - sound;
        if (missing > 1)
          throw new FileError(
            `${path}: expected ${sizes.reduce((sum, one) => sum + one, 0)} bytes, as the journal beside it says, got ${size}: ` +
              `${missing} of ${sizes.length} members are missing. Restore the file from a copy. Without a copy, move it and the ` +
              "journal away, and the same command makes both again.",
          );
        if (size > end) {
          const cut = Buffer.alloc(size - end);
          readSync(descriptor, cut, 0, cut.length, end);
          const kept = keepBeside(path, cut);
          ftruncateSync(descriptor, end);
          fsyncSync(descriptor);
          const what = missing > 0 ? "a member that was cut" : "what the journal beside it does not name";
          onDamage(`${path}: its last ${cut.length} bytes, ${what}, were cut off and are kept in ${basename(kept)}.`);
        }
        syncFolder(dirname(resolve(path)));
        return { members: new MemberFile(path, descriptor, end), sound };
      } catch (thrown) {
        closeSync(descriptor);
        throw thrown;
      }
    });
  }

  /** Appends one member, which is on the disk when it returns. @returns its size in bytes, for the journal */
  append(content: string | Uint8Array): number {
    const bytes = gzipMember(content);
    killPoint("members", () => writeSync(this.#descriptor, bytes, 0, bytes.length >> 1));
    appendDurably(this.path, this.#descriptor, this.#end, bytes);
    this.#end += bytes.length;
    return bytes.length;
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

/** One gzip member whose header holds no time and no operating system. */
export function gzipMember(content: string | Uint8Array): Buffer {
  const bytes = gzipSync(content, { level: 9 });
  bytes.fill(0, 4, 8); // MTIME
  bytes[9] = 255; // OS: unknown
  return bytes;
}
