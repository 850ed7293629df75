// Maps around checkpoints of another training, in one command: which folders these are, what is refused, and what a user is told.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { writeToml } from "../../engine/host/index.ts";
import { findCheckpoints } from "../../landscape/files/given-checkpoints.ts";
import { bf16Difference, expectOneFamily } from "../../landscape/measure/checkpoint-family.ts";
import { redraw } from "../../landscape/report/report.ts";
import { studySettings } from "../../landscape/settings.ts";
import { expectOwnTraining } from "../../landscape/study.ts";
import { plantNaN } from "../model/model-folders.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";
import { smallSweep, sweepCommand, sweepIn, trlFolder, warmModel } from "./given-sweep.ts";
import { contents, expectDone, expectSame, start } from "./tiny-study.ts";

describe("landscape/sweep-any", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-sweep-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const at = (name: string): string => join(place, name);

  test("checkpoint folders of several trainers, and their steps", () => {
    for (const name of ["mixed/checkpoint-10", "mixed/checkpoint-2", "verl/global_step_20/actor/huggingface"])
      cpSync(warmModel, at(name), { recursive: true });
    assert.equal(
      findCheckpoints([at("mixed/checkpoint-*")]).map(({ step }) => step),
      [2, 10],
    );
    cpSync(warmModel, at("prime/weights/step_000040"), { recursive: true });
    assert.equal(findCheckpoints([at("verl/global_step_*"), at("prime/weights/step_*"), "ORG/NAME@main=7"]), [
      { step: 7, path: "ORG/NAME@main" },
      { step: 20, path: at("verl/global_step_20/actor/huggingface") },
      { step: 40, path: at("prime/weights/step_000040") },
    ]);
    // prime-rl: an older and the present layout of its output folder.
    cpSync(warmModel, at("prime/checkpoints/step_60/weight"), { recursive: true });
    assert.equal(findCheckpoints([at("prime/checkpoints/step_*")]), [
      { step: 60, path: at("prime/checkpoints/step_60/weight") },
    ]);
    mkdirSync(at("prime/checkpoints/step_80/trainer"), { recursive: true });
    writeFileSync(at("prime/checkpoints/step_80/trainer/__0_0.distcp"), "");
    throwsMessage(() => findCheckpoints([at("prime/checkpoints/step_80")]), "broadcasts/step_N");
    mkdirSync(at("prime/broadcasts/step_80"), { recursive: true });
    cpSync(join(warmModel, "model.safetensors"), at("prime/broadcasts/step_80/model.safetensors"));
    writeFileSync(at("prime/broadcasts/step_80/STABLE"), "");
    throwsMessage(() => findCheckpoints([at("prime/broadcasts/step_80")]), "Copy config.json");
    cpSync(join(warmModel, "config.json"), at("prime/broadcasts/step_80/config.json"));
    assert.equal(findCheckpoints([at("prime/broadcasts/step_*")]), [
      { step: 80, path: at("prime/broadcasts/step_80") },
    ]);
    // verl's supervised fine-tuning has no folder of an actor.
    cpSync(warmModel, at("sft/global_step_3/huggingface"), { recursive: true });
    assert.equal(findCheckpoints([at("sft/global_step_*")]), [{ step: 3, path: at("sft/global_step_3/huggingface") }]);
    // Its LoRA checkpoints, before and after its merger: the whole model there is the base model.
    mkdirSync(at("lora/global_step_5/actor/lora_adapter"), { recursive: true });
    cpSync(warmModel, at("lora/global_step_6/actor/huggingface"), { recursive: true });
    mkdirSync(at("lora/global_step_6/actor/huggingface/lora_adapter"));
    for (const step of [5, 6])
      throwsMessage(() => findCheckpoints([at(`lora/global_step_${step}`)]), "LoRA adapter", "model/export.ts");
    cpSync(warmModel, at("lora/global_step_6/merged"), { recursive: true });
    assert.equal(findCheckpoints([at("lora/global_step_6/merged")]), [
      { step: 6, path: at("lora/global_step_6/merged") },
    ]);
    assert.equal(findCheckpoints([warmModel]), [{ step: 0, path: warmModel }]);
    throwsMessage(() => findCheckpoints([warmModel, at("mixed/checkpoint-2")]), "its name has no step");
    throwsMessage(() => findCheckpoints([at("none-*")]), "there is no such folder");
    mkdirSync(at("shards/global_step_5/actor/huggingface"), { recursive: true });
    writeFileSync(at("shards/global_step_5/actor/model_world_size_2_rank_0.pt"), "");
    throwsMessage(() => findCheckpoints([at("shards/global_step_5")]), "verl.model_merger merge --backend fsdp");
  });

  test("other shapes, tokenizers and chat templates are refused by name", async () => {
    const expectPair = (folder: string): Promise<void> =>
      expectOneFamily([
        { name: "one", folder: warmModel },
        { name: "other", folder },
      ]);
    const altered = (name: string, file: string, alter: (text: string) => string): string => {
      cpSync(warmModel, at(name), { recursive: true });
      const path = join(at(name), file);
      writeFileSync(path, alter(existsSync(path) ? readFileSync(path, "utf8") : ""));
      return at(name);
    };
    await expectPair(warmModel);
    const noise = (text: string): string => JSON.stringify({ ...JSON.parse(text), padding: { pad_id: 0 } });
    await expectPair(altered("padding", "tokenizer.json", noise));
    await throwsMessage(() => expectPair(fixturePath("qwen2-tiny")), 'one and other have different shapes: "');
    const exchanged = (text: string): string => {
      const json = JSON.parse(text);
      const [[one, a], [other, b]] = Object.entries(json.model.vocab);
      return JSON.stringify({
        ...json,
        model: { ...json.model, vocab: { ...json.model.vocab, [one]: b, [other]: a } },
      });
    };
    await throwsMessage(
      () => expectPair(altered("tokenizer", "tokenizer.json", exchanged)),
      "one and other have different tokenizers (tokenizer.json)",
    );
    const template = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}";
    await throwsMessage(
      () => expectPair(altered("template", "chat_template.jinja", () => template)),
      "one and other have different chat templates",
    );
  });

  test("a checkpoint with NaN among its weights is named with its first such weight", async () => {
    await trlFolder(at("nan/checkpoint-7"), 1);
    const name = "model.layers.1.mlp.down_proj.weight";
    plantNaN(join(at("nan/checkpoint-7"), "model.safetensors"), name, [2, 3]);
    await throwsMessage(
      () => sweepIn(at("nan-maps"), [at("nan/checkpoint-7")]),
      `Checkpoint of step 7, ${at("nan/checkpoint-7")}: `,
      `Its weight ${name}[2, 3] is NaN.`,
    );
  });

  test("two checkpoint folders of TRL in one command, killed, reported as far as it is, and continued", async () => {
    await trlFolder(at("out/checkpoint-100"), 1);
    await trlFolder(at("out/checkpoint-200"), 1 + 2 ** -12);
    await trlFolder(at("far"), 1.01);
    const share = await bf16Difference(at("out/checkpoint-100"), at("out/checkpoint-200"));
    assert.ok(share > 0.01 && share < 0.2, `${share}: 2⁻¹² is a tenth of the distance of two bf16 numbers`);
    assert.ok((await bf16Difference(at("out/checkpoint-100"), at("far"))) > 0.5);
    const pattern = [at("out/checkpoint-*")];
    const killed = await sweepCommand(at("maps"), pattern, {}, { FOOTHOLD_KILL_AT: "cells:12" });
    assert.is(killed.signal, "SIGKILL", killed.stderr);
    assert.match(killed.stderr, /Note: .*checkpoint-100 and .*checkpoint-200 differ in \d+\.\d% of their elements/);
    const said: string[] = [];
    await redraw(at("maps"), (line) => void said.push(line), new AbortController().signal);
    const gap = "Step 200, slice 0: 2 of 9 cells are measured.";
    assert.match(said.join("\n"), gap);
    assert.match(readFileSync(at("maps/report.html"), "utf8"), gap);
    const ended = await sweepCommand(at("maps"), pattern);
    assert.not.match(expectDone(ended), "Incomplete");
    assert.match(ended.stdout, /^ *100 +0 .*\n *200 +0 /m);
    const report = readFileSync(at("maps/report.html"), "utf8");
    assert.match(report, /Step 100 and step 200 differ in \d+\.\d% of their elements once these are rounded to bf16/);
    for (const step of [100, 200]) assert.match(report, new RegExp(`step ${step}`, "i"));
    const before = contents(at("maps"));
    appendTo(at("out/checkpoint-100/generation_config.json"));
    await throwsMessage(
      () => sweepIn(at("maps"), pattern),
      "the checkpoint of step 100",
      "generation_config.json differs",
    );
    expectSame(contents(at("maps")), before);
  });

  test("--dry-run measures one grid point, prints operations, time, memory and disk, and writes nothing", async () => {
    const { status, stdout, stderr } = await sweepCommand(at("dry"), [`${warmModel}=5`], { "dry-run": true });
    assert.is(status, 0, stderr);
    assert.match(stdout, /landscape: rollouts +18 /);
    assert.not.match(stdout, /training/);
    assert.match(stdout, /^ {2}landscape: \d.*weights/m);
    assert.match(
      stdout,
      /^Time: \d.*\n.*\(1 × .*\n {2}grid points: .*\(9 × .*; alone, its rollouts take .*, its scoring /m,
    );
    assert.match(stdout, /\d+% of the tokens were as the draft had them/);
    assert.match(stdout, /^Disk: about \d/m);
    assert.not.ok(existsSync(at("dry")));
  });

  test("a study and a sweep do not share a folder, and a study takes neither checkpoints nor a shard", async () => {
    const study = smallSweep({ "landscape.steps": [0] });
    mkdirSync(at("study"));
    writeFileSync(at("study/config.toml"), writeToml(studySettings, study));
    await throwsMessage(() => sweepIn(at("study"), [warmModel]), "this folder holds");
    for (const given of [{ checkpoints: [warmModel] }, { shard: "0/2" }])
      throwsMessage(() => expectOwnTraining({ ...study, ...given }), "node landscape/sweep.ts --checkpoints");
  });

  test("what reads the folder of a training says that a sweep's is none", async () => {
    mkdirSync(at("sweep"));
    writeFileSync(at("sweep/config.toml"), `checkpoints = ${JSON.stringify([warmModel])}\n[train]\nsteps = 0\n`);
    for (const command of ["rl/show.ts", "rl/evaluate.ts"]) {
      const { status, stderr } = await start([command, at("sweep")]).ended;
      assert.is(status, 2, stderr);
      assert.match(
        stderr,
        `RunFolderError: ${at("sweep")}: expected the folder of a training, this one is of landscape/sweep.ts`,
      );
    }
  });
});

function appendTo(path: string): void {
  writeFileSync(path, `${readFileSync(path, "utf8")} `);
}
