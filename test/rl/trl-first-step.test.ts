// `--from-trl`: configs of TRL as it saves them, translated; and the first step that TRL's own trainer took with each of them
// on given rollouts (known/trl_first_step.py): loss, gradient norm, learning rate and metrics are the same here.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match, ok } from "uvu/assert";
import { resolveSettings, type Source } from "../../engine/host/index.ts";
import { CpuBackend } from "../../engine/index.ts";
import { loadModel, score } from "../../model/index.ts";
import { readTrlConfig } from "../../rl/from-trl.ts";
import { policyStep } from "../../rl/index.ts";
import { rateOfUpdate } from "../../rl/learning-rate.ts";
import { policyLossOf, topEntropyTokens } from "../../rl/policy-loss.ts";
import { type RunValues, runSettings } from "../../rl/run-settings.ts";
import { stepBatch } from "../../rl/step-batch.ts";
import { countedTokens, stepMetrics } from "../../rl/step-metrics.ts";
import { fieldRules, readBeside } from "../../rl/trl-fields.ts";
import { assertClose, describe, fixturePath, throwsMessage } from "../support.ts";
import { readKnown } from "./known/read.ts";
import { rollout } from "./measured-step.ts";

interface Known {
  limit: number;
  cases: {
    name: string;
    config: Record<string, unknown>;
    rollouts: { prompt: number[]; completion: number[]; reward: number }[];
    log: Record<string, number>;
  }[];
}

const { cases, limit } = readKnown<Known>("trl-first-step.json");
/** What a GRPOConfig does not name. */
const beside: Source = {
  given: [
    { key: "model.path", value: "models/mine", where: "--model.path" },
    { key: "environment.name", value: "alphabet-sort", where: "--environment.name" },
  ],
  problems: [],
};

