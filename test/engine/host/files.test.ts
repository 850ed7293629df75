// Files are whole or not there: writes are cut by kill -9 and by full or forbidden places.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { z } from "zod";
import { FileError } from "../../../engine/host/errors.ts";
import {
  ensureFolder,
  expectDiskSpace,
  expectFilePlace,
  expectFolderPlace,
  explainSystemError,
  formatBytes,
  freeDisk,
  freeDiskBytes,
  linesOf,
  readJson,
  readText,
  removeTemporary,
  sha256File,
  writeAtomic,
  writeAtomicFrom,
} from "../../../engine/host/files.ts";
import { describe, throwsMessage } from "../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-files-"));
const filesModule = fileURLToPath(new URL("../../../engine/host/files.ts", import.meta.url));

describe("engine/host/files", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));

  test("a byte order mark before a text is no part of it; one within it is", () => {
    const path = join(temporary, "with-a-mark", "mark.json");
    ensureFolder(join(temporary, "with-a-mark"));
    writeFileSync(path, '\ufeff["\ufeff"]');
    assert.is(readText(path), '["\ufeff"]');
    assert.equal(readJson(path, z.array(z.string())), ["\ufeff"]);
  });

  test("lines end at LF and CRLF alone", () => {
    assert.equal(linesOf("a\u2028b\r\nc\u2029d\r\n\re\u0085"), ["a\u2028b", "c\u2029d", "\re\u0085"]);
  });

  test("writes text, bytes, parts and parts that arrive later, and replaces what was there", async () => {
    const path = join(temporary, "whole");
    writeAtomic(path, "größer");
    assert.is(readFileSync(path, "utf8"), "größer");
    writeAtomic(path, new Uint8Array([1, 2, 3]).subarray(1));
    assert.equal([...readFileSync(path)], [2, 3]);
    writeAtomic(path, [new Uint8Array(0), new Uint8Array([7]), new Uint8Array(3 << 20).fill(9)]);
    assert.is(readFileSync(path).length, 1 + (3 << 20));
    await writeAtomicFrom(
      path,
      (async function* () {
        yield new Uint8Array([1]);
        yield new Uint8Array([2]);
      })(),
    );
    assert.equal([...readFileSync(path)], [1, 2]);
    assert.equal(readdirSync(temporary).sort(), ["whole", "with-a-mark"]);
  });

  test("a source that fails leaves the old file and no other", async () => {
    const folder = join(temporary, "failing");
    ensureFolder(folder);
    const path = join(folder, "kept");
    writeAtomic(path, "old");
    function* failing(): Generator<Uint8Array> {
      yield new Uint8Array(10);
      throw new Error("the source broke");
    }
    await throwsMessage(() => writeAtomic(path, failing()), "the source broke");
    await throwsMessage(
      () =>
        writeAtomicFrom(
          path,
          (async function* () {
            yield* failing();
          })(),
        ),
      "the source broke",
    );
    assert.is(readFileSync(path, "utf8"), "old");
    assert.equal(readdirSync(folder), ["kept"]);
  });

  test("a process killed before the rename leaves the old file; the next one clears up, below too, and nothing else", () => {
    const folder = join(temporary, "killed");
    const inner = join(folder, "inner");
    ensureFolder(inner);
    writeFileSync(join(inner, ".keep.temporary"), "");
    const program = `import { writeAtomic } from ${JSON.stringify(filesModule)};
      writeAtomic("one", "first"); writeAtomic("one", "second");`;
    const child = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
      cwd: inner,
      env: { ...process.env, FOOTHOLD_KILL_AT: "write-atomic:2" },
      encoding: "utf8",
    });
    assert.is(child.signal, "SIGKILL", child.stderr);
    assert.is(readFileSync(join(inner, "one"), "utf8"), "first");
    assert.is(readdirSync(inner).length, 3);
    assert.is(removeTemporary(folder).length, 1);
    assert.equal(readdirSync(inner).sort(), [".keep.temporary", "one"]);
    assert.equal(removeTemporary(folder), []);
  });

  test("errors of the file system name the path and the mend, as mistakes of the user", async () => {
    const file = join(temporary, "a-file");
    writeFileSync(file, "");
    const error = await throwsMessage(
      () => writeAtomic(join(file, "x"), ""),
      join(file, "x"),
      "is a file, not a folder",
    );
    assert.instance(error, FileError);
    await throwsMessage(() => writeAtomic(join(temporary, "missing", "x"), ""), "no such file or folder");
    await throwsMessage(() => ensureFolder(join(file, "x")), join(file, "x"));
    await throwsMessage(() => sha256File(temporary), temporary, "this is a folder");
    await throwsMessage(() => writeAtomic(temporary, ""), temporary);
    assert.is(explainSystemError(new Error("ours")), null);
    assert.is(explainSystemError("text"), null);
  });

  test("folders are made one by one; a file in the way is named, and nothing is made below it", () => {
    const deep = join(temporary, "one", "two", "three");
    ensureFolder(deep);
    ensureFolder(deep);
    assert.equal(readdirSync(join(temporary, "one", "two")), ["three"]);
    const file = join(temporary, "one", "file");
    writeFileSync(file, "kept");
    assert.throws(
      () => ensureFolder(join(file, "runs", "tiny")),
      (error: Error) => error.name === "FileError",
    );
    assert.is(readFileSync(file, "utf8"), "kept");
  });

  if (process.platform === "win32") test.skip("a write that the system refuses in the middle", "Windows has no ulimit");
  else
    test("a write that the system refuses in the middle leaves the old file, no other, and one message", () => {
      const folder = join(temporary, "limited");
      ensureFolder(folder);
      writeFileSync(join(folder, "kept"), "old");
      const program = `import { writeAtomic } from ${JSON.stringify(filesModule)};
        try { writeAtomic("kept", new Uint8Array(1 << 20)); } catch (error) { console.log(error.name + ": " + error.message); }`;
      const limited = `trap '' XFSZ; ulimit -f 8; exec '${process.execPath}' --input-type=module -e "$0"`;
      const child = spawnSync("sh", ["-c", limited, program], { cwd: folder, encoding: "utf8" });
      assert.match(child.stdout, "FileError: kept: the file is larger than", child.stderr);
      assert.equal(readdirSync(folder), ["kept"]);
      assert.is(readFileSync(join(folder, "kept"), "utf8"), "old");
    });

  if (process.getuid?.() === 0) test.skip("a folder that may not be written", "root may write anywhere");
  else
    test("a folder that may not be written is said to be one", async () => {
      const folder = join(temporary, "forbidden");
      mkdirSync(folder);
      chmodSync(folder, 0o500);
      await throwsMessage(() => writeAtomic(join(folder, "x"), ""), join(folder, "x"), "permission denied");
    });

  test("JSON is checked: missing, empty, broken and misfitting files are told apart", async () => {
    const schema = z.object({ steps: z.array(z.object({ loss: z.number() })) });
    const path = join(temporary, "trainer.json");
    const withText = (text: string) => () => {
      writeFileSync(path, text);
      return readJson(path, schema);
    };
    assert.equal(withText('{"steps":[{"loss":0.5}]}')(), { steps: [{ loss: 0.5 }] });
    await throwsMessage(withText(""), path, "an empty file");
    await throwsMessage(withText('{"steps":['), path, "expected JSON");
    assert.equal(withText('\ufeff{"steps":[{"loss":0.5}]}')(), { steps: [{ loss: 0.5 }] }, "a byte order mark");
    assert.is(readText(path), '{"steps":[{"loss":0.5}]}');
    await throwsMessage(withText("\ufeff\ufeff1"), path, "expected JSON");
    const error = await throwsMessage(withText('{"steps":[{"loss":"x"},{}]}'), path, "steps.0.loss:", "steps.1.loss:");
    assert.instance(error, FileError);
    rmSync(path);
    await throwsMessage(() => readJson(path, schema), path, "no such file");
  });

  test("SHA-256 of files around the size of a piece", () => {
    const path = join(temporary, "hashed");
    for (const size of [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]) {
      const bytes = Buffer.alloc(size, size % 251);
      writeFileSync(path, bytes);
      assert.is(sha256File(path), createHash("sha256").update(bytes).digest("hex"));
    }
    writeFileSync(path, "abc"); // FIPS 180-2, appendix B.1
    assert.is(sha256File(path), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });

  test("what the disk holds is enough for itself and not for one byte more", async () => {
    const folder = join(temporary, "does", "not", "exist", "yet");
    const free = freeDiskBytes(folder);
    assert.ok(free > 0);
    expectDiskSpace(folder, Math.floor(free / 2), "the sweep");
    await throwsMessage(
      () => expectDiskSpace(folder, free * 2 + 1e9, "the sweep"),
      folder,
      "the sweep needs ",
      " are free",
    );
  });

  test("a plan says whether its output would fit", () => {
    const folder = join(temporary, "no", "such", "folder");
    assert.match(freeDisk(folder, 1), /^free: [\d.]+ \w+$/);
    assert.match(
      freeDisk(folder, freeDiskBytes(folder) * 2 + 1e9),
      /^free: .*\. It does not fit there: .* are missing$/,
    );
  });

  test("a place where no folder or file can be made is refused before any work, and nothing is made", async () => {
    const file = join(temporary, "a-file");
    writeFileSync(file, "");
    const folder = join(temporary, "new", "run");
    expectFolderPlace(folder);
    expectFolderPlace(temporary);
    assert.not(existsSync(join(temporary, "new")));
    await throwsMessage(() => expectFolderPlace(file), `${file}: expected a folder, but ${file} is a file`, "--out");
    await throwsMessage(() => expectFolderPlace(join(file, "run")), "a part of this path is a file, not a folder");
    expectFilePlace(file);
    expectFilePlace(join(temporary, "new.json"));
    assert.not(existsSync(join(temporary, "new.json")));
    await throwsMessage(() => expectFilePlace(temporary), `${temporary}: expected a file, got a folder`);
    await throwsMessage(() => expectFilePlace(join(folder, "x.json")), `${folder}: no such file or folder`);
  });

  test("sizes are written with one decimal of a binary unit", () => {
    const cases: [number, string][] = [
      [0, "0 bytes"],
      [1023, "1023 bytes"],
      [1024, "1.0 KiB"],
      [1024 * 1024 - 1, "1.0 MiB"],
      [1.9 * 2 ** 30, "1.9 GiB"],
      [2 ** 60, "1024.0 PiB"],
    ];
    for (const [bytes, text] of cases) assert.is(formatBytes(bytes), text);
  });

  test("a name that is a link is replaced, not followed", () => {
    const target = join(temporary, "target");
    const link = join(temporary, "link");
    writeFileSync(target, "untouched");
    symlinkSync(target, link);
    writeAtomic(link, "new");
    assert.is(readFileSync(target, "utf8"), "untouched");
    assert.is(readFileSync(link, "utf8"), "new");
  });
});
