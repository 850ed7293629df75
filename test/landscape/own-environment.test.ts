// docs/extending/environment.md followed to the letter, from a folder outside the source tree: its module is taken out of the page,
// trained on for one step, and its run folder goes on and is drawn again.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { gunzipSync } from "node:zlib";
import * as assert from "uvu/assert";
import { describe } from "../support.ts";
import { expectDone, root, start } from "./tiny-study.ts";

const page = readFileSync(join(root, "docs/extending/environment.md"), "utf8");
const blocks = [...page.matchAll(/^```(\w*)\n([\s\S]*?)^```/gm)];
/** The page's first block of a kind; commands have none. */
const block = (kind: string): string => {
  const found = blocks.find(([, language]) => language === kind);
  if (found === undefined) throw new Error(`docs/extending/environment.md has no block of ${kind || "commands"}`);
  return found[2];
};

describe("landscape/own-environment", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-own-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const module = join(place, "my-task.ts");
  const source = block("ts");
  writeFileSync(module, source);
  const study = (argv: readonly string[]) => start([join(root, "landscape/run.ts"), ...argv], {}, place).ended;
  /** One step of 2 × 2 rollouts, with the command's own flags before. */
  const short = [
    ...["--train.steps", "1", "--train.checkpoints", "0,1", "--train.promptsPerStep", "2"],
    ...["--train.rolloutsPerPrompt", "2", "--evaluate.episodes", "8"],
  ];
  const out = join(place, "runs", "add");

  test("an environment takes thirty lines at most", () =>
    assert.ok(source.trim().split("\n").length <= 30, "too long"));

  test("the page's command trains on it, and its settings are kept", async () => {
    const [npx, node, program, ...flags] = block("").trim().split(" ");
    assert.equal([npx, node, program], ["npx", "node", "landscape/run.ts"]);
    const unused = "--environment.alphabet-sort.minTurns";
    const stderr = expectDone(await study([...flags, ...short, unused, "1"]));
    assert.match(stderr, `${unused} 1: has no effect with the other settings\n`);
    const config = readFileSync(join(out, "config.toml"), "utf8");
    // Relative to the run folder, as in every settings file.
    assert.match(config, /^module = "..\/..\/my-task.ts"$/m);
    assert.match(config, /^moduleSha256 = "[0-9a-f]{64}"$/m);
    assert.match(config, /\[environment\.add\]\n# largest summand.*\nlargest = 9\n/);
    assert.not.match(config, "alphabet-sort]");
    const rollouts = gunzipSync(readFileSync(join(out, "rollouts", "step-000001.jsonl.gz"))).toString();
    const lines = rollouts
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.is(lines.length, 4);
    for (const { failure, messages } of lines) {
      assert.is(failure, null);
      assert.match(messages[0].content, /^What is [0-9] \+ [0-9]\?$/);
    }
  });

  test("its folder goes on, is drawn again, and its config.toml repeats it", async () => {
    const report = readFileSync(join(out, "report.html"), "utf8");
    const sentence = /description: "(.+)"/.exec(source)?.[1] ?? "";
    assert.ok(sentence.length > 20 && report.includes(`<p class="lede">${sentence}</p>`), "the task is described");
    expectDone(await start([join(root, "landscape/report.ts"), out], {}, place).ended);
    assert.is(readFileSync(join(out, "report.html"), "utf8"), report);
    const config = join(out, "config.toml");
    expectDone(await study([config, "--out", out]));
    const again = join(place, "again", "add");
    expectDone(await study([config, "--out", again]));
    for (const name of ["config.toml", "metrics.jsonl"])
      assert.is(readFileSync(join(again, name), "utf8"), readFileSync(join(out, name), "utf8"), name);
  });

  test("a settings file names the module beside it, wherever the command is run", async () => {
    const tasks = join(place, "tasks");
    mkdirSync(tasks);
    const lines = ['extends = "tiny"', "[environment]", 'module = "../my-task.ts"', 'name = "add"', "add.largest = 0"];
    writeFileSync(join(tasks, "add.toml"), lines.join("\n"));
    for (const cwd of [place, tasks]) {
      const file = relative(cwd, join(tasks, "add.toml"));
      const { status, stderr } = await start([join(root, "landscape/run.ts"), file], {}, cwd).ended;
      assert.is(status, 2);
      assert.match(stderr, "environment.add.largest: expected an integer, at least 1, got 0");
    }
    // A new file in another folder names the same module.
    const written = join(place, "written", "add.toml");
    mkdirSync(dirname(written));
    const flags = ["--environment.module", "my-task.ts", "--environment.name", "add"];
    expectDone(await study(["--write-settings", written, ...flags]));
    assert.match(readFileSync(written, "utf8"), /^module = "..\/my-task.ts"$/m);
  });

  test("a step's conversations are shown, without formats, scores per turn and later turns", async () => {
    const { stdout, status } = await start([join(root, "rl/show.ts"), out, "--no-moved"], {}, place).ended;
    assert.is(status, 0);
    assert.match(stdout, "step 1: 4 rollouts of 2 prompts");
    assert.match(stdout, /--- Best: reward [\d.]+, advantage/);
    assert.match(stdout, /user:\n {4}What is [0-9] \+ [0-9]\?/);
    assert.not.match(stdout, /undefined|NaN/);
  });

  test("a module that has changed, is missing or is broken is refused by name; --help has its settings", async () => {
    const refused = async (text: string, ...argv: string[]): Promise<void> => {
      const { status, stderr } = await study(argv);
      assert.is(status, 2, stderr);
      assert.ok(stderr.includes(text), stderr);
    };
    const other = join(place, "other");
    const name = ["--environment.name", "add", "--out", other];
    writeFileSync(module, `${source}// changed\n`);
    await refused("my-task.ts: not the file of the settings", join(out, "config.toml"), "--out", other);
    writeFileSync(module, "registerEnvironment(");
    await refused(
      "environment.module: my-task.ts cannot be loaded",
      "tiny",
      "--environment.module",
      "my-task.ts",
      ...name,
    );
    const broken: readonly (readonly [file: string, text: string, message: string])[] = [
      ["broken.ts", "\nlet b = ;\n", `(${join(place, "broken.ts")}, line 2)`],
      ["broken.mjs", "\n\nnothing.at.all();\n", `nothing is not defined (${join(place, "broken.mjs")}, line 3)`],
      ["syntax.mjs", "let b = ;\n", "node --check syntax.mjs shows the line"],
    ];
    for (const [file, text, message] of broken) {
      writeFileSync(join(place, file), text);
      await refused(message, "tiny", "--environment.module", file, ...name);
    }
    await refused("there is no none.ts", "tiny", "--environment.module", "none.ts", ...name);
    await refused('environment.name: expected one of alphabet-sort, gsm8k, dataset, got "add"', "tiny", ...name);
    writeFileSync(module, source.replace('name: "add",', 'name: "alphabet-sort",'));
    await refused(
      'environment "alphabet-sort": the name is taken',
      "tiny",
      "--environment.module",
      "my-task.ts",
      ...name,
    );
    writeFileSync(module, source);
    // Without its name a module would have no effect, and the study another task than its user thinks.
    await refused(
      "environment.name: alphabet-sort is built in, so environment.module my-task.ts would have no effect. It registers add",
      ...["tiny", "--environment.module", "my-task.ts", "--out", other],
    );
    writeFileSync(join(place, "idle.ts"), "export const unused = 1;\n");
    await refused(
      "It registers no environment (registerEnvironment)",
      ...["tiny", "--environment.module", "idle.ts", "--out", other],
    );
    const help = await study(["--environment.module", "my-task.ts", "--help"]);
    assert.match(help.stdout, "--environment.add.largest INTEGER");
    await refused(
      "environment.add.largest: expected an integer, at least 1, got 0",
      ...["tiny", "--environment.module", "my-task.ts", "--environment.add.largest", "0", ...name],
    );
    assert.not.ok(existsSync(other));
  });

  test("plain JavaScript with several reward functions, a system prompt and an asynchronous scorer, as the page has it", async () => {
    writeFileSync(join(place, "my-names.js"), block("js"));
    assert.ok(block("js").trim().split("\n").length <= 30, "too long");
    const greet = join(place, "runs", "greet");
    const chosen = ["--environment.module", "my-names.js", "--environment.name", "greet", "--landscape.steps="];
    expectDone(await study(["tiny", ...chosen, ...short, "--out", greet]));
    const [, trained] = readFileSync(join(greet, "metrics.jsonl"), "utf8")
      .split("\n")
      .map((line) => line && JSON.parse(line));
    const [name, brevity] = ["name", "brevity"].map((one) => trained[`rewards/${one}/mean`]);
    assert.ok(brevity > 0 && brevity < 1);
    assert.ok(Math.abs(trained.reward - 0.8 * name - 0.2 * brevity) < 1e-12);
    for (const absent of ["completions/format_share", "completions/quality", "eval/format_share", "eval/quality"])
      assert.not.ok(absent in trained, absent);
    const [first] = gunzipSync(readFileSync(join(greet, "rollouts", "step-000001.jsonl.gz")))
      .toString()
      .split("\n");
    assert.equal(JSON.parse(first).messages[0], { role: "system", content: "You greet people in one short line." });
  });

  const python = spawnSync("python3", ["--version"]).status === 0;
  if (!python)
    test.skip("the page's scorer in Python", "no python3: the next test scores by the answer column instead");
  test("a data set with the page's scorer", async () => {
    writeFileSync(join(place, "scorer.py"), block("py"));
    const rows = Array.from({ length: 8 }, (_, i) => JSON.stringify({ prompt: `Name number ${i}?`, answer: "a" }));
    writeFileSync(join(place, "questions.jsonl"), rows.join("\n"));
    const asked = join(place, "runs", "asked");
    const chosen = [
      "--environment.name",
      "dataset",
      "--environment.dataset.data",
      "questions.jsonl",
      "--landscape.steps=",
    ];
    const scorer = python ? ["--environment.dataset.scorer", "python3 scorer.py"] : [];
    expectDone(await study(["tiny", ...chosen, ...scorer, ...short, "--out", asked]));
    const [, trained] = readFileSync(join(asked, "metrics.jsonl"), "utf8")
      .split("\n")
      .map((line) => line && JSON.parse(line));
    assert.is(trained["completions/failed"], 0);
    if (python) assert.ok(trained["rewards/brief/mean"] > 0);
    const config = readFileSync(join(asked, "config.toml"), "utf8");
    assert.match(config, /^data = "questions.jsonl"$/m);
    assert.match(config, /^dataSha256 = "[0-9a-f]{64}"$/m);
    expectDone(await study([join(asked, "config.toml"), "--out", asked]));
    const warm = join(place, "warm");
    writeFileSync(join(place, "recipe.toml"), "");
    expectDone(
      await start(
        [
          ...[
            join(root, "rl/warm-start.ts"),
            "recipe.toml",
            "--out",
            warm,
            "--model.path",
            join(root, "test/fixtures/tiny-warm-start"),
          ],
          ...[...chosen.slice(0, 4), "--warmStart.steps", "1", "--warmStart.warmupSteps", "0"],
          ...["--warmStart.dialogues", "2", "--warmStart.episodes", "2"],
        ],
        {},
        place,
      ).ended,
    );
    const log = readFileSync(join(warm, "log.jsonl"), "utf8");
    assert.match(log, '"reward":');
    assert.not.match(log, "formatShare");
  });
});
