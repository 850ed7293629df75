// What the study's command makes of its settings, before it opens a device or makes a folder.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { describe } from "../support.ts";
import { type Ended, type Flags, start, studyCommand } from "./tiny-study.ts";

describe("landscape/run", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-run-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const out = join(place, "study");
  const file = (name: string, text: string): string => {
    const path = join(place, name);
    writeFileSync(path, text);
    return path;
  };

  /** One message and exit code 2, and no folder. */
  const expectRefused = async (flags: Flags, study: string, ...texts: string[]): Promise<void> => {
    const { status, signal, stdout, stderr }: Ended = await start(studyCommand(out, flags, study)).ended;
    if (status !== 2) throw new Error(`expected exit code 2, got ${status ?? signal}: ${stdout}${stderr}`);
    assert.not.match(stderr, /^ {4}at /m);
    for (const text of texts) assert.ok(stderr.includes(text), `${JSON.stringify(text)} in ${stderr}`);
    assert.not.ok(existsSync(out), "nothing is written");
  };

  test("fewer different episodes than are to be measured: refused with both numbers", async () => {
    const rows = [1, 2, 3, 4].map((k) => Array.from("abcdef", (letter) => `First${letter}${k} Last${letter}`));
    const names = file("names.json", JSON.stringify([...rows, ["Too Short"]]));
    await expectRefused(
      { "environment.names": names, "evaluate.episodes": "64", "landscape.rollouts.prompts": "64" },
      "tiny",
      "2 settings are wrong",
      `evaluate.episodes: expected 64 episodes with different first messages, alphabet-sort (${names}) has 4`,
      `landscape.rollouts.prompts: expected 64 episodes with different first messages, alphabet-sort (${names}) has 4`,
    );
  });
});