describe("rl/trl-first-step", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-from-trl-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const file = (config: object): string => {
    const path = join(place, "training_args.json");
    writeFileSync(path, JSON.stringify(config));
    return path;
  };
  const translated = (config: object, flags: Source = beside): { values: RunValues; notes: string } => {
    const source = readTrlConfig(file(config), [flags]);
    return { values: resolveSettings(runSettings, [source, flags]), notes: source.notes.join("\n") };
  };
  const [{ config: usual }] = cases;

  for (const { name, config, rollouts, log } of cases)
    test(`the first step of TRL's trainer: ${name}`, async () => {
      const { train, batch } = translated(config).values;
      is(train.promptsPerStep * train.rolloutsPerPrompt, rollouts.length);
      const backend = new CpuBackend();
      const { config: shape, weights } = await loadModel(backend, fixturePath("tiny-warm-start"), {
        trainable: true,
        dtype: "f64",
      });
      const model = { backend, config: shape, weights };
      const sequences = rollouts.map(({ prompt, completion }) => ({
        ids: [...prompt, ...completion],
        mask: [...prompt.map(() => 0), ...completion.map(() => 1)],
      }));
      const { temperature } = train;
      const scores = await score(model, sequences, { temperature, maxTokens: batch.trainTokens });
      const made = sequences.map(({ ids, mask }, i) => {
        const { completion, prompt, reward } = rollouts[i];
        const isTruncated = completion.length === limit;
        const logProbs = [...prompt.map(() => 0), ...scores[i].logProbs];
        const over = { ids, mask, logProbs, tokens: completion.length, isTruncated, isLastTruncated: isTruncated };
        return rollout(reward, { ...over, rollout: i % train.rolloutsPerPrompt });
      });
      const groups = Array.from({ length: train.promptsPerStep }, (_, g) =>
        made.slice(g * train.rolloutsPerPrompt, (g + 1) * train.rolloutsPerPrompt),
      );
      const drawn = stepBatch(groups, train);
      const kept = topEntropyTokens(
        drawn.examples.map((example) => scores[made.findIndex(({ ids }) => ids === example.ids)].entropy),
        train.topEntropyQuantile,
      );
      const learningRate = rateOfUpdate(train, 0, train.steps);
      const { beta1, beta2, epsilon, weightDecay, maxGradientNorm } = train;
      const outcome = await policyStep(
        model,
        drawn.examples.map((example, i) => ({
          ...example,
          kept: kept[i],
          referenceLogProbs: example.logProbs.slice(example.mask.indexOf(1)),
        })),
        {
          optimiser: { learningRate, beta1, beta2, epsilon, weightDecay, maxGradientNorm },
          ...{ maxTokens: 40, step: 1, temperature, loss: policyLossOf(train) },
        },
      );
      const metrics: Record<string, number> = {
        ...stepMetrics({ ...drawn, outcomes: [outcome], settings: train, learningRate }),
        num_tokens: countedTokens(made),
      };
      weights.free();
      // TRL keeps rewards, advantages and its logs in float32, and transformers computes norms and rotary tables in float32
      // even for a float64 model: relative errors of 2⁻²⁴ each, in a few steps one after another.
      // With several micro-batches TRL's entropy is the mean of their means (docs/metrics.md).
      for (const [metric, expected] of Object.entries(log))
        if (metric !== "entropy" || config["gradient_accumulation_steps"] === 1)
          assertClose(metric, [metrics[metric]], [expected], { absolute: 3e-6, relative: 2e-6 });
    });

  test("what is taken, what differs and what has no counterpart is said, each field in one place", () => {
    const { notes, values } = translated(usual);
    match(notes, 'loss_type "dapo" → train.normalisation = "batch-token"');
    match(notes, 'scale_rewards "group" → train.advantageEpsilon = 0.0001');
    match(notes, /Differs in meaning:\n(?: {2}.*\n)* {2}seed 7: the same seed draws other prompts/);
    match(notes, /vllm_mode, .*: rollouts are generated by this program itself/);
    is(values.train.advantage, "grpo_sample");
    equal(values.train.checkpoints, [0, 4]);
    for (const field of Object.keys(usual))
      ok(new RegExp(`\\b${field}\\b`).test(notes) || field in fieldRules || readBeside.has(field), field);
  });

  test("a field that is not in the file has TRL's default, and not ours", () => {
    const { notes, values } = translated({ num_generations: 4, max_steps: 3, per_device_train_batch_size: 8 });
    match(notes, "learning_rate 0.000001 (TRL's default) → train.learningRate = 0.000001");
    equal([values.train.learningRate, values.train.schedule, values.train.promptsPerStep], [1e-6, "linear", 2]);
  });

  test("what would silently change the training is refused, all at once, with the field", async () => {
    const wrong = {
      ...usual,
      min_p: 0.1,
      repetition_penalty: 1.1,
      loss_type: "vespo",
      optim: "adafactor",
      steps_per_generation: 4,
      beta: 0.1,
      sync_ref_model: true,
      newer_field: 3,
      max_steps: -1,
      lr_scheduler_type: "cosine",
      lr_scheduler_kwargs: { num_cycles: 2 },
    };
    const { problems } = readTrlConfig(file(wrong), [beside]);
    for (const field of [
      ...["min_p", "repetition_penalty", "loss_type", "optim", "steps_per_generation", "sync_ref_model", "newer_field"],
      ...["max_steps", "lr_scheduler_type"],
    ])
      ok(
        problems.some((line) => line.startsWith(`training_args.json, ${field}: `)),
        `${field}: ${problems.join("\n")}`,
      );
    await throwsMessage(() => translated(wrong), "9 settings are wrong", "min_p: 0.1: rollouts can be cut by");
    await throwsMessage(
      () => translated({ learning_rate: 1 }),
      "expected a GRPOConfig as JSON, it has no num_generations",
    );
    await throwsMessage(
      () => translated(usual, { given: [], problems: [] }),
      "model.path: a GRPOConfig does not name it",
      "environment.name: a GRPOConfig does not name it",
    );
  });

  test("a flag decides where a field cannot be translated, and wins over one that can", () => {
    const flags: Source = {
      given: [
        ...beside.given,
        { key: "train.steps", value: 9, where: "--train.steps" },
        { key: "train.learningRate", value: 1e-3, where: "--train.learningRate" },
        { key: "train.checkpoints", value: [9], where: "--train.checkpoints" },
      ],
      problems: [],
    };
    const { train } = translated({ ...usual, max_steps: -1 }, flags).values;
    equal([train.steps, train.learningRate], [9, 1e-3]);
  });
});
