import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { crc32c, encodeRecord, maskedCrc32c, openTensorBoard } from "../../rl/tensorboard.ts";
import { describe, throwsMessage } from "../support.ts";
import { readKnown } from "./known/read.ts";

interface Known {
  wallTime: number;
  resumeStep: number;
  scalars: [tag: string, value: number, step: number, wallTime: number][];
  versionEvent: string;
  recordsAfterVersion: string;
  /** One run's life; `shown` is what TensorBoard's library and its own server show after each file. */
  sessions: {
    wallTime: number;
    firstStep: number;
    scalars: [tag: string, value: number, step: number, wallTime: number][];
    recordsAfterVersion: string;
    shown: [step: number, value: number][];
  }[];
  crc32c: [bytes: string, crc: number, masked: number][];
}

// A reader of its own: record by record with both checks, then field by field.
function readRecords(file: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at < file.length; ) {
    const length = Number(file.readBigUInt64LE(at));
    is(file.readUInt32LE(at + 8), maskedCrc32c(file.subarray(at, at + 8)));
    const bytes = file.subarray(at + 12, at + 12 + length);
    is(file.readUInt32LE(at + 12 + length), maskedCrc32c(bytes));
    records.push(bytes);
    at += length + 16;
  }
  return records;
}

function readFields(bytes: Buffer): Map<number, Buffer | number> {
  const fields = new Map<number, Buffer | number>();
  let at = 0;
  const take = (count: number) => {
    at += count;
    return bytes.subarray(at - count, at);
  };
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const [byte] = take(1);
      value += (byte % 128) * scale;
      if (byte < 128) return value;
    }
  };
  const values = [varint, () => take(8).readDoubleLE(), () => take(varint()), null, null, () => take(4).readFloatLE()];
  while (at < bytes.length) {
    const key = varint();
    const value = values[key % 8];
    if (!value) throw new Error(`wire type ${key % 8}`);
    fields.set(Math.floor(key / 8), value());
  }
  return fields;
}

function nested(field: Buffer | number | undefined): Buffer {
  if (!Buffer.isBuffer(field)) throw new Error(`expected bytes, got ${field}`);
  return field;
}

describe("rl/tensorboard", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-tensorboard-"));
  test.after(() => rmSync(folder, { recursive: true }));
  // TensorBoard's own bytes: test/rl/known/tensorboard_events.py.
  const known = readKnown<Known>("tensorboard.json");

  test("CRC-32C and its masked form, RFC 3720's vectors among them", () => {
    is(crc32c(Buffer.from("123456789")), 0xe3069283);
    for (const [hex, crc, masked] of known.crc32c) {
      is(crc32c(Buffer.from(hex, "hex")), crc);
      is(maskedCrc32c(Buffer.from(hex, "hex")), masked);
    }
  });
  test("a file is byte for byte what TensorBoard's own writer makes", () => {
    const writer = openTensorBoard(join(folder, "a", "b"), known.wallTime, known.resumeStep);
    for (const scalar of known.scalars) writer.scalar(...scalar);
    writer.close();
    const expected = Buffer.concat([
      encodeRecord(Buffer.from(known.versionEvent, "hex")),
      Buffer.from(known.recordsAfterVersion, "hex"),
    ]);
    is(readFileSync(writer.path).toString("hex"), expected.toString("hex"));
  });
  test("each start of a run begins with a session start, so that TensorBoard shows every step once", () => {
    const place = join(folder, "sessions");
    const paths = known.sessions.map(({ wallTime, firstStep, scalars, recordsAfterVersion }) => {
      const writer = openTensorBoard(place, wallTime, firstStep);
      for (const scalar of scalars) writer.scalar(...scalar);
      writer.close();
      const content = readFileSync(writer.path);
      const version = 16 + Number(content.readBigUInt64LE(0));
      is(content.subarray(version).toString("hex"), recordsAfterVersion);
      return basename(writer.path);
    });
    // Read in this order, TensorBoard showed of these very records:
    equal(readdirSync(place).sort(), paths);
    for (const { shown } of known.sessions)
      equal(
        shown.map(([step]) => step),
        shown.map((_, step) => step),
      );
    equal(known.sessions.at(-1)?.shown, [
      [0, 2],
      [1, 2 + 1 / 16],
      [2, 2 + 2 / 16],
      [3, 3 + 3 / 16],
    ]);
  });
  test("a file made after the clock was set back still comes last", () => {
    const names = [1700000500, 1700000100.5, 1700000100.5].map((time) => {
      const writer = openTensorBoard(join(folder, "clock"), time, 0);
      writer.close();
      return basename(writer.path);
    });
    equal(readdirSync(join(folder, "clock")).sort(), names);
    equal(new Set(names).size, 3);
  });
  test("what is read back is what was written, to float32", () => {
    const writer = openTensorBoard(join(folder, "back"), 5.5, 0);
    const written = [
      ["reward", 0.1, 0],
      ["kl", Number.NaN, 300],
      ["num_tokens", 2 ** 40, 2 ** 31 + 7],
    ] as const;
    for (const [tag, value, step] of written) writer.scalar(tag, value, step, 6.25);
    const [version, start, ...records] = readRecords(readFileSync(writer.path)).map(readFields);
    writer.close();
    is(nested(version.get(3)).toString(), "brain.Event:2");
    is(version.get(1), 5.5);
    equal([start.get(2) ?? 0, [...nested(start.get(7))]], [0, [8, 1]]);
    equal(
      records.map((event) => {
        const value = readFields(nested(readFields(nested(event.get(5))).get(1)));
        return [nested(value.get(1)).toString(), value.get(2), event.get(2) ?? 0, event.get(1)];
      }),
      written.map(([tag, value, step]) => [tag, Math.fround(value), step, 6.25]),
    );
  });
  test("each opening makes a file of its own, in order of name, and names no host", () => {
    const paths = [1700000000, 1700000000.9, 1700000001].map((time) => {
      const writer = openTensorBoard(join(folder, "many"), time, 0);
      writer.close();
      return basename(writer.path);
    });
    equal(readdirSync(join(folder, "many")).sort(), paths);
    for (const path of paths) ok(/^events\.out\.tfevents\.\d{10}\.foothold\.\d{3}$/.test(path), path);
  });
  test("refuses a step that is none, a closed file, and a folder that is a file", async () => {
    const writer = openTensorBoard(join(folder, "wrong"), 1, 0);
    await throwsMessage(() => writer.scalar("reward", 1, -1, 1), "step from 0 on, got -1");
    await throwsMessage(() => writer.scalar("reward", 1, 0.5, 1), "step from 0 on, got 0.5");
    writer.close();
    writer.close();
    await throwsMessage(() => writer.scalar("reward", 1, 1, 1), "after it was closed");
    writeFileSync(join(folder, "file"), "");
    await throwsMessage(() => openTensorBoard(join(folder, "file"), 1, 0), "EEXIST");
  });
});
