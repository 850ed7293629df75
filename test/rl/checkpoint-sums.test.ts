// A kept checkpoint is held against its sums, and the sums against the folder: one flipped bit anywhere, a file less, a file
// more, or sums cut short are refused with one message.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { RunFolderError, sha256File } from "../../engine/host/index.ts";
import { checkpointFolder, expectSound, stepName } from "../../rl/kept-checkpoints.ts";
import { describe, throwsMessage } from "../support.ts";

describe("rl/checkpoint-sums", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-kept-"));
  test.after(() => rmSync(folder, { recursive: true }));
  const checkpoint = checkpointFolder(folder, 3);
  const sums = `${checkpoint}.sha256`;
  const files = { "config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "[]" };
  mkdirSync(checkpoint, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(checkpoint, name), text);
  const written = Object.keys(files)
    .map((name) => `${sha256File(join(checkpoint, name))}  ${stepName(3)}/${name}\n`)
    .join("");
  const refused = async (...texts: string[]): Promise<void> => {
    const error = await throwsMessage(() => expectSound(folder, 3), ...texts, "Restore it from a copy");
    assert.instance(error, RunFolderError);
  };

  test("as it was written, and with a note beside, it is sound", () => {
    writeFileSync(sums, written);
    expectSound(folder, 3);
    writeFileSync(join(checkpoint, "README.md"), "mine");
    expectSound(folder, 3);
    rmSync(join(checkpoint, "README.md"));
  });

  test("one flipped bit anywhere in the sums", async () => {
    const bytes = Buffer.from(written);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at] ^= 1 << (at % 7);
      writeFileSync(sums, damaged);
      await refused(sums.slice(0, -".sha256".length));
    }
    writeFileSync(sums, written);
  });

  test("sums cut short at any byte, or empty", async () => {
    for (let length = 0; length < written.length; length++) {
      writeFileSync(sums, written.slice(0, length));
      await refused(sums);
    }
    writeFileSync(sums, written);
  });

  test("a flipped bit in a file, a missing file, an additional one", async () => {
    for (const [name, text] of Object.entries(files)) {
      const path = join(checkpoint, name);
      const damaged = Buffer.from(text);
      damaged[0] ^= 1;
      writeFileSync(path, damaged);
      await refused(`${path}: changed since it was written`);
      rmSync(path);
      await refused(`${path}: missing`);
      writeFileSync(path, text);
    }
    writeFileSync(join(checkpoint, "chat_template.jinja"), "{{ }}");
    await refused("does not list chat_template.jinja");
    rmSync(join(checkpoint, "chat_template.jinja"));
    expectSound(folder, 3);
    assert.is(readFileSync(sums, "utf8"), written);
  });
});
