// What training will take, before it starts: with a KL penalty the frozen starting model is part of it, and kernels of both
// passes are those that a step runs.
import * as assert from "uvu/assert";
import { resolveSettings } from "../../engine/host/index.ts";
import { openBackend } from "../../engine/index.ts";
import { studySettings } from "../../landscape/settings.ts";
import { loadChat, loadModel, loadTokenizer, type MemoryPlan, makeWeights, openConfig } from "../../model/index.ts";
import { EpisodeList } from "../../rl/environments/environment.ts";
import { evaluatedRollouts } from "../../rl/evaluation.ts";
import { expectTrainingMemory, openEnvironment, policyStep } from "../../rl/index.ts";
import { longestExamples } from "../../rl/plan.ts";
import { policyLossOf } from "../../rl/policy-loss.ts";
import { rollOut, trainingRollouts } from "../../rl/rollout.ts";
import { runSettings } from "../../rl/run-settings.ts";
import { fillAtRandom } from "../random-model.ts";
import { describe, fixturePath } from "../support.ts";

const folder = fixturePath("tiny-warm-start");

describe("rl/plan", (test) => {
  const everything = {
    "train.klCoefficient": 0.1,
    "train.importanceLevel": "sequence",
    "train.entropyCoefficient": 0.01,
    "train.topEntropyQuantile": 0.5,
    "train.topK": 5,
  };
  for (const [what, own, models] of [
    ["a KL coefficient of 0", { "train.klCoefficient": 0 }, 1],
    ["a KL coefficient of 0.1", { "train.klCoefficient": 0.1 }, 2],
    ["sequence ratios, entropy bonus, quantile and top-k", everything, 2],
  ] as const)
    test(`a training step with ${what}: memory and kernels are those that are planned`, async () => {
      const { backend } = await openBackend({ backend: "webgpu" });
      try {
        const given = {
          ...own,
          "train.promptsPerStep": 2,
          "train.rolloutsPerPrompt": 2,
          "train.maxNewTokens": 24,
          "evaluate.episodes": 4,
          "environment.alphabet-sort.maxNamesPerTurn": 3,
        };
        const settings = resolveSettings(studySettings, [
          { given: Object.entries(given).map(([key, value]) => ({ key, value, where: key })), problems: [] },
        ]);
        const { config } = await openConfig(folder);
        const chat = await loadChat(folder, await loadTokenizer(folder));
        const environment = await openEnvironment(settings.environment);
        const plan = await expectTrainingMemory(backend, { config, chat, environment, settings });
        const { pipelines } = backend.statistics();

        // The weights once more where there is a reference; buffers are rounded up.
        const model = await loadModel(backend, folder, { trainable: true });
        const { values, copies } = model.weights.memory();
        for (const [part, bytes] of [
          ["weights", values],
          ["compute copies", copies],
        ] as const) {
          const ratio = (plan.parts.get(part) ?? 0) / bytes;
          assert.ok(ratio >= models && ratio < 1.3 * models, `${part}: ${ratio} times one model's`);
        }

        const requests = evaluatedRollouts(environment, settings.evaluate);
        const examples = longestExamples(chat, requests, 24, config.vocabSize);
        await policyStep(model, examples, {
          optimiser: settings.train,
          maxTokens: settings.batch.trainTokens,
          step: 1,
          loss: policyLossOf(settings.train),
        });
        assert.is(backend.statistics().pipelines, pipelines, "the step's kernels are those that were prepared");
      } finally {
        backend.destroy();
      }
    });

  for (const [rollouts, precision] of [
    [2, "f32"],
    [8, "f32"],
  ] as const)
    test(`${rollouts} rollouts of each prompt, ${precision}: the plan of generation and step is what is used, within a tenth`, async () => {
      const { backend } = await openBackend({ backend: "webgpu" });
      try {
        const given = {
          "train.promptsPerStep": 4,
          "train.rolloutsPerPrompt": rollouts,
          "train.maxNewTokens": 4,
          "train.precision": precision,
          "evaluate.episodes": 4,
        };
        const settings = resolveSettings(runSettings, [
          { given: Object.entries(given).map(([key, value]) => ({ key, value, where: key })), problems: [] },
        ]);
        const { train, batch } = settings;
        const { config } = await openConfig(folder);
        const chat = await loadChat(folder, await loadTokenizer(folder));
        const environment = await openEnvironment(settings.environment);
        const job = { config, chat, environment, settings };
        const planned = await expectTrainingMemory(backend, job, { limit: null, compiles: false });
        const weights = makeWeights(backend, config, { trainable: true, precision });
        fillAtRandom(weights, config, chat);
        const model = { backend, config, weights };
        const requests = trainingRollouts(
          new EpisodeList(environment, train.episodeSeed),
          ...([1, train.promptsPerStep, rollouts] as const),
        );
        const drawn = await rollOut(model, chat, requests, {
          ...{ maxNewTokens: train.maxNewTokens, temperature: 1, turn2Template: "standard" },
          ...{ maxRows: batch.rows, maxTokens: batch.tokens, seed: 1, purpose: "train", step: 1 },
        });
        await policyStep(
          model,
          drawn.map((one) => ({ ...one, advantage: 1, tokenWeight: 0.01 })),
          { optimiser: train, maxTokens: batch.trainTokens, step: 1, loss: policyLossOf(train) },
        );
        const used = backend.statistics().peakBytes;
        assert.ok(Math.abs(planned.deviceBytes / used - 1) < 0.1, `planned ${planned.deviceBytes}, used ${used}`);
      } finally {
        backend.destroy();
      }
    });

  test("without steps, nothing is planned or allocated for gradients, moments and a reference", async () => {
    const { backend } = await openBackend({ backend: "webgpu" });
    try {
      const { config } = await openConfig(folder);
      const chat = await loadChat(folder, await loadTokenizer(folder));
      const partsOf = async (steps: number): Promise<MemoryPlan["parts"]> => {
        const given = {
          "train.steps": steps,
          "train.checkpoints": [],
          "train.klCoefficient": 0.1,
          "evaluate.episodes": 4,
        };
        const settings = resolveSettings(runSettings, [
          { given: Object.entries(given).map(([key, value]) => ({ key, value, where: key })), problems: [] },
        ]);
        const environment = await openEnvironment(settings.environment);
        const job = { config, chat, environment, settings };
        return (await expectTrainingMemory(backend, job, { limit: null, compiles: false })).parts;
      };
      const [without, one] = [await partsOf(0), await partsOf(1)];
      assert.equal([without.get("gradients") ?? 0, without.get("moments") ?? 0], [0, 0]);
      assert.ok((one.get("gradients") ?? 0) > 0 && (one.get("moments") ?? 0) > 0);
      assert.is(2 * (without.get("weights") ?? 0), one.get("weights"));
    } finally {
      backend.destroy();
    }
  });
});
