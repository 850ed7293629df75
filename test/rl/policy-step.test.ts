// What a GRPO step does beyond the loss itself, which engine/ops/loss/surrogate.test.ts proves: the KL penalty's reference,
// the two kinds of loss, and steps whose advantages are all zero.
import * as assert from "uvu/assert";
import { adamwStep, type Backend, fromArray, record, scope, surrogate } from "../../engine/index.ts";
import { answerScores, loadModel, microBatches, score, scoredPositions } from "../../model/index.ts";
import { type PolicyExample, type PolicyLoss, policyStep, type TrainableModel } from "../../rl/index.ts";
import type { StepOutcome } from "../../rl/learn.ts";
import { stepMetrics } from "../../rl/step-metrics.ts";
import { reference as plainBackend, testBackends } from "../backends.ts";
import { sameBits } from "../engine/check-op.ts";
import { assertClose, assertKnown, describe, fixturePath, readFixture, throwsMessage } from "../support.ts";
import { rollout } from "./measured-step.ts";

interface Known {
  checkpoint: string;
  grpo: { sequences: { ids: number[]; mask: number[]; samplerLogProbs: number[]; advantage: number }[] };
}
const { checkpoint, grpo } = readFixture<Known>("training.json");

const clipped: PolicyLoss = {
  kind: "clipped",
  clipLow: 0.2,
  clipHigh: 0.2,
  ratioLow: 0.125,
  ratioHigh: 8,
  klCoefficient: 0,
};
const optimiser = { learningRate: 1e-3, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, maxGradientNorm: 1 };
/** Several micro-batches. */
const maxTokens = 45;

function examplesWith(advantageOf: (i: number, given: number) => number): PolicyExample[] {
  return grpo.sequences.map(({ ids, mask, samplerLogProbs, advantage }, i) => ({
    ids,
    mask,
    logProbs: samplerLogProbs,
    advantage: advantageOf(i, advantage),
    tokenWeight: 0.01 * (i + 1),
  }));
}

async function open(backend: Backend, dtype: "f32" | "f64" = "f32"): Promise<TrainableModel> {
  const { config, weights } = await loadModel(backend, fixturePath(checkpoint), { trainable: true, dtype });
  return { backend, config, weights };
}

/** A step with every micro-batch's backward pass, whatever its advantages are. */
async function wholeStep(model: TrainableModel, examples: readonly PolicyExample[], step: number): Promise<void> {
  const { weights: arena, backend } = model;
  arena.clearGradients();
  for (const part of microBatches(examples, maxTokens))
    scope(() => {
      const values = (value: (example: PolicyExample, t: number) => number) => {
        const all = part.flatMap((example) => scoredPositions(example).map((t) => value(example, t)));
        return fromArray(backend, all, [all.length], arena.dtype);
      };
      const recording = record(() => {
        const { logProbs } = answerScores(model, part, { temperature: 1 });
        const oldLogProbs = values((example, t) => example.logProbs[t]);
        const advantages = values(({ advantage }) => advantage);
        const weights = values(({ tokenWeight }) => tokenWeight);
        return surrogate(logProbs, oldLogProbs, advantages, weights, null, clipped).loss;
      });
      const { result } = recording;
      recording.backward(new Map([[result, fromArray(backend, [1], [1], arena.dtype)]]), arena.gradients);
    });
  await adamwStep(arena, { ...optimiser, step }).result();
}

/** Names of the kernels that `body` runs. */
async function kernelsOf(backend: Backend, body: () => Promise<unknown>): Promise<string[]> {
  const { dispatch } = backend;
  const names: string[] = [];
  backend.dispatch = (work) => {
    names.push(work.kernel.name);
    dispatch.call(backend, work);
  };
  try {
    await body();
  } finally {
    Object.assign(backend, { dispatch });
  }
  return names;
}

/** How tensors are cut into segments is the matter of the ops' own tests: one backend that cuts them is enough. */
const backends = async () => (await testBackends()).slice(0, 3);

const isBackward = (name: string): boolean => /backward/i.test(name);

