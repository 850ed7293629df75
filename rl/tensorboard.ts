// TensorBoard event files, scalars only. The format is small and stable: a file is a sequence of TFRecords, each a
// protobuf
// `Event`. Writing it takes one page of code; a dependency would add all of TensorFlow's schema.
//
// record  u64 length · u32 masked CRC-32C of the length · bytes · u32 masked CRC-32C of the bytes, little-endian
// Event   1: double wall_time, 2: int64 step, then one of 3: string file_version, 5: Summary, 7: SessionLog
// Summary 1: repeated Value { 1: string tag, 2: float simple_value };  SessionLog  1: status, START = 1
//
// Each start of a run, resumed or not, adds a new file to the folder, and TensorBoard reads the files in the order of
// their names. Each file begins with a session start that names its first step. On a session start, TensorBoard drops
// points of this step and later ones that it has read before, so a repeated step is shown once. The very first file
// needs a session start too, because TensorBoard's server takes the first one that it reads for the beginning of the
// run and drops nothing there.
import { closeSync, openSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ensureFolder, explained, writeAll } from "../engine/host/index.ts";

/**
 * An open file of scalars. Every record is passed to the operating system immediately; readers ignore an incomplete
 * last one.
 */
export interface TensorBoardWriter {
  readonly path: string;
  /** Adds a point to the curve `tag`. `wallTime` is in seconds since 1970. The value is stored in float32. */
  scalar(tag: string, value: number, step: number, wallTime: number): void;
  close(): void;
}

/**
 * Starts an event file in `folder`, which is created if needed. Its name contains the second of its creation, or that
 * of a later existing file (if the clock was set back), but no host name.
 * @param wallTime   seconds since 1970
 * @param firstStep  the first step of this file, 0 for a new run: TensorBoard drops earlier points of this step and
 *   later
 */
export function openTensorBoard(folder: string, wallTime: number, firstStep: number): TensorBoardWriter {
  ensureFolder(folder);
  const { path, file } = createFile(folder, Math.floor(wallTime));
  let isOpen = true;
  const write = (event: Uint8Array) => {
    if (!isOpen) throw new Error(`${path}: written to after it was closed`);
    explained(path, () => writeAll(file, encodeRecord(event)));
  };
  write(encodeEvent(wallTime, 0, field(3, "brain.Event:2")));
  write(encodeEvent(wallTime, firstStep, field(7, varintField(1, 1))));
  return {
    path,
    scalar(tag, value, step, time) {
      write(encodeEvent(time, step, field(5, field(1, Buffer.concat([field(1, tag), floatField(2, value)])))));
    },
    close() {
      if (isOpen) closeSync(file);
      isOpen = false;
    },
  };
}

const fileName = /^events\.out\.tfevents\.(\d{10,})\.foothold\.\d+$/;

/**
 * Creates a file whose name sorts after those of all existing files. A second file within a second gets the next
 * number.
 */
function createFile(folder: string, second: number): { path: string; file: number } {
  const latest = explained(folder, () => readdirSync(folder)).reduce(
    (most, name) => Math.max(most, Number(fileName.exec(name)?.[1] ?? 0)),
    second,
  );
  const stamp = String(latest).padStart(10, "0");
  for (let number = 0; ; number++) {
    const path = join(folder, `events.out.tfevents.${stamp}.foothold.${String(number).padStart(3, "0")}`);
    try {
      return { path, file: openSync(path, "ax") };
    } catch (caught) {
      if (!(caught instanceof Error && "code" in caught && caught.code === "EEXIST")) throw caught;
    }
  }
}

/** A TFRecord. */
export function encodeRecord(bytes: Uint8Array): Uint8Array {
  const record = Buffer.alloc(bytes.length + 16);
  record.writeBigUInt64LE(BigInt(bytes.length), 0);
  record.writeUInt32LE(maskedCrc32c(record.subarray(0, 8)), 8);
  record.set(bytes, 12);
  record.writeUInt32LE(maskedCrc32c(bytes), 12 + bytes.length);
  return record;
}

// Castagnoli's polynomial, reflected, as the record format requires (zlib.crc32 uses a different polynomial).
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ 0x82f63b78 : rest >>> 1;
  return rest;
});

/** CRC-32C (Castagnoli), as an unsigned number. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** The masked CRC of the record format, rotated and offset, because a CRC is weak on data that contains CRCs. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

// Protobuf: a field is its number and wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes), then the
// value. A number that is 0 is left out, except inside a `oneof`, where its presence has a meaning.

function encodeEvent(wallTime: number, step: number, what: Uint8Array): Uint8Array {
  if (!Number.isSafeInteger(step) || step < 0) throw new Error(`tensorboard: expected a step from 0 on, got ${step}`);
  const time = Buffer.alloc(9);
  time[0] = (1 << 3) | 1;
  time.writeDoubleLE(wallTime, 1);
  return Buffer.concat([time, step === 0 ? new Uint8Array() : varintField(2, step), what]);
}

function field(number: number, content: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(content);
  return Buffer.concat([Uint8Array.of((number << 3) | 2), varint(bytes.length), bytes]);
}

function varintField(number: number, value: number): Uint8Array {
  return Buffer.concat([Uint8Array.of(number << 3), varint(value)]);
}

function floatField(number: number, value: number): Uint8Array {
  const bytes = Buffer.alloc(5);
  bytes[0] = (number << 3) | 5;
  bytes.writeFloatLE(value, 1);
  return bytes;
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  // Division instead of shifts, because steps may exceed 2³¹.
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Uint8Array.from([...bytes, rest]);
}
