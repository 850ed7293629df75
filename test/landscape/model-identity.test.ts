// Which files make the model that a run began from: with others in its folder, the run goes on; with another weight, it does not.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { resolveSettings } from "../../engine/host/index.ts";
import { CpuBackend } from "../../engine/index.ts";
import { studySettings } from "../../landscape/settings.ts";
import { checkOrigin, originOf } from "../../rl/files/run-folder.ts";
import { openEnvironment } from "../../rl/index.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";

describe("landscape/run-folder: the model's identity", (test) => {
  const scratch = mkdtempSync(join(tmpdir(), "foothold-identity-"));
  test.after(() => rmSync(scratch, { recursive: true, force: true }));

  test("what a trainer leaves beside a model is no part of it", async () => {
    const folder = join(scratch, "model");
    const run = join(scratch, "run");
    cpSync(fixturePath("tiny-warm-start"), folder, { recursive: true });
    mkdirSync(run);
    const environment = await openEnvironment(resolveSettings(studySettings, []).environment);
    const origin = () =>
      originOf(new CpuBackend(), { folder, name: "model", commit: null, source: "folder" }, environment);
    const begin = (sha256: Record<string, string>, at: Awaited<ReturnType<typeof origin>>): void =>
      writeFileSync(
        join(run, "provenance.json"),
        JSON.stringify({
          ...{ schemaVersion: 1, foothold: "0", node: "v24", gitRevision: null, startedAt: "2026" },
          ...at,
          model: { ...at.model, sha256: { ...at.model.sha256, ...sha256 } },
        }),
      );
    const first = await origin();
    assert.equal(Object.keys(first.model.sha256), [
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    begin({}, first);
    for (const name of ["trainer_state.json", "all_results.json", "optimizer.safetensors"])
      writeFileSync(join(folder, name), "{}");
    checkOrigin(run, await origin(), false);
    // An earlier version listed them.
    begin({ "trainer_state.json": "0", "all_results.json": "1" }, first);
    checkOrigin(run, await origin(), false);
    const config = readFileSync(join(folder, "config.json"), "utf8");
    writeFileSync(join(folder, "config.json"), `${config}\n`);
    const changed = await origin();
    await throwsMessage(() => checkOrigin(run, changed, false), "begun from another model", "config.json", "differs");
    writeFileSync(join(folder, "config.json"), config);
    rmSync(join(folder, "tokenizer_config.json"));
    const lacking = await origin();
    await throwsMessage(() => checkOrigin(run, lacking, false), "tokenizer_config.json");
  });
});
