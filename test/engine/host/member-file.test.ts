// Gzip members beside a journal: read one by one without touching the file, and cut only with a word and a copy.
import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import * as assert from "uvu/assert";
import { FileError } from "../../../engine/host/errors.ts";
import { gzipMember, MemberFile, readMembers } from "../../../engine/host/member-file.ts";
import { describe, throwsMessage } from "../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-members-"));
const memberModule = fileURLToPath(new URL("../../../engine/host/member-file.ts", import.meta.url));
let made = 0;
const freshPath = () => join(temporary, `members-${made++}.gz`);
const contents = ["first\n", "", "größer\n".repeat(1000)];
let told: string[] = [];
const tell = (message: string): void => void told.push(message);

function membersOf(path: string): number[] {
  const { members } = MemberFile.open(path, [], tell);
  const sizes = contents.map((content) => members.append(content));
  members.close();
  return sizes;
}

/** The text of each member, or why it cannot be read. */
const read = (path: string, sizes: readonly number[]): string[] =>
  readMembers(path, sizes).map((member) =>
    member.content === null ? `problem: ${member.problem}` : String(member.content),
  );

describe("engine/host/member-file", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));

  test("one member each, readable alone and all together, with no time in their headers", () => {
    const path = freshPath();
    const sizes = membersOf(path);
    const bytes = readFileSync(path);
    assert.is(bytes.length, sizes[0] + sizes[1] + sizes[2]);
    assert.is(gunzipSync(bytes).toString(), contents.join(""));
    assert.equal(read(path, sizes), contents);
    // RFC 1952: ID1 ID2 CM FLG MTIME(4) XFL OS
    assert.equal([...gzipMember("x").subarray(0, 10)], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
  });

  test("a flipped bit costs its own member, is told, and changes no file", () => {
    const path = freshPath();
    const sizes = membersOf(path);
    const whole = readFileSync(path);
    let refused = 0;
    for (let at = 0; at < whole.length; at++) {
      const bytes = Buffer.from(whole);
      bytes[at] ^= 1 << (at % 8);
      writeFileSync(path, bytes);
      const hit = at < sizes[0] ? 0 : at < sizes[0] + sizes[1] ? 1 : 2;
      const found = read(path, sizes);
      for (const [index, content] of contents.entries()) {
        if (index !== hit) assert.is(found[index], content);
        else assert.ok(found[index].startsWith("problem: ") || found[index] === content, `byte ${at}`);
      }
      if (found[hit].startsWith("problem: ")) refused++;
      assert.ok(readFileSync(path).equals(bytes));
    }
    // The rest are the time and system in the headers, which nothing checks, and bits that only fill a byte.
    assert.ok(refused > 0.6 * whole.length, `${refused} of ${whole.length} flips were found`);
  });

  test("a file that is missing or cut short: each member says so", () => {
    const path = freshPath();
    assert.equal(read(path, [5, 5]), ["problem: the file is missing", "problem: the file is missing"]);
    assert.not.ok(existsSync(path));
    const sizes = membersOf(path);
    writeFileSync(path, readFileSync(path).subarray(0, sizes[0] + 3));
    assert.equal(read(path, sizes), [contents[0], "problem: the file is cut short", "problem: the file is cut short"]);
  });

  test("opening cuts what the journal does not name, says so, and keeps it beside", () => {
    const path = freshPath();
    const sizes = membersOf(path);
    const whole = readFileSync(path);
    told = [];
    const { members, sound } = MemberFile.open(path, sizes.slice(0, 1), tell);
    assert.is(sound, 1);
    assert.is(readFileSync(path).length, sizes[0]);
    assert.ok(readFileSync(`${path}.damaged`).equals(whole.subarray(sizes[0])));
    assert.equal(told, [
      `${path}: its last ${sizes[1] + sizes[2]} bytes, what the journal beside it does not name, were cut off and are kept in ` +
        `${basename(path)}.damaged.`,
    ]);
    for (const content of contents.slice(1)) members.append(content);
    members.close();
    assert.ok(readFileSync(path).equals(whole));
    appendFileSync(path, "torn");
    MemberFile.open(path, sizes, tell).members.close();
    assert.ok(readFileSync(path).equals(whole));
  });

  test("opening: the last member cut short is told, more than that is refused", async () => {
    const path = freshPath();
    const sizes = membersOf(path);
    const whole = readFileSync(path);
    for (let cut = 1; cut < sizes[2]; cut += 7) {
      writeFileSync(path, whole.subarray(0, whole.length - cut));
      told = [];
      const { members, sound } = MemberFile.open(path, sizes, tell);
      members.close();
      assert.is(sound, 2);
      assert.is(readFileSync(path).length, sizes[0] + sizes[1]);
      assert.match(told[0], "a member that was cut");
    }
    for (const length of [0, sizes[0] - 1, sizes[0] + sizes[1] - 1]) {
      writeFileSync(path, whole.subarray(0, length));
      const error = await throwsMessage(
        () => MemberFile.open(path, sizes, tell),
        `${path}: expected ${whole.length} bytes, as the journal beside it says, got ${length}`,
        "of 3 members are missing",
        "Restore the file",
      );
      assert.instance(error, FileError);
      assert.is(readFileSync(path).length, length);
    }
  });

  test("a process killed in the middle of a member loses that one only", () => {
    const path = freshPath();
    const program = `import { MemberFile } from ${JSON.stringify(memberModule)};
      const { members } = MemberFile.open(${JSON.stringify(path)}, [], console.error);
      for (let i = 0; ; i++) members.append("member " + i);`;
    const child = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
      env: { ...process.env, FOOTHOLD_KILL_AT: "members:3" },
      encoding: "utf8",
    });
    assert.is(child.signal, "SIGKILL", child.stderr);
    const sizes = [0, 1].map((i) => gzipMember(`member ${i}`).length);
    assert.equal(read(path, sizes), ["member 0", "member 1"]);
    const { members, sound } = MemberFile.open(path, sizes, tell);
    members.close();
    assert.is(sound, 2);
    assert.is(readFileSync(path).length, sizes[0] + sizes[1]);
  });
});
