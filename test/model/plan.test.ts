// A plan against what was used: the same jobs, planned and run, on backends of their own.
import * as assert from "uvu/assert";
import { type Backend, CpuBackend, empty, openBackend, ParameterArena } from "../../engine/index.ts";
import { PerturbedWeights } from "../../landscape/measure/perturbed-weights.ts";
import { openConfig } from "../../model/checkpoint-files.ts";
import type { Dialogue } from "../../model/dialogue.ts";
import { openLanguageModel } from "../../model/families.ts";
import type { Model } from "../../model/generate-settings.ts";
import { generate } from "../../model/generation.ts";
import { KvCache } from "../../model/kv-cache.ts";
import { parameterShapes } from "../../model/language-model.ts";
import {
  emptyModel,
  expectMemory,
  halve,
  type MemoryPlan,
  type MemorySetting,
  memoryLimit,
  planMemory,
  rehearseGeneration,
  rehearseScoring,
} from "../../model/plan.ts";
import { publishedConfig, publishedShapes } from "../../model/published-shapes.ts";
import { score } from "../../model/scoring.ts";
import { mostStepsPerRead } from "../../model/steps-per-read.ts";
import { loadModel, makeWeights } from "../../model/weights.ts";
import { supervisedStep } from "../../rl/learn.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";

