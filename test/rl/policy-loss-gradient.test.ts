// Gradients of the policy losses: by central differences, with stop-gradient factors held constant; and through the
// model, where they do not depend on how the batch is cut into micro-batches, nor on the order of its sequences.
import * as assert from "uvu/assert";
import { fromArray, GradientMap, record, scopeAsync, type Tensor } from "../../engine/index.ts";
import { loadModel } from "../../model/index.ts";
import { type PolicyExample, policyStep } from "../../rl/index.ts";
import { type PolicyLoss, policyLoss, policyLossKinds } from "../../rl/policy-loss.ts";
import { normalisations, tokenWeights } from "../../rl/token-weights.ts";
import { reference as plainBackend, testBackends } from "../backends.ts";
import { assertClose, describe, fixturePath, readFixture } from "../support.ts";

const known = readFixture<{
  batches: {
    mask: number[][];
    advantages: number[];
    trainerLogProbs: number[][];
    oldLogProbs: number[][];
    referenceLogProbs: number[][];
  }[];
}>("losses.json");

const indices = (mask: readonly number[]): number[] => mask.flatMap((m, t) => (m === 1 ? [t] : []));

describe("rl/policy-loss gradient", (test) => {
  test("gradients by central differences in float64, with what has no gradient held constant", async () => {
    const batch = known.batches[0];
    const all = [...batch.mask.keys()];
    const at = all.map((s) => indices(batch.mask[s]));
    for (const kind of policyLossKinds)
      for (const importanceLevel of ["token", "sequence"] as const)
        for (const klTimesRatio of [false, true]) {
          const form: PolicyLoss = {
            ...{ kind, importanceLevel, klTimesRatio, clipLow: 0.2, clipHigh: 0.28, ratioLow: 0.9, ratioHigh: 1.1 },
            ...{
              ratioCap: kind === "masked-importance" ? 0 : 1.31,
              klCoefficient: 0.3,
              sapoPositive: 1.5,
              sapoNegative: 2,
            },
          };
          const weights = tokenWeights(
            "sequence",
            all.map((s) => ({ tokens: at[s].length, group: 0 })),
          );
          const flat = (values: readonly (readonly number[])[]) => all.flatMap((s) => at[s].map((t) => values[s][t]));
          const logProbs = flat(batch.trainerLogProbs);
          const old = flat(batch.oldLogProbs);
          const reference = flat(batch.referenceLogProbs);
          const rowOf = all.flatMap((s) => at[s].map(() => s));
          const ratiosOf = (x: readonly number[]): number[] =>
            x.map((value, i) => {
              if (importanceLevel === "token") return Math.exp(value - old[i]);
              const own = x.flatMap((v, j) => (rowOf[j] === rowOf[i] ? [v - old[j]] : []));
              return Math.exp(own.reduce((a, b) => a + b, 0) / own.length);
            });
          const constant = ratiosOf(logProbs);
          const lossAt = (x: readonly number[]): number => {
            const ratios = ratiosOf(x);
            return x.reduce((sum, value, i) => {
              const A = batch.advantages[rowOf[i]];
              const [r, fixed] = [ratios[i], constant[i]];
              const clipped = Math.min(Math.min(r, 1.31) * A, Math.min(Math.max(r, 0.8), 1.28) * A);
              const masked = fixed < 0.9 || fixed > 1.1 ? 0 : fixed * A * value;
              const temperature = A > 0 ? 1.5 : 2;
              const sapo = ((4 / temperature) * A) / (1 + Math.exp(-temperature * (r - 1)));
              const cispo = Math.min(fixed, 1.31) * A * value;
              const gain = { clipped, "masked-importance": masked, cispo, sapo }[kind];
              const d = reference[i] - value;
              return sum - weights[rowOf[i]] * (gain - 0.3 * (klTimesRatio ? r : 1) * (Math.expm1(d) - d));
            }, 0);
          };
          const { loss, gradient } = await scopeAsync(async () => {
            const give = (values: number[]): Tensor => fromArray(plainBackend, values, [values.length], "f64");
            const x = give(logProbs);
            x.requiresGradient = true;
            const recording = record(
              () =>
                policyLoss(
                  {
                    ...{ logProbs: x, entropy: x, oldLogProbs: give(old), referenceLogProbs: give(reference) },
                    advantages: give(rowOf.map((s) => batch.advantages[s])),
                    weights: give(rowOf.map((s) => weights[s])),
                    ...{ entropyWeights: null, lengths: at.map(({ length }) => length) },
                  },
                  form,
                ).loss,
            );
            const gradients = new GradientMap([x]);
            recording.backward(new Map([[recording.result, give([1])]]), gradients);
            const found = { loss: await recording.result.read(), gradient: await gradients.get(x)?.read() };
            gradients.free();
            return found;
          });
          const context = `${kind} ${importanceLevel} ${klTimesRatio}`;
          assertClose(`${context}: loss`, loss, [lossAt(logProbs)], { relative: 1e-12 });
          const step = 1e-6;
          const differences = logProbs.map((_, i) => {
            const moved = (by: number) => lossAt(logProbs.map((value, j) => (j === i ? value + by : value)));
            return (moved(step) - moved(-step)) / (2 * step);
          });
          assertClose(`${context}: gradient`, gradient ?? [], differences, { absolute: 2e-9 });
        }
  });

  test("the gradient of a step is the same for every cut into micro-batches and every order of the sequences", async () => {
    const { checkpoint, grpo } = readFixture<{
      checkpoint: string;
      grpo: {
        sequences: { group: number; ids: number[]; mask: number[]; samplerLogProbs: number[]; advantage: number }[];
      };
    }>("training.json");
    const sizes = grpo.sequences.map(({ group, mask }) => ({ group, tokens: indices(mask).length }));
    const usual = { clipLow: 0.02, clipHigh: 0.03, ratioLow: 0.95, ratioHigh: 1.05, klCoefficient: 0 };
    const forms: readonly PolicyLoss[] = (["token", "sequence"] as const).flatMap((importanceLevel): PolicyLoss[] => [
      { ...usual, importanceLevel, kind: "clipped" },
      { ...usual, importanceLevel, kind: "clipped", ratioCap: 1.04, klCoefficient: 0.1, klTimesRatio: true },
      { ...usual, importanceLevel, kind: "masked-importance", klCoefficient: 0.1 },
      { ...usual, importanceLevel, kind: "sapo", sapoPositive: 3, klCoefficient: 0.1, klTimesRatio: true },
      { ...usual, importanceLevel, kind: "cispo", ratioCap: 1.01, entropyCoefficient: 0.02 },
    ]);
    const optimiser = { learningRate: 0, beta1: 0, beta2: 0, epsilon: 1, weightDecay: 0, maxGradientNorm: 1e9 };
    // Segments of tensors, which the other backends have, are the matter of the ops' own tests. The plain backend, which
    // is slow, takes one cut per form.
    for (const [b, { name, backend }] of (await testBackends()).slice(0, 2).entries()) {
      // The learning rate is 0, so every step is from the same weights.
      const { config, weights: arena } = await loadModel(backend, fixturePath(checkpoint), { trainable: true });
      for (const [f, form] of forms.entries()) {
        const normalisation = normalisations[f % normalisations.length];
        const weights = tokenWeights(normalisation, sizes, 24);
        const examples: PolicyExample[] = grpo.sequences.map((sequence, i) => ({
          ids: sequence.ids,
          mask: sequence.mask,
          logProbs: sequence.samplerLogProbs,
          advantage: sequence.advantage,
          tokenWeight: weights[i],
          referenceLogProbs: indices(sequence.mask).map((t) => sequence.samplerLogProbs[t] + 0.2 * Math.sin(t)),
          // As a quantile would: not the same tokens in every sequence, and none in the second.
          kept: form.kind === "cispo" ? indices(sequence.mask).map((t) => (i === 1 || t % 3 === 0 ? 0 : 1)) : undefined,
        }));
        const gradientsOf = async (given: readonly PolicyExample[], maxTokens: number) => {
          const { loss } = await policyStep({ backend, config, weights: arena }, given, {
            ...{ optimiser, maxTokens, step: 1, loss: form },
          });
          return { loss, gradients: await arena.read(arena.names, "gradients") };
        };
        const whole = await gradientsOf(examples, 10_000);
        const scale = Math.max(
          ...[...whole.gradients.values()].map((g) => g.reduce((m, v) => Math.max(m, Math.abs(v)), 0)),
        );
        assert.ok(scale > 1e-4, `no gradient: ${scale}`);
        const allowed = { absolute: 1e-5 * scale };
        const cuts = [
          [examples, 70],
          [examples, 1],
          [[...examples].reverse(), 55],
        ] as const;
        for (const [given, maxTokens] of b === 0 ? [cuts[f % cuts.length]] : cuts) {
          const cut = await gradientsOf(given, maxTokens);
          const context = `${name} ${form.kind} ${form.importanceLevel} ${normalisation} ${maxTokens}`;
          assertClose(`${context}: loss`, [cut.loss], [whole.loss], { absolute: 2e-6 });
          for (const [parameter, gradient] of whole.gradients)
            assertClose(`${context}: ${parameter}`, cut.gradients.get(parameter) ?? [], gradient, allowed);
        }
      }
      arena.free();
    }
  });
});
