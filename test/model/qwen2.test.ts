// The whole model against transformers in float64: logits, log-probabilities, entropies, loss, gradients, greedy tokens, of
// every checkpoint of the fixtures, on every backend.
import type { Backend } from "../../engine/index.ts";
import { CpuBackend, fromArray, head, linear, philoxKey, record, scopeAsync, weightedSum } from "../../engine/index.ts";
import { answerStates, generate, headWeight, loadModel, packSequences, score } from "../../model/index.ts";
import { testBackends } from "../backends.ts";
import { readSafetensorsFixture } from "../fixture-tensors.ts";
import { assertKnown, describe, fixturePath, readFixture, type Tolerance } from "../support.ts";

interface KnownModel {
  folder: string;
  temperature: number;
  crossEntropy: number;
  predictedTokens: number;
  sequences: {
    ids: number[];
    logProbs: number[];
    entropy: number[];
    logProbsAtTemperature: number[];
    entropyAtTemperature: number[];
  }[];
  greedy: { prompt: number[]; tokens: number[]; smallestMargin: number }[];
  gradientNorm?: number;
}

const names = ["qwen2-tiny", "qwen2-tiny-bf16-sharded", "qwen2-tiny-bare-f16", "qwen2-untied-odd"];

interface Bounds {
  dtype: "f32" | "f64";
  logits: Tolerance;
  logProbs: Tolerance;
  loss: Tolerance;
  gradients: Tolerance;
}
// f32 as fixtures/README.md gives them. f64: gradients were stored in f32, whose rounding is 6e-8 of each element.
const f32: Bounds = {
  dtype: "f32",
  logits: { absolute: 1e-4 },
  logProbs: { absolute: 1e-4 },
  loss: { relative: 2e-6 },
  gradients: { ofScale: 5e-5 },
};
const f64: Bounds = {
  dtype: "f64",
  logits: { relative: 1e-9, absolute: 1e-9 },
  logProbs: { relative: 1e-9, absolute: 1e-9 },
  loss: { relative: 1e-9 },
  gradients: { relative: 1e-7, ofScale: 1e-9 },
};

async function everyBackend(): Promise<{ name: string; backend: Backend; bounds: Bounds }[]> {
  return [
    { name: "plain f64", backend: new CpuBackend(), bounds: f64 },
    ...(await testBackends()).map(({ name, backend }) => ({ name, backend, bounds: f32 })),
  ];
}

describe("model/qwen2", (test) => {
  for (const name of names) {
    const known = readFixture<KnownModel>(`${name}.json`);
    const file = `${name}.safetensors`;

    test(`${name}: logits, log-probabilities, entropies, loss`, async () => {
      const tensors = readSafetensorsFixture(file);
      for (const { name: on, backend, bounds } of await everyBackend()) {
        const before = backend.statistics().liveBuffers;
        const { config, weights } = await loadModel(backend, fixturePath(known.folder), { dtype: bounds.dtype });
        const model = { backend, config, weights };
        const sequences = known.sequences.map(({ ids }) => ids);
        await scopeAsync(async () => {
          const batch = packSequences(backend, sequences);
          const logits = await linear(
            config.forward(weights, batch, null),
            headWeight(config, weights),
            null,
            null,
          ).read();
          let start = 0;
          sequences.forEach((ids, i) => {
            const expected = tensors.get(`logits.${i}`)?.values ?? [];
            const length = ids.length * config.vocabSize;
            assertKnown(file, "logits", on, logits.subarray(start, start + length), expected, bounds.logits);
            start += length;
          });
        });
        for (const [temperature, logProbs, entropy] of [
          [1, "logProbs", "entropy"],
          [known.temperature, "logProbsAtTemperature", "entropyAtTemperature"],
        ] as const) {
          const scored = await score(
            model,
            sequences.map((ids) => ({ ids })),
            { temperature, maxTokens: 40 },
          );
          let nll = 0;
          scored.forEach((found, i) => {
            const of = known.sequences[i];
            assertKnown(`${name}.json`, logProbs, on, found.logProbs, of[logProbs], f32.logProbs);
            assertKnown(`${name}.json`, entropy, on, found.entropy, of[entropy].slice(0, -1), f32.logProbs);
            for (const value of found.logProbs) nll -= value;
          });
          if (temperature === 1)
            assertKnown(
              `${name}.json`,
              "crossEntropy",
              on,
              [nll / known.predictedTokens],
              [known.crossEntropy],
              f32.loss,
            );
        }
        weights.free();
        const left = backend.statistics().liveBuffers - before;
        if (left !== 0) throw new Error(`${on}: ${left} buffers left behind`);
      }
    });

    test(`${name}: greedy tokens`, async () => {
      for (const { name: on, backend } of await testBackends()) {
        if (on.includes("segments")) continue; // the cache in segments has its own test (generate.test.ts)
        const { config, weights } = await loadModel(backend, fixturePath(known.folder));
        const found = new Map<number, readonly number[]>();
        const dialogues = known.greedy.map(({ prompt, tokens }, i) => ({
          policy: 0,
          prompt,
          noise: { rollout: 0, prompt: i },
          expectedTokens: tokens.length,
          answered: ({ ids }: { ids: readonly number[] }) => {
            found.set(i, ids);
            return null;
          },
        }));
        await generate({ backend, config, weights }, dialogues, {
          maxNewTokens: Math.max(...known.greedy.map(({ tokens }) => tokens.length)),
          temperature: 0,
          noiseKey: philoxKey("unused"),
          stopIds: [],
          maxRows: 8,
          maxTokens: 64,
        });
        known.greedy.forEach(({ tokens }, i) => {
          assertKnown(`${name}.json`, "greedy", on, found.get(i) ?? [], tokens, {});
        });
        weights.free();
      }
    });

    if (known.gradientNorm === undefined) continue;
    test(`${name}: gradients of every parameter`, async () => {
      const tensors = readSafetensorsFixture(file);
      for (const { name: on, backend, bounds } of await everyBackend())
        for (const recomputeLayers of [false, true]) {
          const { config, weights } = await loadModel(backend, fixturePath(known.folder), {
            trainable: true,
            dtype: bounds.dtype,
          });
          const model = { backend, config, weights };
          await scopeAsync(async () => {
            const recording = record(() => {
              const { hidden, targets, count } = answerStates(model, known.sequences, 0, { recomputeLayers });
              const { logProbs } = head(hidden, headWeight(config, weights), targets, { temperature: 1 }, null);
              const each = fromArray(
                backend,
                new Float64Array(count).fill(-1 / known.predictedTokens),
                [count],
                bounds.dtype,
              );
              return weightedSum(logProbs, each);
            });
            const seed = fromArray(backend, [1], recording.result.shape, bounds.dtype);
            recording.backward(new Map([[recording.result, seed]]), weights.gradients);
          });
          for (const [parameter, gradient] of await weights.read(weights.names, "gradients")) {
            const expected = tensors.get(`gradient.${parameter}`)?.values ?? [];
            assertKnown(file, "gradient", on, gradient, expected, bounds.gradients);
          }
          weights.free();
        }
    });
  }
});
