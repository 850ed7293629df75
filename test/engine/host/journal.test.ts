// A journal keeps its sound past wherever it was cut, says what it cuts and keeps it beside; and it refuses damage that no
// interrupted write leaves.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { z } from "zod";
import { FileError } from "../../../engine/host/errors.ts";
import { countRecords, openJournal, readJournal } from "../../../engine/host/journal.ts";
import { describe, throwsMessage } from "../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-journal-"));
const journalModule = fileURLToPath(new URL("../../../engine/host/journal.ts", import.meta.url));
const schema = z.object({ cell: z.int(), text: z.string(), sums: z.array(z.number()) });
const records = [
  { cell: 0, text: 'a "crc":"00000000"} b\n', sums: [0.1, -1e-300, 5e-324] },
  { cell: 1, text: "größer 🙂", sums: [] },
  { cell: 2, text: "", sums: [1 / 3] },
];

let made = 0;
const freshPath = () => join(temporary, `journal-${made++}.jsonl`);

/** The bytes of a journal with all records. */
function wholeBytes(): Buffer {
  const path = freshPath();
  const { journal } = openJournal(path, schema, tell);
  journal.append(records[0]);
  journal.append(records[1], records[2]);
  journal.close();
  return readFileSync(path);
}

/** Sentences about damage that were told. */
let told: string[] = [];
const tell = (message: string): void => void told.push(message);

function opened(bytes: Buffer): ReturnType<typeof openJournal<z.infer<typeof schema>>> & { path: string } {
  const path = freshPath();
  writeFileSync(path, bytes);
  told = [];
  return { ...openJournal(path, schema, tell), path };
}