const folder = fixturePath("qwen2-tiny");
const { config } = await openConfig(folder);
const sequences = [40, 63, 17].map((length, s) => ({
  ids: Array.from({ length }, (_, i) => (7 * i + s) % config.vocabSize),
}));
const dialogues: Omit<Dialogue, "answered">[] = sequences.flatMap(({ ids }, prompt) =>
  [0, 1].map((rollout) => ({ policy: 0, prompt: ids, noise: { rollout, prompt }, expectedTokens: 12 })),
);
const optimiser = {
  ...{ learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
  ...{ weightDecay: 0, maxGradientNorm: 1 },
};
const sampling = { maxRows: 4, maxTokens: 64, temperature: 1 };

interface Job {
  plan(planning: Backend): Promise<void>;
  run(backend: Backend): Promise<void>;
}

const load = async (backend: Backend): Promise<Model> => loadModel(backend, folder);

const jobs: Record<string, Job> = {
  scoring: {
    plan: (planning) => rehearseScoring(emptyModel(planning, config), sequences, { temperature: 1, maxTokens: 100 }),
    run: async (backend) => void (await score(await load(backend), sequences, { temperature: 1, maxTokens: 100 })),
  },
  "generating, rows coming and going": {
    plan: (planning) => rehearseGeneration(emptyModel(planning, config), dialogues, sampling),
    run: async (backend) =>
      generate(
        await load(backend),
        dialogues.map((dialogue) => ({ ...dialogue, answered: () => null })),
        { ...sampling, maxNewTokens: 12, noiseKey: [1, 2], stopIds: [] },
      ),
  },
};
// More rollouts than their prompt has tokens: its pass draws more tokens than it computes.
{
  const sampling = { temperature: 1, maxRows: 128, maxTokens: 4096 };
  const dialogues = Array.from({ length: 128 }, (_, rollout) => ({
    ...{
      policy: 0,
      prompt: Array.from({ length: 20 }, (__, i) => i),
      noise: { rollout, prompt: 0 },
      expectedTokens: 20,
    },
  }));
  jobs["many rollouts of a short prompt"] = {
    plan: async (planning) => rehearseGeneration(emptyModel(planning, config), dialogues, sampling),
    run: async (backend) =>
      generate(
        await load(backend),
        dialogues.map((dialogue) => ({ ...dialogue, answered: () => null })),
        { ...sampling, maxNewTokens: 12, noiseKey: [1, 2], stopIds: [] },
      ),
  };
}
for (const recomputeLayers of [false, true]) {
  const settings = { optimiser, maxTokens: 4096, step: 1, recomputeLayers };
  const examples = sequences.map((sequence) => ({ ...sequence, tokenWeight: 0.01 }));
  jobs[`a training step${recomputeLayers ? ", layers run again" : ""}`] = {
    plan: async (planning) => {
      const weights = makeWeights(planning, config, { trainable: true });
      await supervisedStep({ backend: planning, config, weights }, examples, settings);
    },
    run: async (backend) =>
      void (await supervisedStep(await loadModel(backend, folder, { trainable: true }), examples, settings)),
  };
}

const planOf = (totalBytes: number): MemoryPlan => ({
  ...{ totalBytes, deviceBytes: totalBytes, prepare: async () => {} },
  parts: new Map([
    ["weights", totalBytes / 4],
    ["activations", (3 * totalBytes) / 4],
  ]),
});

describe("model/plan", (test) => {
  for (const maxBufferBytes of [undefined, 16384, 16640])
    for (const [name, job] of Object.entries(jobs))
      test(`${name}${maxBufferBytes === undefined ? "" : `, ${maxBufferBytes} bytes a buffer`}: within a tenth of what is used`, async () => {
        const { backend } = await openBackend({ backend: "webgpu", maxBufferBytes });
        try {
          const { deviceBytes, parts, totalBytes, prepare } = await planMemory(backend, job.plan);
          assert.is(backend.statistics().peakBytes, 0, "a plan allocates nothing");
          assert.is(backend.statistics().pipelines, 0, "a plan compiles nothing");
          await prepare();
          const { pipelines } = backend.statistics();
          assert.ok(pipelines > 10, `${pipelines} pipelines were prepared`);
          await job.run(backend);
          assert.is(backend.statistics().pipelines, pipelines, "the job's kernels are those that were prepared");
          const used = backend.statistics().peakBytes;
          assert.ok(Math.abs(deviceBytes / used - 1) < 0.1, `planned ${deviceBytes}, used ${used}`);
          const sum = (of: Iterable<number>): number => [...of].reduce((total, bytes) => total + bytes, 0);
          assert.is(sum(parts.values()), totalBytes);
          assert.is(sum([...parts].filter(([part]) => part !== "staging").map(([, bytes]) => bytes)), deviceBytes);
        } finally {
          backend.destroy();
        }
      });

  test("the plain backend's arrays likewise", async () => {
    for (const [name, job] of Object.entries(jobs)) {
      const { backend } = await openBackend({ backend: "cpu" });
      const { deviceBytes } = await planMemory(backend, job.plan);
      await job.run(backend);
      const { peakBytes } = backend.statistics();
      assert.ok(Math.abs(deviceBytes / peakBytes - 1) < 0.1, `${name}: planned ${deviceBytes}, used ${peakBytes}`);
    }
  });

  test("where several decode steps may run between two reads, their results are planned", async () => {
    const job = jobs["generating, rows coming and going"];
    const bytesOn = async (memory: Backend["memory"]): Promise<{ planned: number; used: number }> => {
      const backend: Backend = Object.assign(new CpuBackend(), { memory });
      const { deviceBytes } = await planMemory(backend, job.plan);
      await job.run(backend);
      return { planned: deviceBytes, used: backend.statistics().peakBytes };
    };
    const [host, device] = [await bytesOn("host"), await bytesOn("device")];
    const results = mostStepsPerRead * sampling.maxRows * 3 * 4; // an id, a log-probability and an entropy each
    assert.is(device.used - host.used, results);
    assert.is(device.planned - host.planned, results);
  });

  test("memory is sorted by its purpose, whatever parameters are called", async () => {
    const { backend } = await openBackend({ backend: "cpu" });
    const { parts } = await planMemory(backend, async (planning) => {
      const entries = new Map([["anything", { shape: [8, 16], forwardCopy: true }]]);
      const arena = new ParameterArena(planning, entries, { trainable: true });
      new PerturbedWeights(arena, 1);
      new KvCache(planning, { numHiddenLayers: 2, numKeyValueHeads: 1, headDim: 4 }, 10);
      empty(planning, [3], "f32", "head of a family");
    });
    const matrix = 4 * 8 * 16;
    assert.equal(Object.fromEntries([...parts].filter(([part, bytes]) => part !== "staging" && bytes > 0)), {
      weights: matrix,
      gradients: matrix,
      moments: 2 * matrix,
      "compute copies": matrix,
      "perturbed weights": 2 * matrix, // rows, as nothing says that only linear layers read it, and panels
      "KV cache": 2 * 2 * 10 * 4 * 4,
      activations: 12,
    });
  });

  test("layers that run again save activations", async () => {
    const { backend } = await openBackend({ backend: "cpu" });
    const of = async (name: string): Promise<number> =>
      (await planMemory(backend, jobs[name].plan)).parts.get("activations") ?? 0;
    assert.ok((await of("a training step, layers run again")) < 0.7 * (await of("a training step")));
  });

  // So that a run may go on with another choice.
  test("layers that run again change no bit", async () => {
    const { backend } = await openBackend({ backend: "webgpu" });
    const examples = sequences.map((sequence) => ({ ...sequence, tokenWeight: 0.01 }));
    const after = async (recomputeLayers: boolean) => {
      const model = await loadModel(backend, folder, { trainable: true });
      const settings = { optimiser, maxTokens: 64, step: 1, recomputeLayers };
      const { loss, gradientNorm } = await supervisedStep(model, examples, settings);
      return { loss, gradientNorm, values: await model.weights.read() };
    };
    const [kept, again] = [await after(false), await after(true)];
    backend.destroy();
    assert.equal([again.loss, again.gradientNorm], [kept.loss, kept.gradientNorm]);
    for (const [name, values] of kept.values) assert.equal(again.values.get(name), values, name);
  });

  test("published shapes by configuration alone: as many parameters as their cards say", async () => {
    const known: Record<string, number> = {
      "qwen2.5-0.5b": 494_032_768,
      "qwen2.5-1.5b": 1_543_714_304,
      "qwen2.5-3b": 3_085_938_688,
      "qwen2.5-7b": 7_615_616_512,
    };
    assert.equal(Object.keys(known), publishedShapes);
    const { backend } = await openBackend({ backend: "cpu" });
    for (const [name, parameters] of Object.entries(known)) {
      const shape = openLanguageModel(publishedConfig(name.toUpperCase()), name);
      const counted = [...parameterShapes(shape).values()].map((extents) => extents.reduce((a, b) => a * b));
      assert.is(
        counted.reduce((a, b) => a + b),
        parameters,
        name,
      );
      const ids = new Uint32Array(64);
      const plan = await planMemory(backend, (planning) =>
        rehearseScoring(emptyModel(planning, shape), [{ ids }], { temperature: 1, maxTokens: 64 }),
      );
      assert.ok((plan.parts.get("weights") ?? 0) >= 4 * parameters, name);
    }
    assert.is(publishedConfig("qwen2.5-72b"), null);
  });

  test("what fits is let through, to the byte", async () => {
    const limit = { bytes: 1000, what: "there are" };
    assert.is((await expectMemory("It", 1000, async (bytes) => planOf(bytes), [], limit)).totalBytes, 1000);
    await throwsMessage(
      () => expectMemory("It", 1001, async (bytes) => planOf(bytes), [], limit),
      "It needs 1001 bytes (activations 751 bytes, weights 250 bytes); there are 1000 bytes. No setting makes it fit",
    );
    assert.is((await expectMemory("It", 1e15, async (bytes) => planOf(bytes), [], null)).totalBytes, 1e15);
  });

  test("the first setting that alone makes it fit is named, else several together", async () => {
    const limit = { bytes: 1000, what: "there are" };
    const sizes = { rows: 64, tokens: 64 };
    type Sizes = typeof sizes;
    const memorySettings: MemorySetting<Sizes>[] = [halve("--rows", "rows"), halve("--tokens", "tokens")];
    const refused = (bytes: (sizes: Sizes) => number) => () =>
      expectMemory("It", sizes, async (one) => planOf(bytes(one)), memorySettings, limit);
    await throwsMessage(
      refused((one) => 500 + 20 * one.rows + one.tokens),
      "Try --rows 16.",
    );
    await throwsMessage(
      refused((one) => 900 + one.rows + 20 * one.tokens),
      "Try --tokens 1.",
    );
    await throwsMessage(
      refused((one) => 900 + 20 * one.rows + 20 * one.tokens),
      "Try --rows 1 --tokens 4.",
    );
    await throwsMessage(
      refused((one) => 990 + 20 * one.rows),
      "No setting makes it fit",
    );
  });

  test("a software adapter has what the machine has", async () => {
    const limit = memoryLimit({ memory: "host" });
    assert.ok(limit !== null && limit.bytes > 0 && limit.bytes < 2 ** 50);
    assert.is(memoryLimit({ memory: "device" }), null);
  });
});
