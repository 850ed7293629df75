// What the study's command makes of its settings, before it opens a device or makes a folder.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { readTomlFile, resolveSettings } from "../../engine/host/index.ts";
import { studySettings } from "../../landscape/settings.ts";
import { filesOf } from "../../rl/settings-files.ts";
import { describe, fixturePath } from "../support.ts";
import {
  contents,
  type Ended,
  expectDone,
  expectSame,
  type Flags,
  runStudy,
  start,
  studyCommand,
} from "./tiny-study.ts";

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
      { "environment.alphabet-sort.names": names, "evaluate.episodes": "64", "landscape.rollouts.prompts": "64" },
      "tiny",
      "2 settings are wrong",
      `evaluate.episodes: expected 64 episodes with different first messages, alphabet-sort (${names}) has 4`,
      `landscape.rollouts.prompts: expected 64 episodes with different first messages, alphabet-sort (${names}) has 4`,
    );
  });

  test("a sweep that does not fit into memory is refused before training", () =>
    expectRefused(
      {
        backend: "cpu",
        "landscape.maxNewTokens": "20000",
        "landscape.rollouts.rollouts": "1000",
        "batch.rows": "100000",
      },
      "tiny",
      "OutOfMemoryError: The sweep needs ",
      "KV cache",
      "this machine has free",
    ));

  const rowsOf = (mark: string): string =>
    JSON.stringify(
      [1, 2, 3, 4].map((k) => Array.from("abcdefghijklm", (letter) => `First${letter}${k}${mark} Last${letter}`)),
    );
  const names = file("rows.json", rowsOf(""));
  const model = join(place, "model");
  cpSync(fixturePath("tiny-warm-start"), model, { recursive: true });
  const run = join(place, "a", "study");
  const again = (to: string, ...flags: string[]) =>
    start(["landscape/run.ts", join(run, "config.toml"), "--out", to, ...flags]).ended;

  test("a run's config.toml repeats the study: the same model and names, to the same bytes", async () => {
    expectDone(await runStudy(run, { "model.path": model, "environment.alphabet-sort.names": names }));
    const config = readFileSync(join(run, "config.toml"), "utf8");
    assert.match(config, `path = ${JSON.stringify(model)}`);
    assert.match(config, /\[model\]\n.*\n.*\n.*\nsha256 = "[0-9a-f]{64}"/);
    assert.match(config, `names = ${JSON.stringify(names)}`);
    assert.match(config, /namesSha256 = "[0-9a-f]{64}"/);
    const other = join(place, "b", "study");
    expectDone(await again(other));
    // What a restart needs is saved as often as train.resumeEvery says, which is no part of a study.
    const results = (folder: string) => new Map([...contents(folder)].filter(([name]) => !name.startsWith("state/")));
    expectSame(results(other), results(run));
  });

  test("config.toml does not repeat the study with another model or other names: refused by name, nothing written", async () => {
    const other = join(place, "c");
    const weights = join(model, "model.safetensors");
    const bytes = readFileSync(weights);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(weights, bytes);
    const refused = await again(other);
    assert.is(refused.status, 2, refused.stderr);
    assert.match(refused.stderr, `model.path: "${model}" is another model than the settings name: expected SHA-256 `);
    assert.match(refused.stderr, "(model.sha256)");
    assert.equal([...contents(other)], []);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(weights, bytes);

    writeFileSync(names, rowsOf("x"));
    const { status, stderr } = await again(other);
    assert.is(status, 2, stderr);
    assert.match(stderr, `${names}: not the file of the settings: expected SHA-256 `);
    assert.match(stderr, "namesSha256");
    writeFileSync(names, rowsOf(""));

    const embedded = await again(other, "--model.path=");
    assert.is(embedded.status, 2, embedded.stderr);
    assert.match(embedded.stderr, "the model that comes with the program is another model than the settings name");
  });

  test("a folder of the former format goes on: settings without a model, environment.minTurns and its like", async () => {
    const config = readFileSync(join(run, "config.toml"), "utf8");
    const former = config
      .replace(/^\[model\]\n(.+\n)+\n/m, "")
      .replace("\n[environment.alphabet-sort]\n", "")
      .replace(/^.*\n(names|namesSha256) = .*\n/gm, "");
    assert.match(former, /\[environment\]\n(.+\n)+minTurns = 2/);
    writeFileSync(join(run, "config.toml"), former);
    const provenance = join(run, "provenance.json");
    const { files, ...rest } = JSON.parse(readFileSync(provenance, "utf8"));
    assert.equal(Object.keys(files), ["environment.alphabet-sort.names"]);
    writeFileSync(provenance, JSON.stringify(rest));
    expectDone(await start(["landscape/report.ts", run]).ended);
    const flags = { "model.path": model, "environment.alphabet-sort.names": names };
    expectDone(await runStudy(run, flags));
    assert.is(readFileSync(join(run, "config.toml"), "utf8"), config);
    const other = await runStudy(run, { "model.path": model });
    assert.is(other.status, 2);
    assert.match(other.stderr, 'environment.alphabet-sort.names: begun with the file "rows.json"');
    assert.match(other.stderr, "this is no file");
  });

  test("a setting's former name: read from a file, and answered with the new name on the command line", async () => {
    await expectRefused(
      { "environment.minTurns": "1" },
      "tiny",
      "--environment.minTurns is now --environment.alphabet-sort.minTurns",
    );
    await expectRefused(
      {},
      file("former.toml", "environment.minTurns = 3\n"),
      "environment.alphabet-sort.minTurns: 3 is above maxTurns, 2",
      ": environment.minTurns is now environment.alphabet-sort.minTurns",
    );
  });

  test("--write-settings writes every setting, to start from, and replaces nothing", async () => {
    const path = join(place, "own.toml");
    const command = ["landscape/run.ts", "--write-settings", path, "tiny"];
    const { status, stdout, stderr } = await start(command).ended;
    assert.is(status, 0, stderr);
    assert.ok(stdout.startsWith(`${path}: every setting`), stdout);
    const text = readFileSync(path, "utf8");
    assert.match(text, /^extends = "tiny"$/m);
    assert.match(text.replaceAll("\n# ", " "), "A number, above 0. Default: 0.000006. learningRate = 0.0006\n");
    const valuesOf = (study: string) =>
      resolveSettings(
        studySettings,
        filesOf(studySettings, [study]).map((file) => readTomlFile(studySettings, file)),
      );
    assert.equal(valuesOf(path), { ...valuesOf("tiny"), extends: "tiny" });
    const again = await start(command).ended;
    assert.is(again.status, 2);
    assert.match(again.stderr, `${path}: already exists`);
    assert.is(readFileSync(path, "utf8"), text);
  });
});
