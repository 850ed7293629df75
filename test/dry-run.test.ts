// Every long command has --dry-run: it says what the command would do and need, and writes nothing. (The study's:
// test/landscape/plan.test.ts; those of generate and score: test/model/generate-command.test.ts.)
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match, ok } from "uvu/assert";
import { start } from "./landscape/tiny-study.ts";
import { describe } from "./support.ts";

describe("test/dry-run", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-dry-run-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const out = join(place, "out");
  const tiny = "rl/presets/tiny/checkpoint";
  const commands: readonly (readonly [command: string, ...says: (string | RegExp)[]])[] = [
    [
      `rl/warm-start.ts rl/presets/tiny/warm-start.toml --out ${out}`,
      /^dropTags = 0\.8$/m,
      "training: 10000 steps, 320000 dialogues",
      /^Memory: \d/m,
      /^Time: \d/m,
      "rests on a piece of the work itself",
      /^Disk: about \d/m,
    ],
    [
      `rl/evaluate.ts tiny --out ${out}`,
      "evaluation",
      /^Memory:/m,
      /^Time: \d/m,
      /^Disk: about \d.* in .*, nearly all of it the conversations; free: /m,
    ],
    [`model/export.ts --model ${tiny} --dtype bf16 --out ${out}`, "122,624 in 26 tensors, as bf16", "Disk: 239.5 KiB"],
    [`model/initialise.ts --config qwen2.5-0.5b --dtype bf16 --out ${out}`, "494,032,768 in 290", "Disk: 942.3 MiB"],
    ["bench/run.ts attention", /attention.*GFLOP/, /\d+ cases\. Time: at least/, "Disk: nothing is written"],
    ["bench/card.ts --sizes small", "products"],
  ];
  for (const [command, ...says] of commands)
    test(command.split(" ")[0], async () => {
      const { status, stdout, stderr } = await start([...command.split(" "), "--dry-run"]).ended;
      is(status, 0, stderr);
      for (const expected of says) match(stdout, expected);
      ok(!existsSync(out), "nothing is written");
      equal(readdirSync(place), []);
    });

  test("--out that no run could write is refused, as by the run itself", async () => {
    const file = join(place, "a-file");
    writeFileSync(file, "kept");
    for (const command of [
      "landscape/run.ts tiny",
      `landscape/sweep.ts tiny --checkpoints ${tiny}`,
      "rl/train.ts tiny",
      "rl/evaluate.ts tiny",
      "rl/warm-start.ts rl/presets/tiny/warm-start.toml",
    ]) {
      const { status, stderr } = await start([...command.split(" "), "--out", file, "--dry-run"]).ended;
      is(status, 2, command);
      match(stderr, `FileError: ${file}: expected a folder, but ${file} is a file`, command);
    }
    is(readFileSync(file, "utf8"), "kept");
    rmSync(file);
  });

  test("a model folder that is broken and an adapter that is none are refused for what they are", async () => {
    const folder = join(place, "Qwen2.5-0.5B"); // the name of a known shape
    cpSync(tiny, folder, { recursive: true });
    rmSync(join(folder, "tokenizer.json"));
    const broken = await start(["rl/evaluate.ts", "tiny", "--model.path", folder, "--dry-run"]).ended;
    is(broken.status, 2);
    match(broken.stderr, `CheckpointError: ${folder}/tokenizer.json`);
    const none = await start(["rl/evaluate.ts", "tiny", "--model.adapter", join(place, "none"), "--dry-run"]).ended;
    is(none.status, 2);
    match(none.stderr, `${join(place, "none")}/adapter_config.json`);
    rmSync(folder, { recursive: true });
  });

  test("a folder that is there is not locked or changed", async () => {
    const begun = mkdtempSync(join(place, "begun-"));
    const { status, stderr } = await start([
      ...["rl/warm-start.ts", "rl/presets/tiny/warm-start.toml", "--out", begun, "--dry-run"],
    ]).ended;
    is(status, 0, stderr);
    equal(readdirSync(begun), []);
  });

  test("a model that is not in the cache is not downloaded", async () => {
    const { status, stderr } = await start(
      ["model/export.ts", "--model", "nobody/nothing", "--out", out, "--dry-run"],
      { HF_HUB_CACHE: join(place, "cache"), HF_ENDPOINT: "http://127.0.0.1:9" },
    ).ended;
    is(status, 2);
    match(stderr, "nobody/nothing");
    for (const [command, input] of [
      ["generate", "--prompt"],
      ["score", "--text"],
    ]) {
      const { status: code, stderr: said } = await start(
        [`model/${command}.ts`, "--model", "nobody/nothing", input, "x", "--dry-run"],
        { HF_HUB_CACHE: join(place, "cache"), HF_ENDPOINT: "http://127.0.0.1:9" },
      ).ended;
      is(code, 2);
      match(said, "nobody/nothing: neither a folder here nor complete in the cache");
    }
    ok(!existsSync(join(place, "cache")));
  });
});