/** CRC-32 (IEEE 802.3) bit by bit, straight from its definition. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

describe("engine/host/journal", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));
  const whole = wholeBytes();
  const lineEnds = [...whole.entries()].filter(([, byte]) => byte === 10).map(([at]) => at + 1);

  test("records come back equal; each line is JSON with the checksum of all so far", () => {
    const { journal, records: back, damaged } = opened(whole);
    journal.close();
    assert.equal(back, records);
    assert.is(damaged, null);
    assert.is(crc32(Buffer.from("123456789")), 0xcbf43926); // the check value of CRC-32
    let before = "";
    for (const line of whole.toString().trimEnd().split("\n")) {
      before += line.slice(0, line.lastIndexOf(',"crc"'));
      assert.is(JSON.parse(line).crc, crc32(Buffer.from(before)).toString(16).padStart(8, "0"));
    }
  });

  test("cut at any byte, the records before the cut remain and the rest is cut off", () => {
    for (let length = 0; length <= whole.length; length++) {
      const { journal, records: back, damaged, path } = opened(whole.subarray(0, length));
      const sound = lineEnds.filter((end) => end <= length).length;
      assert.equal(back, records.slice(0, sound));
      assert.is(journal.length, sound);
      const end = sound === 0 ? 0 : lineEnds[sound - 1];
      assert.equal(damaged && [damaged.line, damaged.bytes], end === length ? null : [sound + 1, length - end]);
      assert.is(readFileSync(path).length, end);
      assert.is(told.length, end === length ? 0 : 1);
      if (end !== length) {
        const beside = `${path}.damaged`;
        assert.ok(readFileSync(beside).equals(whole.subarray(end, length)), "what was cut is kept beside");
        assert.match(told[0], `${path}: line ${sound + 1} is damaged (the line was cut). The ${length - end} bytes`);
        assert.match(told[0], `kept in ${basename(beside)}.`);
      }
      journal.append(...records.slice(sound));
      journal.close();
      assert.ok(readFileSync(path).equals(whole), `continued after a cut at byte ${length}`);
    }
  });

  test("one flipped bit before the last line: refused, by reading and by opening, and the file stays as it is", async () => {
    const lastStart = lineEnds[1];
    for (let at = 0; at < lastStart - 1; at++) {
      const bytes = Buffer.from(whole);
      bytes[at] ^= 1 << (at % 8);
      const path = freshPath();
      writeFileSync(path, bytes);
      const line = lineEnds.filter((end) => end <= at).length + 1;
      for (const act of [
        () => openJournal(path, schema, tell),
        () => readJournal(path, schema, tell),
        () => countRecords(path),
      ]) {
        const error = await throwsMessage(
          act,
          `${path}: line ${line} is damaged (`,
          "Restore it from a copy",
          "follow",
        );
        assert.instance(error, FileError);
      }
      assert.ok(readFileSync(path).equals(bytes), `byte ${at}`);
      assert.not.ok(existsSync(`${path}.damaged`));
    }
  });

  test("one flipped bit in the last line: told, and cut off by opening alone", () => {
    for (let at = lineEnds[1]; at < whole.length; at++) {
      const bytes = Buffer.from(whole);
      bytes[at] ^= 1 << (at % 8);
      const path = freshPath();
      writeFileSync(path, bytes);
      told = [];
      assert.equal(readJournal(path, schema, tell).records, records.slice(0, 2), `byte ${at}`);
      assert.match(told[0], `${path}: line 3 is damaged (`);
      assert.match(told[0], "Only the 2 lines before it were read.");
      assert.ok(readFileSync(path).equals(bytes));
      const { journal, records: back, damaged } = openJournal(path, schema, tell);
      journal.close();
      assert.equal(back, records.slice(0, 2));
      assert.is(damaged?.line, 3);
      assert.ok(readFileSync(`${path}.damaged`).equals(bytes.subarray(lineEnds[1])));
    }
  });

  test("a second cut is kept behind the first one", () => {
    const { journal, path } = opened(whole.subarray(0, whole.length - 5));
    journal.close();
    writeFileSync(path, whole.subarray(0, whole.length - 3));
    openJournal(path, schema, tell).journal.close();
    const last = whole.subarray(lineEnds[1]);
    assert.ok(readFileSync(`${path}.damaged`).equals(Buffer.concat([last.subarray(0, -5), last.subarray(0, -3)])));
  });

  test("a line that is missing, doubled or out of place shows", async () => {
    const [a, b, c] = [0, ...lineEnds].slice(0, 3).map((start, i) => whole.subarray(start, lineEnds[i]));
    for (const [lines, bad] of [
      [[b, c], 1],
      [[a, c, b], 2],
      [[a, a, b], 2],
    ] as const) {
      const path = freshPath();
      writeFileSync(path, Buffer.concat(lines));
      await throwsMessage(
        () => openJournal(path, schema, tell),
        `line ${bad} is damaged (its checksum does not match)`,
      );
    }
    for (const [lines, sound] of [
      [[a, c], 1],
      [[a, a], 1],
      [[a, b, b], 2],
    ] as const) {
      const { journal, records: back } = opened(Buffer.concat(lines));
      journal.close();
      assert.is(back.length, sound);
      assert.is(told.length, 1);
    }
  });

  test("text with line ends of other systems comes back", () => {
    const { journal, path } = opened(Buffer.alloc(0));
    const odd = { cell: 7, text: "\u2028 \u2029 \r \u0085", sums: [] };
    journal.append(odd, odd);
    journal.close();
    assert.equal(readJournal(path, schema, tell).records, [odd, odd]);
    assert.is(countRecords(path), 2);
  });

  test("reading alone reports a damaged tail and leaves the file as it is", () => {
    const path = freshPath();
    writeFileSync(path, whole.subarray(0, whole.length - 1));
    told = [];
    const { records: back, damaged } = readJournal(path, schema, tell);
    assert.is(back.length, 2);
    assert.equal(damaged, { line: 3, bytes: whole.length - 1 - lineEnds[1], reason: "the line was cut" });
    assert.equal(told, [`${path}: line 3 is damaged (the line was cut). Only the 2 lines before it were read.`]);
    assert.is(countRecords(path), 2);
    assert.not.ok(existsSync(`${path}.damaged`));
    assert.is(readFileSync(path).length, whole.length - 1);
  });

  test("keeps the first records on demand, and goes on from there", () => {
    const { journal, path } = opened(whole);
    journal.truncate(5);
    assert.is(journal.length, 3);
    journal.truncate(1);
    journal.append(records[1], records[2]);
    told = [];
    journal.cutTo(3, tell);
    assert.equal(told, []);
    journal.cutTo(2, tell);
    assert.match(told[0], `${path}: the last 1 records were cut off and are kept in ${basename(path)}.damaged.`);
    assert.ok(readFileSync(`${path}.damaged`).equals(whole.subarray(lineEnds[1])));
    journal.append(records[2]);
    journal.close();
    assert.ok(readFileSync(path).equals(whole));
  });

  test("refuses what would not read back, and writes nothing of it", async () => {
    const { journal, path } = opened(whole);
    const bad = { cell: 3, text: "", sums: [1, Number.NaN] };
    await throwsMessage(() => journal.append(records[0], bad), path, "NaN");
    await throwsMessage(() => journal.append(Object.assign({ crc: "" }, records[0])), '"crc" is the journal\'s own');
    journal.close();
    assert.ok(readFileSync(path).equals(whole));
  });

  test("an undamaged line of another form is not cut off but refused", async () => {
    const path = freshPath();
    writeFileSync(path, whole);
    const error = await throwsMessage(
      () => openJournal(path, z.object({ cell: z.string() }), tell),
      path,
      "line 1: cell:",
      "another version",
    );
    assert.instance(error, FileError);
    assert.ok(readFileSync(path).equals(whole));
  });

  test("records without keys, and journals without records", () => {
    const path = freshPath();
    const empty = openJournal(path, z.object({}), tell);
    assert.equal(empty.records, []);
    empty.journal.append();
    empty.journal.append({}, {});
    empty.journal.close();
    assert.is(readJournal(path, z.object({}), tell).records.length, 2);
  });

  test("a process killed in the middle of an append loses that append only", () => {
    const path = freshPath();
    const program = `import { openJournal } from ${JSON.stringify(journalModule)}; import { z } from "zod";
      const { journal } = openJournal(${JSON.stringify(path)}, z.object({}), console.error);
      for (let i = 0; ; i++) journal.append({ i });`;
    const child = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
      cwd: fileURLToPath(new URL("../../..", import.meta.url)),
      env: { ...process.env, FOOTHOLD_KILL_AT: "journal:4" },
      encoding: "utf8",
    });
    assert.is(child.signal, "SIGKILL", child.stderr);
    const { records: back, damaged } = readJournal(path, z.object({ i: z.int() }), tell);
    assert.equal(back, [{ i: 0 }, { i: 1 }, { i: 2 }]);
    assert.is(damaged?.line, 4);
  });

  if (process.platform === "win32") test.skip("an append that the system refuses", "Windows has no ulimit");
  else
    test("an append that the system refuses leaves the journal as it was", () => {
      const path = freshPath();
      const program = `import { openJournal } from ${JSON.stringify(journalModule)}; import { z } from "zod";
        const { journal } = openJournal(${JSON.stringify(path)}, z.object({}), console.error);
        journal.append({ i: 0 });
        try { journal.append({ i: 1, text: "x".repeat(1 << 20) }); } catch (error) { console.log(error.name, error.message); }
        journal.append({ i: 2 });`;
      const limited = `trap '' XFSZ; ulimit -f 8; exec '${process.execPath}' --input-type=module -e "$0"`;
      const child = spawnSync("sh", ["-c", limited, program], {
        cwd: fileURLToPath(new URL("../../..", import.meta.url)),
        encoding: "utf8",
      });
      assert.match(child.stdout, `FileError ${path}: the file is larger than`, child.stderr);
      const { records: back, damaged } = readJournal(path, z.object({ i: z.int() }), tell);
      assert.equal(back, [{ i: 0 }, { i: 2 }]);
      assert.is(damaged, null);
    });
});
