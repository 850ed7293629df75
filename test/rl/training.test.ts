// Ten steps of cross-entropy and five of GRPO against PyTorch in float64: losses, gradient norms, clip fractions, weights.
import { type Backend, CpuBackend } from "../../engine/index.ts";
import { loadModel } from "../../model/index.ts";
import { type PolicyLoss, policyStep, supervisedStep, tokenWeights } from "../../rl/index.ts";
import { testBackends } from "../backends.ts";
import { readSafetensorsFixture } from "../fixture-tensors.ts";
import { assertKnown, describe, fixturePath, readFixture, type Tolerance } from "../support.ts";

interface Known {
  checkpoint: string;
  betas: [number, number];
  eps: number;
  weightDecay: number;
  maxGradientNorm: number;
  crossEntropy: {
    learningRate: number;
    batches: number[][][];
    steps: { loss: number; gradientNorm: number; batch: number }[];
  };
  grpo: {
    learningRate: number;
    clipLow: number;
    clipHigh: number;
    sequences: { group: number; ids: number[]; mask: number[]; samplerLogProbs: number[]; advantage: number }[];
    steps: {
      loss: number;
      gradientNorm: number;
      ratioMean: number;
      clipFractionLow: number;
      clipFractionHigh: number;
    }[];
  };
}

const clipped: PolicyLoss = {
  kind: "clipped",
  clipLow: 0.2,
  clipHigh: 0.28,
  ratioLow: 0.125,
  ratioHigh: 8,
  klCoefficient: 0,
};

interface Bounds {
  dtype: "f32" | "f64";
  loss: Tolerance;
  norm: Tolerance;
  /** Of weights after the last step: root mean square, and the largest single one. */
  rootMeanSquare: number;
  largest: number;
}
const f32: Bounds = {
  dtype: "f32",
  loss: { absolute: 2e-5 },
  norm: { relative: 3e-5 },
  rootMeanSquare: 5e-6,
  largest: 1e-3,
};
// The f64 arena keeps its weights in f64; the fixture's final weights are stored in f32, whose rounding is 6e-8 of a weight.
const f64: Bounds = {
  dtype: "f64",
  loss: { absolute: 1e-7 },
  norm: { relative: 1e-7 },
  rootMeanSquare: 1e-7,
  largest: 1e-6,
};

const known = readFixture<Known>("training.json");
const expected = readSafetensorsFixture("training.safetensors");

function assertWeights(run: string, on: string, weights: ReadonlyMap<string, Float32Array>, bounds: Bounds): void {
  let squares = 0;
  let count = 0;
  let largest = 0;
  for (const [name, values] of weights) {
    const truth = expected.get(`${run}.${name}`)?.values ?? [];
    if (truth.length !== values.length)
      throw new Error(`${run}.${name}: ${values.length} weights, known are ${truth.length}`);
    for (let i = 0; i < values.length; i++) {
      const difference = values[i] - truth[i];
      squares += difference ** 2;
      largest = Math.max(largest, Math.abs(difference));
    }
    count += values.length;
  }
  assertKnown("training.safetensors", `${run}: weights, root mean square`, on, [Math.sqrt(squares / count)], [0], {
    absolute: bounds.rootMeanSquare,
  });
  assertKnown("training.safetensors", `${run}: weights, largest`, on, [largest], [0], { absolute: bounds.largest });
}

describe("rl/training", (test) => {
  const { betas, eps, weightDecay, maxGradientNorm } = known;
  const optimiser = (learningRate: number) => ({
    learningRate,
    beta1: betas[0],
    beta2: betas[1],
    epsilon: eps,
    weightDecay,
    maxGradientNorm,
  });
  const everyBackend = async (): Promise<{ name: string; backend: Backend; bounds: Bounds }[]> => [
    { name: "plain f64", backend: new CpuBackend(), bounds: f64 },
    ...(await testBackends()).map((one) => ({ ...one, bounds: f32 })),
  ];

  // Micro-batches of different sizes must not matter.
  for (const maxTokens of [1000, 25])
    test(`cross-entropy, micro-batches of ${maxTokens} tokens`, async () => {
      const { learningRate, batches, steps } = known.crossEntropy;
      for (const { name: on, backend, bounds } of await everyBackend()) {
        const { config, weights } = await loadModel(backend, fixturePath(known.checkpoint), {
          trainable: true,
          dtype: bounds.dtype,
        });
        for (const [index, step] of steps.entries()) {
          const batch = batches[step.batch];
          const tokens = batch.reduce((sum, ids) => sum + ids.length - 1, 0);
          const outcome = await supervisedStep(
            { backend, config, weights },
            batch.map((ids) => ({ ids, tokenWeight: 1 / tokens })),
            { optimiser: optimiser(learningRate), maxTokens, step: index + 1 },
          );
          assertKnown("training.json", "crossEntropy: loss", on, [outcome.loss], [step.loss], bounds.loss);
          assertKnown(
            "training.json",
            "crossEntropy: gradient norm",
            on,
            [outcome.gradientNorm],
            [step.gradientNorm],
            bounds.norm,
          );
        }
        assertWeights("crossEntropy", on, await weights.read(), bounds);
        weights.free();
      }
    });

  for (const maxTokens of [1000, 45])
    test(`GRPO, micro-batches of ${maxTokens} tokens`, async () => {
      const { learningRate, clipLow, clipHigh, sequences, steps } = known.grpo;
      const sizes = sequences.map(({ group, mask }) => ({ group, tokens: mask.reduce((a, b) => a + b, 0) }));
      const weightsOf = tokenWeights("group-token", sizes);
      const examples = sequences.map((s, i) => ({ ...s, logProbs: s.samplerLogProbs, tokenWeight: weightsOf[i] }));
      for (const { name: on, backend, bounds } of await everyBackend()) {
        const { config, weights } = await loadModel(backend, fixturePath(known.checkpoint), {
          trainable: true,
          dtype: bounds.dtype,
        });
        for (const [index, step] of steps.entries()) {
          const outcome = await policyStep({ backend, config, weights }, examples, {
            optimiser: optimiser(learningRate),
            maxTokens,
            step: index + 1,
            loss: { ...clipped, clipLow, clipHigh },
          });
          const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
          const advantages = sequences.flatMap(({ advantage }, i) =>
            new Array<number>(sizes[i].tokens).fill(advantage),
          );
          const low = outcome.ratio.map((ratio, i) => (ratio < 1 - clipLow && advantages[i] < 0 ? 1 : 0));
          const high = outcome.ratio.map((ratio, i) => (ratio > 1 + clipHigh && advantages[i] > 0 ? 1 : 0));
          assertKnown("training.json", "grpo: loss", on, [outcome.loss], [step.loss], bounds.loss);
          assertKnown(
            "training.json",
            "grpo: gradient norm",
            on,
            [outcome.gradientNorm],
            [step.gradientNorm],
            bounds.norm,
          );
          assertKnown("training.json", "grpo: mean ratio", on, [mean(outcome.ratio)], [step.ratioMean], bounds.loss);
          assertKnown("training.json", "grpo: clipped low", on, [mean(low)], [step.clipFractionLow], {
            absolute: 1e-12,
          });
          assertKnown("training.json", "grpo: clipped high", on, [mean(high)], [step.clipFractionHigh], {
            absolute: 1e-12,
          });
        }
        assertWeights("grpo", on, await weights.read(), bounds);
        weights.free();
      }
    });
});
