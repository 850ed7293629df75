// A journal keeps its sound past, wherever it was cut or damaged, and goes on from there to the same bytes.
import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import * as assert from "uvu/assert";
import { z } from "zod";
import { FileError } from "../../../engine/host/errors.ts";
import { gzipMember, MemberFile, openJournal, readJournal } from "../../../engine/host/journal.ts";
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
  const { journal } = openJournal(path, schema);
  journal.append(records[0]);
  journal.append(records[1], records[2]);
  journal.close();
  return readFileSync(path);
}

function opened(bytes: Buffer): ReturnType<typeof openJournal<z.infer<typeof schema>>> & { path: string } {
  const path = freshPath();
  writeFileSync(path, bytes);
  return { ...openJournal(path, schema), path };
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
      journal.append(...records.slice(sound));
      journal.close();
      assert.ok(readFileSync(path).equals(whole), `continued after a cut at byte ${length}`);
    }
  });

  test("with any one bit turned over, everything from that line on is cut off", () => {
    for (let at = 0; at < whole.length; at++) {
      const bytes = Buffer.from(whole);
      bytes[at] ^= 1 << (at % 8);
      const { journal, records: back, damaged } = opened(bytes);
      journal.close();
      const sound = lineEnds.filter((end) => end <= at).length;
      assert.equal(back, records.slice(0, sound), `byte ${at}`);
      assert.is(damaged?.line, sound + 1);
    }
  });

  test("a line that is missing, doubled or out of place shows", () => {
    const [a, b, c] = [0, ...lineEnds].slice(0, 3).map((start, i) => whole.subarray(start, lineEnds[i]));
    for (const [lines, sound] of [
      [[b, c], 0],
      [[a, c], 1],
      [[a, a], 1],
      [[a, c, b], 1],
      [[a, b, b], 2],
    ] as const) {
      const { journal, records: back } = opened(Buffer.concat(lines));
      journal.close();
      assert.is(back.length, sound);
    }
  });

  test("reading alone reports a damaged tail and leaves the file as it is", () => {
    const path = freshPath();
    writeFileSync(path, whole.subarray(0, whole.length - 1));
    assert.is(readJournal(path, schema).records.length, 2);
    assert.equal(readJournal(path, schema).damaged, {
      line: 3,
      bytes: whole.length - 1 - lineEnds[1],
      reason: "the line was cut",
    });
    assert.is(readFileSync(path).length, whole.length - 1);
  });

  test("keeps the first records on demand, and goes on from there", () => {
    const { journal, path } = opened(whole);
    journal.truncate(5);
    assert.is(journal.length, 3);
    journal.truncate(1);
    journal.append(records[1], records[2]);
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
      () => openJournal(path, z.object({ cell: z.string() })),
      path,
      "line 1: cell:",
      "another version",
    );
    assert.instance(error, FileError);
    assert.ok(readFileSync(path).equals(whole));
  });

  test("records without keys, and journals without records", () => {
    const path = freshPath();
    const empty = openJournal(path, z.object({}));
    assert.equal(empty.records, []);
    empty.journal.append();
    empty.journal.append({}, {});
    empty.journal.close();
    assert.is(readJournal(path, z.object({})).records.length, 2);
  });

  test("a process killed in the middle of an append loses that append only", () => {
    const path = freshPath();
    const program = `import { openJournal } from ${JSON.stringify(journalModule)}; import { z } from "zod";
      const { journal } = openJournal(${JSON.stringify(path)}, z.object({}));
      for (let i = 0; ; i++) journal.append({ i });`;
    const child = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
      cwd: fileURLToPath(new URL("../../..", import.meta.url)),
      env: { ...process.env, FOOTHOLD_KILL_AT: "journal:4" },
      encoding: "utf8",
    });
    assert.is(child.signal, "SIGKILL", child.stderr);
    const { records: back, damaged } = readJournal(path, z.object({ i: z.int() }));
    assert.equal(back, [{ i: 0 }, { i: 1 }, { i: 2 }]);
    assert.is(damaged?.line, 4);
  });

  if (process.platform === "win32") test.skip("an append that the system refuses", "Windows has no ulimit");
  else
    test("an append that the system refuses leaves the journal as it was", () => {
      const path = freshPath();
      const program = `import { openJournal } from ${JSON.stringify(journalModule)}; import { z } from "zod";
        const { journal } = openJournal(${JSON.stringify(path)}, z.object({}));
        journal.append({ i: 0 });
        try { journal.append({ i: 1, text: "x".repeat(1 << 20) }); } catch (error) { console.log(error.name, error.message); }
        journal.append({ i: 2 });`;
      const limited = `trap '' XFSZ; ulimit -f 8; exec '${process.execPath}' --input-type=module -e "$0"`;
      const child = spawnSync("sh", ["-c", limited, program], {
        cwd: fileURLToPath(new URL("../../..", import.meta.url)),
        encoding: "utf8",
      });
      assert.match(child.stdout, `FileError ${path}: the file is larger than`, child.stderr);
      const { records: back, damaged } = readJournal(path, z.object({ i: z.int() }));
      assert.equal(back, [{ i: 0 }, { i: 2 }]);
      assert.is(damaged, null);
    });

  const contents = ["first\n", "", "größer\n".repeat(1000)];
  const membersOf = (path: string): number[] => {
    const { members } = MemberFile.open(path, []);
    const sizes = contents.map((content) => members.append(content));
    members.close();
    return sizes;
  };

  test("gzip members: one each, readable alone and all together, with nothing of the day in their headers", () => {
    const path = freshPath();
    const sizes = membersOf(path);
    const bytes = readFileSync(path);
    assert.is(bytes.length, sizes[0] + sizes[1] + sizes[2]);
    assert.is(gunzipSync(bytes).toString(), contents.join(""));
    const { members, sound } = MemberFile.open(path, sizes);
    assert.is(sound, 3);
    for (const [index, content] of contents.entries()) assert.is(members.read(index).toString(), content);
    members.close();
    // RFC 1952: ID1 ID2 CM FLG MTIME(4) XFL OS
    assert.equal([...gzipMember("x").subarray(0, 10)], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
  });

  test("gzip members: what the journal does not know is cut, what the file lacks is told", async () => {
    const path = freshPath();
    const sizes = membersOf(path);
    const undisturbed = readFileSync(path);
    const one = MemberFile.open(path, sizes.slice(0, 1)); // killed before two journal lines were written
    assert.is(one.sound, 1);
    assert.is(readFileSync(path).length, sizes[0]);
    for (const content of contents.slice(1)) one.members.append(content);
    await throwsMessage(() => one.members.read(3), "no member 3 of 3");
    one.members.close();
    assert.ok(readFileSync(path).equals(undisturbed));

    for (let cut = 1; cut <= sizes[2]; cut += 7) {
      writeFileSync(path, undisturbed.subarray(0, undisturbed.length - cut));
      const short = MemberFile.open(path, sizes);
      short.members.close();
      assert.is(short.sound, 2);
      assert.is(readFileSync(path).length, sizes[0] + sizes[1]);
    }
    const damaged = Buffer.from(undisturbed);
    damaged[damaged.length - 8] ^= 1; // its CRC-32
    writeFileSync(path, damaged);
    const flipped = MemberFile.open(path, sizes);
    flipped.members.close();
    assert.is(flipped.sound, 2);

    writeFileSync(path, undisturbed);
    appendFileSync(path, "torn");
    MemberFile.open(path, sizes).members.close();
    assert.ok(readFileSync(path).equals(undisturbed));
  });

  test("gzip members: a process killed in the middle of one loses that one only", () => {
    const path = freshPath();
    const program = `import { MemberFile } from ${JSON.stringify(journalModule)};
      const { members } = MemberFile.open(${JSON.stringify(path)}, []);
      for (let i = 0; ; i++) members.append("member " + i);`;
    const child = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
      env: { ...process.env, FOOTHOLD_KILL_AT: "members:3" },
      encoding: "utf8",
    });
    assert.is(child.signal, "SIGKILL", child.stderr);
    assert.ok(existsSync(path));
    const sizes = [0, 1, 2].map((i) => gzipMember(`member ${i}`).length);
    const { members, sound } = MemberFile.open(path, sizes);
    assert.is(sound, 2);
    assert.is(members.read(1).toString(), "member 1");
    members.close();
  });
});
