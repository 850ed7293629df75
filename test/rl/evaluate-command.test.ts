// An evaluation of its own: with a run's settings it is the run's own evaluation; its numbers by hand; adapters; refusals.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { equal, is, match, ok } from "uvu/assert";
import { CpuBackend, ParameterArena } from "../../engine/index.ts";
import { loadForInference, loadModel } from "../../model/index.ts";
import { writeSafetensors } from "../../model/safetensors.ts";
import { evaluationNumbers } from "../../rl/evaluation-report.ts";
import { type Ended, expectDone, small, start } from "../landscape/tiny-study.ts";
import { writeJson } from "../model/model-folders.ts";
import { SmallDisk } from "../small-disk.ts";
import { assertClose, describe, fixturePath } from "../support.ts";
import { rollout } from "./measured-step.ts";

describe("rl/evaluate command", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-evaluate-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const run = join(place, "run");
  const evaluate = (...argv: string[]): Promise<Ended> => start(["rl/evaluate.ts", ...argv]).ended;
  const read = (folder: string) => JSON.parse(readFileSync(join(folder, "evaluation.json"), "utf8"));

  test("a run's checkpoint has the reward of the run's own evaluation, to the bit", async () => {
    const flags = Object.entries(small).filter(([key]) => !key.startsWith("landscape."));
    expectDone(
      await start(["rl/train.ts", "tiny", "--out", run, ...flags.flatMap(([key, value]) => [`--${key}`, value])]).ended,
    );
    const out = join(place, "last");
    const { status, stdout, stderr } = await evaluate(run, "--out", out);
    is(status, 0, stderr);
    const rows = readFileSync(join(run, "metrics.jsonl"), "utf8").trimEnd().split("\n");
    const last = JSON.parse(rows.at(-1) ?? "");
    const found = read(out);
    equal([found.reward.mean, found.prompts, found.rollouts], [last["eval/reward"], 4, 1]);
    is(found.tokens.mean, last["eval/completions/mean_length"]);
    is(found.truncatedShare, last["eval/completions/truncated_share"]);
    match(stdout, `Reward: ${last["eval/reward"].toFixed(3)} ± `);
    const said = gunzipSync(readFileSync(join(out, "conversations.jsonl.gz")))
      .toString()
      .trimEnd()
      .split("\n");
    is(said.length, 4);
    equal(Object.keys(JSON.parse(said[0])).slice(0, 3), ["episode", "rollout", "reward"]);
  });

  test("refused before anything is computed: a folder that is not empty, a step that is not kept, a flag of training", async () => {
    const refused = async (expected: string | RegExp, ...argv: string[]): Promise<void> => {
      const { status, stderr } = await evaluate(...argv);
      is(status, 2, stderr);
      match(stderr, expected);
      ok(!stderr.includes("Adapter:"));
    };
    await refused("is not empty, and an evaluation replaces nothing", run, "--out", run);
    const file = join(place, "a-file");
    writeFileSync(file, "");
    await refused(`${file}: expected a folder, but ${file} is a file`, run, "--out", file);
    await refused("a part of this path is a file, not a folder", run, "--out", join(file, "evaluation"));
    await refused(`${run} has no checkpoint of step 2; it has 0, 3`, run, "--step", "2");
    await refused("step: names a checkpoint of a run folder", "tiny", "--step", "2");
    await refused(
      /unknown flag --train\.steps; it is a flag of (npx )?node rl\/train\.ts/,
      "tiny",
      "--train.steps",
      "2",
    );
    const changed = join(place, "changed");
    cpSync(run, changed, { recursive: true });
    rmSync(join(changed, "checkpoints/step-000003/config.json"));
    await refused("config.json: missing", changed);
  });

  const disk = new SmallDisk(join(place, "disk"));
  const mounted = disk.folder;
  if (disk.missing !== null) test.skip("a full disk", disk.missing);
  else
    test("an evaluation that does not fit on the disk is refused before it is computed; the plan says so", () =>
      disk.with("size=4k", async () => {
        const flags = ["--evaluate.episodes", "64", "--out", join(mounted, "evaluation")];
        const { status, stdout, stderr } = await evaluate(run, ...flags);
        equal([status, stdout], [2, ""]);
        match(stderr, /the evaluation needs .* KiB of disk, 4\.0 KiB are free/);
        match(
          (await evaluate(run, ...flags, "--dry-run")).stdout,
          /^Disk: about .* It does not fit there: .* are missing$/m,
        );
        equal(readdirSync(mounted), []);
      }));

  test("numbers by hand: interval over prompts, pass@k without bias", () => {
    const rewards = [
      [1, 0, 0, 0.5],
      [1, 1, 0, 1],
      [0, 0, 0, 0],
      [1, 1, 1, 1],
    ];
    const rollouts = rewards
      .flat()
      .map((reward, i) =>
        rollout(reward, { episode: Math.floor(i / 4), rollout: i % 4, tokens: 2 + (i % 3), isTruncated: i === 5 }),
      );
    const found = evaluationNumbers(rollouts, 4, 1);
    // Means of the prompts: 0.375, 0.75, 0, 1. Their deviation (n − 1) is √(0.5729…/3); t(0.975, 3) = 3.182446305.
    assertClose("reward", [found.reward.mean], [0.53125], { absolute: 1e-15 });
    const deviation = Math.sqrt([0.375, 0.75, 0, 1].reduce((sum, r) => sum + (r - 0.53125) ** 2, 0) / 3);
    assertClose("reach", [found.reward.reach ?? 0], [(3.182446305284263 * deviation) / 2], { relative: 1e-10 });
    // pass@k by all subsets of k of the 4: successes 1, 3, 0, 4.
    const byHand = (c: number, k: number): number => {
      let [hits, all] = [0, 0];
      for (let subset = 0; subset < 16; subset++) {
        const chosen = [0, 1, 2, 3].filter((i) => (subset >> i) & 1);
        if (chosen.length !== k) continue;
        all++;
        if (chosen.some((i) => i < c)) hits++;
      }
      return hits / all;
    };
    equal(
      found.passAtK.map(({ k }) => k),
      [1, 2, 4],
    );
    for (const { k, mean } of found.passAtK)
      assertClose(`pass@${k}`, [mean], [[1, 3, 0, 4].reduce((sum, c) => sum + byHand(c, k), 0) / 4], {
        absolute: 1e-15,
      });
    equal([found.truncatedShare, found.tokens.min, found.tokens.max], [1 / 16, 2, 4]);
  });

  test("--model.adapter: the weights are those of the model with the adapter merged", async () => {
    const base = fixturePath("tiny-warm-start");
    const adapter = join(place, "adapter");
    cpSync(base, adapter, { recursive: true, filter: (path) => path === base });
    writeJson(adapter, "adapter_config.json", { peft_type: "LORA", r: 1, lora_alpha: 2, bias: "none" });
    const module = "model.layers.0.self_attn.q_proj";
    const backend = new CpuBackend();
    const plain = await loadModel(backend, base);
    const [rows, columns] = plain.config.parameters().get(`${module}.weight`)?.shape ?? [];
    // B is 3 in row 1, A is 0.5 in column 2: 2 · 3 · 0.5 = 3 is added to one weight.
    const a = Float32Array.from({ length: columns }, (_, i) => (i === 2 ? 0.5 : 0));
    const b = Float32Array.from({ length: rows }, (_, i) => (i === 1 ? 3 : 0));
    await writeSafetensors(join(adapter, "adapter_model.safetensors"), [
      { name: `base_model.model.${module}.lora_A.weight`, dtype: "f32", shape: [1, columns], data: a },
      { name: `base_model.model.${module}.lora_B.weight`, dtype: "f32", shape: [rows, 1], data: b },
    ]);
    const notes: string[] = [];
    const merged = await loadForInference(backend, base, "f32", { adapter, note: (line) => notes.push(line) });
    match(notes.join(), "a LoRA adapter, merged into");
    ok(merged.weights instanceof ParameterArena);
    const before = (await plain.weights.read()).get(`${module}.weight`) ?? [];
    const after = (await merged.weights.read()).get(`${module}.weight`) ?? [];
    const changed = [...after].flatMap((value, i) =>
      value === before[i] ? [] : [[i, Math.fround(value - before[i])]],
    );
    is(changed.length, 1);
    is(changed[0][0], columns + 2);
    assertClose("added", [changed[0][1]], [3], { absolute: 1e-6 });
    const { status, stderr } = await evaluate(
      ...["tiny", "--evaluate.episodes", "2", "--model.adapter", join(place, "nothing")],
    );
    is(status, 2);
    match(stderr, "adapter_config.json");
  });
});
