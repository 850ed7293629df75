// The warm start as a command: it checks everything before it makes its folder, and its checkpoint can be used.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match, ok } from "uvu/assert";
import { expectDone, root, start } from "../landscape/tiny-study.ts";
import { SmallDisk } from "../small-disk.ts";
import { describe, fixturePath } from "../support.ts";

describe("rl/warm-start", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-warm-start-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const recipe = join(place, "recipe.toml");
  writeFileSync(recipe, "");
  const tiny = fixturePath("tiny-warm-start");
  const warmStart = (out: string, model: string, ...more: string[]) =>
    start([
      ...[join(root, "rl/warm-start.ts"), recipe, "--out", out, "--model.path", model],
      ...["--warmStart.steps", "1", "--warmStart.warmupSteps", "0", "--warmStart.dialogues", "2"],
      ...["--warmStart.episodes", "2", ...more],
    ]).ended;
  /** The tiny model with some of its files left out or replaced. */
  const folderWith = (name: string, files: Record<string, string | null>): string => {
    const folder = join(place, name);
    cpSync(tiny, folder, { recursive: true });
    for (const [file, text] of Object.entries(files))
      if (text === null) rmSync(join(folder, file));
      else writeFileSync(join(folder, file), text);
    return folder;
  };

  for (const [name, files, text, ...more] of [
    ["a model that is not there", null, "no-model"],
    ["a broken config.json", { "config.json": "{" }, "config.json"],
    ["a tokenizer that is missing", { "tokenizer.json": null }, "tokenizer.json"],
    ["no chat template", { "tokenizer_config.json": "{}" }, "expected a chat_template"],
    ["weights that are no weights", { "model.safetensors": "none" }, "safetensors", "--model.start", "weights"],
  ] as const)
    test(`${name}: refused, and no folder is made`, async () => {
      const model = files === null ? join(place, "no-model") : folderWith(`model-${text}`, files);
      const out = join(place, "refused", text);
      const { status, stderr } = await warmStart(out, model, ...more);
      is(status, 2, stderr);
      match(stderr, text);
      ok(!existsSync(out) && !existsSync(join(place, "refused")), "nothing is written");
      const old = join(place, "old");
      mkdirSync(old, { recursive: true });
      is((await warmStart(old, model, ...more)).status, 2);
      equal(readdirSync(old), [], "a folder that was there is left as it was");
    });

  const disk = new SmallDisk(join(place, "disk"));
  const mounted = disk.folder;
  if (disk.missing !== null) test.skip("a disk that is too small", disk.missing);
  else
    test("a disk that is too small: refused, and no folder is made", () =>
      disk.with("size=2m", async () => {
        const { status, stderr } = await warmStart(join(mounted, "run"), tiny);
        is(status, 2, stderr);
        match(stderr, /the training needs .* of disk, 2\.0 MiB are free/);
        equal(readdirSync(mounted), []);
      }));

  test("GSM8K from a file in its format: the data set's own solutions are learnt", async () => {
    const data = join(place, "gsm8k.jsonl");
    const row = (n: number): string =>
      JSON.stringify({
        question: `Ida has ${n} hens. Each lays 2 eggs. How many eggs?`,
        answer: `She gets 2*${n}=<<2*${n}=${2 * n}>>${2 * n} eggs.\n#### ${2 * n}`,
      });
    writeFileSync(data, Array.from({ length: 8 }, (_, i) => row(i + 1)).join("\n"));
    const out = join(place, "gsm8k");
    expectDone(
      await warmStart(
        out,
        tiny,
        "--environment.name",
        "gsm8k",
        "--environment.gsm8k.data",
        data,
        "--warmStart.steps",
        "3",
      ),
    );
    const log: { kind: string; loss: number; reward: number }[] = readFileSync(join(out, "log.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    equal(
      log.map(({ kind }) => kind),
      ["evaluation", "training"],
    );
    ok(log[1].loss > 0 && Number.isFinite(log[1].loss) && log[0].reward >= 0);
    ok(existsSync(join(out, "checkpoint", "model.safetensors")));
    const none = await warmStart(
      join(place, "none"),
      tiny,
      "--environment.name",
      "gsm8k",
      "--environment.gsm8k.data",
      recipe,
    );
    is(none.status, 2, none.stderr);
    match(none.stderr, "recipe.toml");
  });

  test("untilReward: stops at the first evaluation of that reward, and stays stopped; says so if there is none", async () => {
    const out = join(place, "until", "run");
    const until = (reward: string) =>
      warmStart(
        out,
        tiny,
        ...["--model.start", "weights", "--warmStart.learningRate", "1e-3", "--warmStart.steps", "4"],
        ...["--warmStart.evaluateEvery", "2", "--warmStart.logEvery", "3", "--warmStart.episodes", "8"],
        ...["--warmStart.untilReward", reward],
      );
    const log = (): { step: number; kind: string; reward: number; loss: number }[] =>
      readFileSync(join(out, "log.jsonl"), "utf8")
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
    const checkpoint = () => readFileSync(join(out, "checkpoint", "model.safetensors"));
    const said = expectDone(await until("0.001"));
    match(said, /Stopped at step 2: reward 0\.\d+ on 8 episodes is at least warmStart\.untilReward, 0\.001/);
    equal(
      log().map(({ step, kind }) => [step, kind]),
      [
        [2, "evaluation"],
        [2, "training"],
      ],
    );
    const stopped = checkpoint();
    expectDone(await until("0.001"));
    ok(stopped.equals(checkpoint()), "the same command trains no further");
    const never = await until("2");
    is(never.status, 2);
    match(never.stderr, "warmStart.untilReward: no evaluation up to step 4 has a reward of 2; the highest is 0.");
    ok(!stopped.equals(checkpoint()), "all steps are trained and kept");
    equal(
      log().map(({ step }) => step),
      [2, 2, 3, 4, 4],
    );
  });

  test("a sound recipe makes the folder, the log and a checkpoint", async () => {
    const out = join(place, "done", "run");
    expectDone(await warmStart(out, tiny));
    equal(readdirSync(out).sort(), ["checkpoint", "log.jsonl", "state"]);
    ok(existsSync(join(out, "checkpoint", "model.safetensors")));
  });
});
