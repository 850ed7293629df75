// Files that build on others: which are read, and in which order.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { equal, is } from "uvu/assert";
import { defaultSettings, readTomlFile, resolveSettings } from "../../engine/host/index.ts";
import { studySettings } from "../../landscape/settings.ts";
import { filesOf, notesThatHold } from "../../rl/settings-files.ts";
import { describe, throwsMessage } from "../support.ts";

describe("rl/settings-files", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-files-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  mkdirSync(join(place, "deep"));
  const file = (name: string, text: string): string => {
    const path = join(place, name);
    writeFileSync(path, text);
    return path;
  };
  const values = (...studies: string[]) =>
    resolveSettings(
      studySettings,
      filesOf(studySettings, studies).map((path) => readTomlFile(studySettings, path)),
    );

  test("a file that extends a preset has its values but for its own", () => {
    const own = file("own.toml", 'extends = "tiny"\n[train]\nsteps = 40\n');
    const { train } = values(own);
    equal([train.steps, train.learningRate, train.maxNewTokens], [40, 6e-4, 24]);
    is(defaultSettings(studySettings).train.learningRate, 6e-6, "without it, the rate of a large model");
  });

  test("files extend files, from their own folder on; the nearer one wins", () => {
    file("base.toml", 'extends = "tiny"\ntrain.steps = 40\ntrain.seed = 7\n');
    const own = file("deep/own.toml", 'extends = "../base.toml"\ntrain.seed = 8\n');
    equal(
      filesOf(studySettings, [own]).map((path) => basename(path)),
      ["tiny.toml", "base.toml", "own.toml"],
    );
    const { train } = values(own);
    equal([train.steps, train.seed, train.promptsPerStep], [40, 8, 16]);
  });

  test("several studies one after another: later ones win", () => {
    const changes = file("changes.toml", "train.steps = 30\n");
    equal(
      filesOf(studySettings, ["tiny", changes]).map((path) => basename(path)),
      ["tiny.toml", "changes.toml"],
    );
    equal([values("tiny", changes).train.steps, values(changes, "tiny").train.steps], [30, 20]);
  });

  test("what is no file and no preset, and a circle, are refused", async () => {
    const lost = file("lost.toml", '\nextends = "tinny"\n');
    await throwsMessage(
      () => filesOf(studySettings, [lost]),
      `extends = "tinny" (${lost}, line 2)`,
      "found neither. Presets: first-steps, gsm8k, quick, study, study-rays, tiny, wide.",
    );
    await throwsMessage(() => filesOf(studySettings, ["tinny"]), "tinny: expected a settings file or a preset");
    file("one.toml", 'extends = "two.toml"');
    file("two.toml", 'extends = "one.toml"');
    await throwsMessage(
      () => filesOf(studySettings, [join(place, "one.toml")]),
      "extends itself: one.toml extends two.toml extends one.toml",
    );
  });

  test("a preset's notes are of its own model: another model.path after them leaves them out", () => {
    const read = (...studies: string[]) =>
      filesOf(studySettings, studies).map((path) => readTomlFile(studySettings, path));
    const notes = values("tiny").notes;
    is(notes.length, 4);
    equal(notesThatHold(read("tiny"), notes), notes);
    const other = file("other.toml", 'extends = "tiny"\nmodel.path = "elsewhere"\n');
    equal(notesThatHold(read(other), values(other).notes), []);
    const own = file("noted.toml", 'extends = "tiny"\nnotes = ["mine"]\nmodel.path = "elsewhere"\n');
    equal(notesThatHold(read(own), values(own).notes), ["mine"]);
    equal(
      notesThatHold(
        [...read(own), { given: [{ key: "model.path", value: "x", where: "--model.path x" }], problems: [] }],
        ["mine"],
      ),
      [],
    );
  });
});