describe("rl/policy step", (test) => {
  const take = (model: TrainableModel, examples: readonly PolicyExample[], step: number, loss = clipped) =>
    policyStep(model, examples, { optimiser, maxTokens, step, loss });

  test("advantages of zero, for all or some sequences: the same weights and moments, to the bit, as with the whole backward pass", async () => {
    const half = grpo.sequences.length / 2;
    const usual = examplesWith((_, given) => given);
    const steps: [string, PolicyExample[]][] = [
      // Moments that are not zero first, and a usual step last.
      ["as usual", usual],
      ["all zero", examplesWith(() => 0)],
      ["zero in the first half", examplesWith((i, given) => (i < half ? 0 : given))],
      ["zero in the second half", examplesWith((i, given) => (i < half ? given : 0))],
      ["as usual again", usual],
    ];
    for (const { name, backend } of await backends()) {
      const skipping = await open(backend);
      const whole = await open(backend);
      for (const [step, [what, examples]] of steps.entries()) {
        await take(skipping, examples, step + 1);
        await wholeStep(whole, examples, step + 1);
        const expected = await whole.weights.readState();
        for (const [key, { data }] of await skipping.weights.readState())
          sameBits(`${name}: ${what}: ${key}`, data, expected.get(key)?.data ?? new Float32Array());
      }
      skipping.weights.free();
      whole.weights.free();
    }
  });

  test("a step without advantages runs no backward kernel, and one with them does", async () => {
    const [{ backend }] = await backends();
    const model = await open(backend);
    const usual = await kernelsOf(backend, () =>
      take(
        model,
        examplesWith((_, given) => given),
        1,
      ),
    );
    assert.ok(usual.some(isBackward));
    let outcome: Awaited<ReturnType<typeof take>> | undefined;
    const silent = await kernelsOf(backend, async () => {
      outcome = await take(
        model,
        examplesWith(() => 0),
        2,
      );
    });
    assert.equal(silent.filter(isBackward), []);
    assert.is(outcome?.gradientNorm, 0);
    assert.is(Math.abs(outcome?.loss ?? 1), 0);
    // The metrics are there all the same.
    assert.ok((outcome?.entropy.length ?? 0) > 0 && outcome?.entropy.length === outcome?.ratio.length);
    model.weights.free();
  });

  test("a step without advantages is AdamW's decay: p · (1 − lr · weightDecay) while the moments are zero", async () => {
    const model = await open(plainBackend, "f64");
    const before = await model.weights.read();
    await take(
      model,
      examplesWith(() => 0),
      1,
    );
    const factor = 1 - optimiser.learningRate * optimiser.weightDecay;
    for (const [name, values] of await model.weights.read())
      assertClose(
        name,
        values,
        (before.get(name) ?? new Float32Array()).map((v) => v * factor),
        { relative: 2e-7 },
      );
    model.weights.free();
  });

  test("a KL penalty: loss and k3 from the reference's log-probabilities, also where advantages are zero", async () => {
    for (const { name, backend, dtype, tolerance } of [
      { name: "plain f64", backend: plainBackend, dtype: "f64" as const, tolerance: { relative: 1e-9 } },
      ...(await backends()).map((one) => ({ ...one, dtype: "f32" as const, tolerance: { absolute: 1e-5 } })),
    ]) {
      const model = await open(backend, dtype);
      const plain = examplesWith(() => 0);
      // A reference that differs from token to token, so that a wrong order would show.
      const examples = plain.map((example) => ({
        ...example,
        referenceLogProbs: scoredPositions(example).map((t, i) => example.logProbs[t] + 0.3 * Math.sin(i)),
      }));
      const loss = { ...clipped, klCoefficient: 0.1 };
      const outcome = await take(model, examples, 1, loss);
      const differences = examples
        .flatMap(({ referenceLogProbs }) => referenceLogProbs)
        .map((logProb, i) => logProb - outcome.logProbs[i]);
      const k3 = differences.map((d) => Math.expm1(d) - d);
      const weights = examples.flatMap((example) => scoredPositions(example).map(() => example.tokenWeight));
      assertClose(`${name}: k3`, outcome.penalty, k3, tolerance);
      const expected = 0.1 * k3.reduce((sum, value, i) => sum + weights[i] * value, 0);
      assertClose(`${name}: loss`, [outcome.loss], [expected], tolerance);
      assert.ok(outcome.gradientNorm > 0, name);
      model.weights.free();
    }
  });

  test("entropy, kl and clip ratios are means over all tokens: the same bits however a step is cut into micro-batches", async () => {
    const examples = grpo.sequences.map(({ ids, mask, samplerLogProbs, advantage }) => {
      const example = { ids, mask, logProbs: samplerLogProbs, advantage, tokenWeight: 0.01 };
      return {
        ...example,
        referenceLogProbs: scoredPositions(example).map((t) => samplerLogProbs[t] + 0.3 * Math.sin(t)),
      };
    });
    const loss = { ...clipped, klCoefficient: 0.1, clipLow: 0.002, clipHigh: 0.002 };
    const settings = { ...loss, ratioCap: 0, importanceLevel: "token" as const, loss: loss.kind };
    const names = ["entropy", "kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"];
    /** The metrics of some of the examples, with the tokens `from` to `to` of the step's outcome. */
    const metricsOf = (part: typeof examples, outcome: StepOutcome, from = 0, to = outcome.entropy.length) => {
      const of = (values: number[]) => values.slice(from, to);
      const { logProbs, entropy, ratio, penalty } = outcome;
      const metrics = stepMetrics({
        groups: [
          part.map((example) => rollout(example.advantage, { ...example, tokens: scoredPositions(example).length })),
        ],
        advantages: part.map(({ advantage }) => advantage),
        outcomes: [
          { ...outcome, logProbs: of(logProbs), entropy: of(entropy), ratio: of(ratio), penalty: of(penalty) },
        ],
        learningRate: 0,
        settings,
      });
      return names.map((name) => metrics[name]);
    };
    for (const { name, backend } of await backends()) {
      const outcomes: StepOutcome[] = [];
      for (const most of [1000, 45, 1]) {
        const model = await open(backend);
        outcomes.push(await policyStep(model, examples, { optimiser, maxTokens: most, step: 1, loss }));
        model.weights.free();
      }
      const [whole, ...cut] = outcomes.map((outcome) => metricsOf(examples, outcome));
      for (const metrics of cut) assert.equal(metrics, whole, name);
      // Means of the sequences' means, as micro-batches of one sequence would give, are others.
      let from = 0;
      const perSequence = examples.map((example) => {
        const to = from + scoredPositions(example).length;
        const metrics = metricsOf([example], outcomes[0], from, to);
        from = to;
        return metrics;
      });
      for (const [i, metric] of names.entries()) {
        const meanOfMeans = perSequence.reduce((sum, metrics) => sum + metrics[i] / examples.length, 0);
        assert.ok(
          whole[i] > 0 && Math.abs(meanOfMeans / whole[i] - 1) > 1e-3,
          `${name}: ${metric}: ${whole[i]}, ${meanOfMeans}`,
        );
      }
    }
  });

  test("the starting model as its own reference: k3 is exactly 0 before the first update, and not after it", async () => {
    for (const { name, backend } of await backends()) {
      const model = await open(backend);
      const { config, weights } = await loadModel(backend, fixturePath(checkpoint));
      const usual = examplesWith((_, given) => given);
      // Other micro-batches than training's: the bits of a log-probability do not depend on them.
      const scores = await score({ backend, config, weights }, usual, { temperature: 1, maxTokens: 1000 });
      const examples = usual.map((example, i) => ({ ...example, referenceLogProbs: scores[i].logProbs }));
      const first = await take(model, examples, 1, { ...clipped, klCoefficient: 0.1 });
      assert.ok(first.penalty.length > 0 && first.penalty.every((value) => value === 0), name);
      const second = await take(model, examples, 2, { ...clipped, klCoefficient: 0.1 });
      assert.ok(
        second.penalty.some((value) => value > 0),
        name,
      );
      model.weights.free();
      weights.free();
    }
  });

  test("the masked importance loss is ρ · A · log p, without tokens outside the bounds", async () => {
    const model = await open(plainBackend, "f64");
    const examples = examplesWith((_, given) => given);
    const loss: PolicyLoss = { ...clipped, kind: "masked-importance", ratioLow: 0.99, ratioHigh: 1.01 };
    const outcome = await take(model, examples, 1, loss);
    const tokens = examples.flatMap((example) => scoredPositions(example).map(() => example));
    const expected = tokens.reduce((sum, { tokenWeight, advantage }, i) => {
      const ratio = outcome.ratio[i];
      return ratio < 0.99 || ratio > 1.01 ? sum : sum - tokenWeight * ratio * advantage * outcome.logProbs[i];
    }, 0);
    assert.ok(
      outcome.ratio.some((ratio) => ratio < 0.99 || ratio > 1.01),
      "no token is dropped",
    );
    assertClose("loss", [outcome.loss], [expected], { relative: 1e-9 });
    model.weights.free();
  });

  test("where ratios are 1 both kinds of loss take the same step", async () => {
    const states = [];
    for (const kind of ["clipped", "masked-importance"] as const) {
      const model = await open(plainBackend, "f64");
      const { backend, config, weights } = model;
      const usual = examplesWith((_, given) => given);
      const scores = await score({ backend, config, weights }, usual, { temperature: 1, maxTokens });
      const examples = usual.map((example, i) => {
        const positions = scoredPositions(example);
        return {
          ...example,
          logProbs: Array.from(example.ids, (_, t) => scores[i].logProbs[positions.indexOf(t)] ?? 0),
        };
      });
      await take(model, examples, 1, { ...clipped, kind });
      states.push(await weights.read());
      weights.free();
    }
    // Scores are kept in f32, so ratios are 1 to 1e-6; Adam's first step is lr times a sign.
    for (const [name, values] of states[0]) assertClose(name, values, states[1].get(name) ?? [], { absolute: 1e-6 });
  });

  test("at a temperature: log-probabilities and entropies of PyTorch, and ratios of 1 to a sampler of that temperature", async () => {
    const name = "qwen2-tiny";
    const { sequences, temperature } = readFixture<{
      temperature: number;
      sequences: { ids: number[]; logProbsAtTemperature: number[]; entropyAtTemperature: number[] }[];
    }>(`${name}.json`);
    assert.ok(temperature !== 1);
    const examples: PolicyExample[] = sequences.map(({ ids, logProbsAtTemperature }, i) => ({
      ids,
      logProbs: [0, ...logProbsAtTemperature],
      advantage: i % 2 === 0 ? 1 : -0.5,
      tokenWeight: 0.01,
    }));
    for (const { name: on, backend, dtype, tolerance } of [
      { name: "plain f64", backend: plainBackend, dtype: "f64" as const, tolerance: { absolute: 1e-9 } },
      ...(await backends()).map((one) => ({ ...one, dtype: "f32" as const, tolerance: { absolute: 1e-4 } })),
    ]) {
      const { config, weights } = await loadModel(backend, fixturePath(name), { trainable: true, dtype });
      const outcome = await policyStep({ backend, config, weights }, examples, {
        ...{ optimiser: { ...optimiser, learningRate: 0 }, maxTokens, step: 1, loss: clipped, temperature },
      });
      const logProbs = sequences.flatMap((one) => one.logProbsAtTemperature);
      const entropies = sequences.flatMap((one) => one.entropyAtTemperature.slice(0, -1));
      const compare = (what: string, found: number[], truth: number[]) =>
        assertKnown(`${name}.json`, `policy step at a temperature: ${what}`, on, found, truth, tolerance);
      compare("logProbs", outcome.logProbs, logProbs);
      compare("entropy", outcome.entropy, entropies);
      assertClose(
        `${on}: ratio`,
        outcome.ratio,
        logProbs.map(() => 1),
        { absolute: 2 * tolerance.absolute },
      );
      weights.free();
    }
  });

  test("refuses a KL coefficient without reference", async () => {
    const model = await open(plainBackend);
    await throwsMessage(
      () =>
        take(
          model,
          examplesWith((_, given) => given),
          1,
          { ...clipped, klCoefficient: 0.1 },
        ),
      "referenceLogProbs",
    );
    model.weights.free();
  });
});
