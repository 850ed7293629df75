// Mixed precision: the loss scale, a step that overflows, and gradients against float64.
import assert from "node:assert/strict";
import { AdapterError, CpuBackend, f16ToF32, f32ToF16 } from "../../engine/index.ts";
import { isLinearWeight } from "../../model/config.ts";
import { loadModel } from "../../model/index.ts";
import { type Example, supervisedStep, type TrainableModel } from "../../rl/index.ts";
import { expectPrecision, LossScale, openLossScale, raiseAfter, savedLossScale } from "../../rl/loss-scale.ts";
import { testBackends, webgpuBackend } from "../backends.ts";
import { sameBits } from "../engine/check-op.ts";
import { assertClose, describe, fixturePath, readFixture, throwsMessage } from "../support.ts";

interface Known {
  checkpoint: string;
  crossEntropy: { learningRate: number; batches: number[][][] };
}
const known = readFixture<Known>("training.json");

const optimiser = {
  learningRate: known.crossEntropy.learningRate,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  maxGradientNorm: 1,
};

/** The first batch: all tokens but the first of each sequence are learned. */
function batch(): Example[] {
  const [sequences] = known.crossEntropy.batches;
  const tokens = sequences.reduce((sum, ids) => sum + ids.length - 1, 0);
  return sequences.map((ids) => ({ ids, mask: ids.map((_, t) => (t === 0 ? 0 : 1)), tokenWeight: 1 / tokens }));
}

function step(model: TrainableModel, number: number, lossScale: LossScale | null) {
  return supervisedStep(model, batch(), { optimiser, maxTokens: 1000, step: number, lossScale });
}

describe("rl/loss-scale", (test) => {
  test("is raised after a row of good steps, lowered at once, and never below 1", () => {
    const scale = new LossScale({ scale: 4, goodSteps: 0, skipped: 0 });
    for (let i = 1; i < raiseAfter; i++) scale.stepTaken();
    assert.equal(scale.scale, 4);
    scale.stepTaken();
    assert.deepEqual(scale.state, { scale: 8, goodSteps: 0, skipped: 0 });
    scale.stepTaken();
    scale.stepSkipped();
    assert.deepEqual(scale.state, { scale: 4, goodSteps: 0, skipped: 1 });
    assert.equal(scale.countedStep(10), 9);
    for (let i = 0; i < 5; i++) scale.stepSkipped();
    assert.equal(scale.scale, 1);
    assert.equal(scale.canLower, false);
  });

  test("goes on from a saved state, and is absent in f32", () => {
    const scale = new LossScale();
    scale.stepSkipped();
    scale.stepTaken();
    assert.deepEqual(openLossScale("mixed", savedLossScale(scale))?.state, scale.state);
    assert.deepEqual(openLossScale("mixed", undefined)?.state, new LossScale().state);
    assert.equal(openLossScale("f32", savedLossScale(scale)), null);
    assert.deepEqual(savedLossScale(null), {});
  });

  test("mixed precision is refused on an adapter without f16", async () => {
    const opened = { backend: new CpuBackend(), adapter: null, fasterHint: null, hasHalf: false };
    expectPrecision("--train.precision", "f32", opened);
    expectPrecision("--train.precision", "mixed", { ...opened, hasHalf: true });
    await throwsMessage(
      () => expectPrecision("--train.precision", "mixed", opened),
      "--train.precision mixed: expected an adapter with f16",
      opened.backend.description,
      "--train.precision f32",
    );
    assert.throws(() => expectPrecision("--train.precision", "mixed", opened), AdapterError);
  });

  test("a gradient that overflows skips the step and lowers the scale; what follows is as if it had not been", async () => {
    const { backend } = await webgpuBackend();
    const options = { trainable: true, precision: "mixed" } as const;
    const model = await loadModel(backend, fixturePath(known.checkpoint), options);
    const before = await model.weights.read();
    // With a scale of 2¹⁰⁰ no gradient fits in f16; lowered by so much at a time that few steps are needed.
    let scale = new LossScale({ scale: 2 ** 100, goodSteps: 7, skipped: 0 });
    const first = await step(model, 1, scale);
    assert.equal(first.skipped, true);
    assert.deepEqual(scale.state, { scale: 2 ** 99, goodSteps: 0, skipped: 1 });
    for (const [name, values] of await model.weights.read())
      sameBits(`${name} after a skipped step`, values, before.get(name) ?? values);

    scale = new LossScale({ ...scale.state, scale: 1024 });
    const second = await step(model, 2, scale);
    assert.equal(second.skipped, false);
    assert.deepEqual(scale.state, { scale: 1024, goodSteps: 1, skipped: 1 });
    const other = await loadModel(backend, fixturePath(known.checkpoint), options);
    const plain = await step(other, 1, new LossScale({ scale: 1024, goodSteps: 0, skipped: 0 }));
    assert.equal(second.loss, plain.loss);
    assert.equal(second.gradientNorm, plain.gradientNorm);
    const expected = await other.weights.read();
    for (const [name, values] of await model.weights.read()) {
      sameBits(`${name} after the step`, values, expected.get(name) ?? values);
      if (before.get(name)?.every((value, i) => value === values[i])) assert.fail(`${name}: the step changed nothing`);
    }
    model.weights.free();
    other.weights.free();
  });

  test("gradients in mixed precision are as far from those in float64 as f16's rounding takes them", async () => {
    const truth = async (roundWeights: boolean) => {
      const model = await loadModel(new CpuBackend(), fixturePath(known.checkpoint), { trainable: true, dtype: "f64" });
      const { weights } = model;
      if (roundWeights)
        for (const [name, values] of await weights.read(weights.names.filter(isLinearWeight)))
          weights.load(
            name,
            values.map((value) => f16ToF32(f32ToF16(value))),
          );
      const outcome = await step(model, 1, null);
      return { ...outcome, gradients: await weights.read(weights.names, "gradients") };
    };
    const exact = await truth(false);
    // The yardstick: what rounding the linear layers' weights does to each gradient, all else in float64. In mixed precision
    // x and dy are rounded too: of three products the six operands, of which the weight is two, so √3 times as much; the
    // chance of single tensors is allowed for by twice that and a little more.
    const rounded = await truth(true);
    for (const { name: on, backend } of await testBackends()) {
      const model = await loadModel(backend, fixturePath(known.checkpoint), { trainable: true, precision: "mixed" });
      const found = await step(model, 1, new LossScale({ scale: 1024, goodSteps: 0, skipped: 0 }));
      // A sum over thousands of such errors of either sign.
      assertClose(`${on}: loss`, [found.loss], [exact.loss], { relative: 2e-3 });
      assertClose(`${on}: gradient norm`, [found.gradientNorm], [exact.gradientNorm], { relative: 2e-3 });
      for (const [name, values] of await model.weights.read(model.weights.names, "gradients")) {
        const expected = exact.gradients.get(name) ?? [];
        const error = distance(
          values.map((value) => value / 1024),
          expected,
        );
        const allowed = 4 * distance(rounded.gradients.get(name) ?? [], expected);
        assert.ok(error > 0, `${on}: ${name}: mixed precision should not be exact`);
        assert.ok(error <= allowed, `${on}: ${name}: off by ${error} (root mean square), allowed ${allowed}`);
      }
      model.weights.free();
    }
  });
});

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.equal(a.length, b.length);
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return Math.sqrt(sum / a.length);
}
