// Short trainings of a model with the losses of TRL itself, called on its log-probabilities at a temperature
// (known/policy_training.py): losses and gradient norms of every step, in micro-batches.
import { ok } from "uvu/assert";
import { type Backend, CpuBackend } from "../../engine/index.ts";
import { loadModel, score, scoredPositions } from "../../model/index.ts";
import { type PolicyExample, policyStep } from "../../rl/index.ts";
import { type PolicyLoss, topEntropyTokens } from "../../rl/policy-loss.ts";
import { type Normalisation, tokenWeights } from "../../rl/token-weights.ts";
import { testBackends } from "../backends.ts";
import { assertClose, describe } from "../support.ts";
import { knownPath, readKnown } from "./known/read.ts";

interface Known {
  temperature: number;
  learningRate: number;
  completionLimit: number;
  sequences: {
    ids: number[];
    mask: number[];
    samplerLogProbs: number[];
    referenceLogProbs: number[];
    advantage: number;
  }[];
  cases: {
    name: string;
    loss_type: "grpo" | "bnpo" | "dapo" | "dr_grpo" | "cispo";
    importance_sampling_level: "token" | "sequence";
    epsilon_low: number;
    epsilon_high: number;
    delta: number | null;
    beta: number;
    use_bias_correction_kl: boolean;
    top_entropy_quantile: number;
    entropy_coef: number;
    steps: { loss: number; gradientNorm: number }[];
  }[];
}

const known = readKnown<Known>("policy-training.json");

const normalisationOf: Readonly<Record<Known["cases"][number]["loss_type"], Normalisation>> = {
  grpo: "sequence",
  bnpo: "batch-token",
  dapo: "batch-token",
  cispo: "batch-token",
  dr_grpo: "constant",
};

function lossOf(row: Known["cases"][number]): PolicyLoss {
  const isCispo = row.loss_type === "cispo";
  return {
    kind: isCispo ? "cispo" : "clipped",
    ...{ clipLow: row.epsilon_low, clipHigh: row.epsilon_high, ratioLow: 0, ratioHigh: 1 },
    ratioCap: isCispo ? row.epsilon_high : (row.delta ?? 0),
    importanceLevel: row.importance_sampling_level,
    ...{ klCoefficient: row.beta, klTimesRatio: row.use_bias_correction_kl, entropyCoefficient: row.entropy_coef },
  };
}

describe("rl/policy-training", (test) => {
  const { temperature, learningRate, completionLimit, sequences, cases } = known;
  const optimiser = { learningRate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, maxGradientNorm: 1 };
  const everyBackend = async (): Promise<{ name: string; backend: Backend; dtype: "f32" | "f64" }[]> => [
    { name: "plain f64", backend: new CpuBackend(), dtype: "f64" },
    ...(await testBackends()).slice(1, 2).map((one) => ({ ...one, dtype: "f32" as const })),
  ];

  for (const row of cases)
    test(`TRL's ${row.loss_type}: ${row.name}`, async () => {
      const weights = tokenWeights(
        normalisationOf[row.loss_type],
        sequences.map(({ mask }) => ({ tokens: mask.reduce((a, b) => a + b, 0), group: 0 })),
        completionLimit,
      );
      const examples: PolicyExample[] = sequences.map((sequence, i) => ({
        ...{ ids: sequence.ids, mask: sequence.mask, logProbs: sequence.samplerLogProbs },
        ...{ advantage: sequence.advantage, tokenWeight: weights[i] },
        referenceLogProbs: scoredPositions(sequence).map((t) => sequence.referenceLogProbs[t]),
      }));
      for (const { name: on, backend, dtype } of await everyBackend()) {
        const loaded = await loadModel(backend, knownPath("../../fixtures/qwen2-tiny"), { trainable: true, dtype });
        const model = { backend, config: loaded.config, weights: loaded.weights };
        for (const [index, step] of row.steps.entries()) {
          const kept =
            row.top_entropy_quantile < 1
              ? topEntropyTokens(
                  (await score(model, examples, { temperature, maxTokens: 30 })).map(({ entropy }) => entropy),
                  row.top_entropy_quantile,
                )
              : [];
          const outcome = await policyStep(
            model,
            examples.map((example, i) => ({ ...example, kept: kept[i] })),
            { optimiser, maxTokens: 30, step: index + 1, temperature, loss: lossOf(row) },
          );
          const exact = dtype === "f64";
          const context = `${on}: step ${index + 1}`;
          assertClose(`${context}: loss`, [outcome.loss], [step.loss], { absolute: exact ? 1e-8 : 2e-5 });
          assertClose(`${context}: gradient norm`, [outcome.gradientNorm], [step.gradientNorm], {
            relative: exact ? 1e-7 : 1e-4,
          });
          ok(outcome.gradientNorm > 0, context);
        }
        model.weights.free();
      }
    });
});
