// docs/from-trl.md: every field of TRL's GRPOConfig is there, with a setting that exists or the reason why there is none.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { equal, is, match, ok } from "uvu/assert";
import { readToml, resolveSettings } from "../../engine/host/index.ts";
import { studySettings } from "../../landscape/settings.ts";
import { readTrlConfig } from "../../rl/from-trl.ts";
import { answerToOtherNames } from "../../rl/other-names.ts";
import { describe } from "../support.ts";
import { counterpart, fromTrlTables, settingsIn, type TrlConfig } from "./from-trl.ts";
import { readKnown } from "./known/read.ts";

const page = readFileSync(fileURLToPath(new URL("../../docs/from-trl.md", import.meta.url)), "utf8");
const { fields, versions } = readKnown<TrlConfig>("trl-config.json");

describe("rl/from-trl", (test) => {
  test("the page has the tables that rl/other-names.ts gives, and names the versions", () => {
    ok(
      page.endsWith(fromTrlTables()),
      "docs/from-trl.md: replace its tables by the output of node test/rl/from-trl.ts",
    );
    match(page, `trl ${versions.trl}`);
    match(page, `transformers ${versions.transformers}`);
  });

  test("every field has an answer; one that says where it is begins with a setting, one without says why", () => {
    ok(fields.length > 180, `${fields.length} fields`);
    for (const { name } of fields) {
      const answer = answerToOtherNames(name);
      ok(answer !== null, `${name}: no answer`);
      if (answer.startsWith("here it is")) ok(counterpart(answer) !== null, `${name}: ${answer}`);
      else match(answer, /^there is none(, because |: ).{10}/, name);
    }
  });

  test("every name in backticks in the column of settings is a setting", () => {
    const rows = page.split("\n").filter((line) => line.startsWith("| `"));
    let count = 0;
    for (const row of rows) {
      const cell = row.split(/(?<!\\)\|/)[3] ?? "";
      for (const [, name] of cell.matchAll(/`([^`]+)`/g)) {
        ok(studySettings.byKey.has(name), `${name} is no setting: ${row}`);
        count++;
      }
    }
    ok(count > 60, `${count} settings are named`);
    is(settingsIn("`train.loss` and no.such").join(), "train.loss");
  });

  test("the example is valid settings", () => {
    const example = page.match(/```toml\n([\s\S]*?)```/)?.[1] ?? "";
    ok(example.length > 50, "no example");
    const { train } = resolveSettings(studySettings, [readToml(studySettings, example, "from-trl.md")]);
    is(train.normalisation, "batch-token");
  });

  test("null, NaN and Infinity, as Python's json writes them, are what TRL makes of them, or are refused", () => {
    const place = mkdtempSync(join(tmpdir(), "foothold-trl-"));
    const path = join(place, "training_args.json");
    const read = (text: string, flags: readonly string[] = []) => {
      writeFileSync(path, `{"num_generations": 8, "max_steps": 40, ${text}}`);
      const given = ["model.path", "environment.name", ...flags].map((key) => ({ key, value: "x", where: "a flag" }));
      return readTrlConfig(path, [{ given, problems: [] }]);
    };
    const set = (text: string, key: string): unknown => {
      const { given, problems } = read(text);
      equal(problems, [], text);
      return given.find((one) => one.key === key)?.value;
    };
    is(set('"max_grad_norm": Infinity', "train.maxGradientNorm"), 1e30);
    is(set('"epsilon_high": Infinity', "train.clipHigh"), 1e30);
    is(set('"epsilon_high": Infinity, "loss_type": "cispo"', "train.ratioCap"), 1e30);
    is(set('"delta": Infinity', "train.ratioCap"), 0);
    is(set('"off_policy_mask_threshold": Infinity, "logging_steps": NaN', "train.steps"), 40);
    is(set('"mask_truncated_completions": null', "train.maskTruncated"), false);
    is(set('"gradient_checkpointing": null', "batch.recompute"), false);
    is(set('"run_name": "NaN, \\" Infinity, "', "train.steps"), 40);
    const cases: readonly (readonly [text: string, problem: string, flag: string])[] = [
      ['"temperature": null', "temperature: null: TRL divides the logits by the temperature", "train.temperature"],
      ['"top_p": null', "top_p: null: it leaves top_p to the model's generation_config.json", "train.topP"],
      ['"top_k": null', "and without a value there to transformers' 50. For no cut write 0", "train.topK"],
      ['"beta": null', "beta: null: TRL multiplies the KL by beta", "train.klCoefficient"],
      ['"max_completion_length": null', "TRL then generates up to the model's own limit", "train.maxNewTokens"],
      [
        '"num_iterations": null',
        "num_iterations: null: TRL has no meaning for it; its default is 1",
        "train.updatesPerBatch",
      ],
      ['"learning_rate": NaN', "learning_rate: NaN is no number to train with", "train.learningRate"],
      ['"weight_decay": -Infinity', "weight_decay: -Infinity is no number to train with", "train.weightDecay"],
    ];
    for (const [text, problem, flag] of cases) {
      const { problems } = read(text);
      is(problems.length, 1, `${text}: ${problems.join("; ")}`);
      match(problems[0], problem);
      match(problems[0], `or give --${flag}`);
      equal(read(text, [flag]).problems, [], flag);
    }
    match(read('"repetition_penalty": null').problems.join(), "For none write 1. Correct it in the file");
    match(read('"reward_weights": [1.0, NaN]').problems.join(), "reward_weights: [1,NaN]: the environment gives");
    rmSync(place, { recursive: true });
  });

  test("eval_steps and save_steps below 1 are a share of all steps, as in transformers", () => {
    const place = mkdtempSync(join(tmpdir(), "foothold-trl-"));
    const path = join(place, "training_args.json");
    const steps = { eval_strategy: "steps", eval_steps: 0.25, save_strategy: "steps", save_steps: 0.3 };
    writeFileSync(path, JSON.stringify({ num_generations: 8, max_steps: 10, ...steps }));
    const found = new Map(readTrlConfig(path, []).given.map(({ key, value }) => [key, value]));
    equal([found.get("evaluate.every"), found.get("train.checkpoints")], [3, [0, 3, 6, 9, 10]]);
    rmSync(place, { recursive: true });
  });

  test("steps that count updates are said to be rounded if they are no whole number of batches", () => {
    const place = mkdtempSync(join(tmpdir(), "foothold-trl-"));
    const path = join(place, "training_args.json");
    const said = (fields: object): string => {
      const config = { num_generations: 8, max_steps: 40, eval_strategy: "steps", save_strategy: "steps", ...fields };
      writeFileSync(path, JSON.stringify(config));
      return readTrlConfig(path, []).notes.join("\n");
    };
    const uneven = said({ num_iterations: 2, eval_steps: 5, save_steps: 7 });
    match(uneven, "eval_steps 5 counts updates, of which a batch has 2: rounded to 3 batches");
    match(uneven, "save_steps 7 counts updates, of which a batch has 2: rounded to 4 batches");
    match(uneven, "the starting model and the last step are evaluated too");
    ok(!said({ num_iterations: 2, eval_steps: 4, save_steps: 8 }).includes("rounded"));
    ok(!said({ num_iterations: 1, eval_steps: 5, save_steps: 7 }).includes("rounded"));
    rmSync(place, { recursive: true });
  });

  test("a warm-up is told by the field that it comes from; a constant rate has none, here as in transformers", () => {
    const place = mkdtempSync(join(tmpdir(), "foothold-trl-"));
    const path = join(place, "training_args.json");
    const said = (fields: object): string => {
      writeFileSync(
        path,
        JSON.stringify({ num_generations: 8, max_steps: 40, lr_scheduler_type: "cosine", ...fields }),
      );
      return readTrlConfig(path, []).notes.join("\n");
    };
    match(said({ warmup_ratio: 0.1 }), "  warmup_ratio 0.1 → train.warmupSteps = 0.1\n");
    match(said({ warmup_ratio: 0.1, warmup_steps: 4 }), "  warmup_steps 4 → train.warmupSteps = 4\n");
    match(said({}), "  warmup_steps 0 (TRL's default) → train.warmupSteps = 0\n");
    const constant = said({ lr_scheduler_type: "constant", warmup_steps: 4 });
    match(constant, '  warmup_steps 4: lr_scheduler_type "constant" has no warm-up, in transformers neither\n');
    ok(!constant.includes("train.warmupSteps"));
    ok(!said({ lr_scheduler_type: "constant" }).includes("has no warm-up"));
    rmSync(place, { recursive: true });
  });
});
