// What config.toml says of where a study came from, and how a model is known again.
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match } from "uvu/assert";
import { defaultSettings } from "../../../engine/host/index.ts";
import { CpuBackend } from "../../../engine/index.ts";
import { readRunSettings } from "../../../landscape/files/run-settings.ts";
import { studySettings } from "../../../landscape/settings.ts";
import { checkModel, checkOrigin, claimFolder, modelDigest, originOf } from "../../../rl/files/run-folder.ts";
import { openEnvironment } from "../../../rl/index.ts";
import { describe, fixturePath, throwsMessage } from "../../support.ts";

describe("rl/files/run-folder", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-run-folder-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const folder = join(place, "model");
  cpSync(fixturePath("tiny-warm-start"), folder, { recursive: true });
  const origin = async (commit: string | null = null) =>
    originOf(
      new CpuBackend(),
      { folder, name: commit === null ? "model" : "org/small", commit, source: commit === null ? "folder" : "hub" },
      await openEnvironment({ name: "alphabet-sort" }),
    );
  const values = defaultSettings(studySettings);

  test("a model's digest is that of sha256sum's lines for its own files, sorted by name", async () => {
    const names = [
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ];
    const sum = (text: string | Buffer): string => createHash("sha256").update(text).digest("hex");
    const lines = names.map((name) => `${sum(readFileSync(join(folder, name)))}  ${name}\n`);
    const { model } = await origin();
    equal(Object.keys(model.sha256), names);
    is(modelDigest(model), sum(lines.join("")));
    writeFileSync(join(folder, "trainer_state.json"), "{}");
    writeFileSync(join(folder, "README.md"), "A model.");
    is(modelDigest((await origin()).model), sum(lines.join("")), "what is no part of the model does not matter");
  });

  test("config.toml has a hub's name with its commit, a folder as it was given, and the digest of both", async () => {
    const commit = "0123456789abcdef0123456789abcdef01234567";
    const out = mkdtempSync(join(place, "run-"));
    claimFolder(out, studySettings, { ...values, model: { path: "org/small@main", sha256: "" } }, await origin(commit));
    const hub = await readRunSettings(out);
    is(hub.model.path, `org/small@${commit}`);
    is(hub.model.sha256, modelDigest((await origin()).model));
    claimFolder(out, studySettings, { ...values, model: { path: "models/mine", sha256: "" } }, await origin());
    equal((await readRunSettings(out)).model, { path: "models/mine", sha256: hub.model.sha256 });
  });

  test("another model than the digest says is refused by name; a folder begun with more files than are the model's goes on", async () => {
    const found = await origin();
    const settings = { ...values, model: { path: "models/mine", sha256: modelDigest(found.model) } };
    checkModel(settings, found);
    checkModel({ ...settings, model: { path: "models/mine", sha256: "" } }, found);
    const other = {
      ...found,
      model: { ...found.model, sha256: { ...found.model.sha256, "config.json": "0".repeat(64) } },
    };
    await throwsMessage(
      () => checkModel(settings, other),
      'model.path: "models/mine" is another model',
      "--model.path",
    );

    const out = mkdtempSync(join(place, "run-"));
    const former = { ...found.model.sha256, "trainer_state.json": "1".repeat(64) };
    claimFolder(out, studySettings, settings, { ...found, model: { ...found.model, sha256: former } });
    match(readFileSync(join(out, "provenance.json"), "utf8"), "trainer_state.json");
    checkOrigin(out, found, false);
    await throwsMessage(() => checkOrigin(out, other, false), "begun from another model: config.json");
  });
});
