// How steps use the device: nothing is read before all work is given, many dispatches share a submission, a step that runs
// again finds its pipelines and bind groups. And a number that is none ends in an error that names step and tensor.
import * as assert from "uvu/assert";
import type { WorkRecorder } from "../../engine/backends/backend.ts";
import { type Backend, NumericalError, tokenKey } from "../../engine/index.ts";
import { type Dialogue, generate, loadModel } from "../../model/index.ts";
import { type Example, type PolicyLoss, policyStep, supervisedStep, type TrainableModel } from "../../rl/index.ts";
import { webgpuBackend } from "../backends.ts";
import { describe, fixturePath, readFixture, throwsMessage } from "../support.ts";

interface Known {
  checkpoint: string;
  crossEntropy: { batches: number[][][] };
}
const { checkpoint, crossEntropy } = readFixture<Known>("training.json");
const batch = crossEntropy.batches[0];
const examples: Example[] = batch.map((ids) => ({ ids, tokenWeight: 0.01 }));
const clipped: PolicyLoss = {
  kind: "clipped",
  clipLow: 0.2,
  clipHigh: 0.28,
  ratioLow: 0.125,
  ratioHigh: 8,
  klCoefficient: 0,
};
const optimiser = { learningRate: 1e-3, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 };

/** What `body` does with the backend, in order, one letter each: d for a dispatch, replayed ones too, r for a read or wait. */
async function traceOf(
  backend: Backend,
  body: () => Promise<unknown>,
): Promise<{ calls: string; submissions: number }> {
  const { dispatch, read, idle, recorder } = backend;
  const { submissions } = backend.statistics();
  let calls = "";
  backend.dispatch = (work) => {
    calls += "d";
    dispatch.call(backend, work);
  };
  backend.read = (ranges) => {
    calls += "r";
    return read.call(backend, ranges);
  };
  backend.idle = () => {
    calls += "r";
    return idle.call(backend);
  };
  const replay: WorkRecorder["replay"] = (work) => {
    const isDone = recorder?.replay(work) ?? false;
    if (isDone) calls += "d".repeat(work.dispatches);
    return isDone;
  };
  Object.assign(backend, { recorder: recorder && { ...recorder, replay } });
  try {
    await body();
  } finally {
    Object.assign(backend, { dispatch, read, idle, recorder });
  }
  return { calls, submissions: backend.statistics().submissions - submissions };
}

async function openModel(): Promise<TrainableModel> {
  const { backend } = await webgpuBackend();
  const { config, weights } = await loadModel(backend, fixturePath(checkpoint), { trainable: true });
  return { backend, config, weights };
}

describe("rl/device work", (test) => {
  const policy = examples.map((one) => ({ ...one, advantage: 1, logProbs: Array.from(one.ids, () => -3) }));
  const longest = Math.max(...batch.map((ids) => ids.length));
  const steps: Record<string, (model: TrainableModel, step: number) => Promise<unknown>> = {
    supervised: (model, step) => supervisedStep(model, examples, { optimiser, maxTokens: 2 * longest, step }),
    policy: (model, step) => policyStep(model, policy, { optimiser, maxTokens: 2 * longest, step, loss: clipped }),
  };
  for (const [name, take] of Object.entries(steps))
    test(`a ${name} step reads when all its work is given, in few submissions, and the next one finds all that was made`, async () => {
      const model = await openModel();
      const { backend } = model;
      await take(model, 1);
      await take(model, 2);
      const before = backend.statistics();
      const { calls, submissions } = await traceOf(backend, () => take(model, 3));
      assert.match(calls, /^d{100,}r{1,2}$/);
      assert.ok(submissions <= 2 * examples.length + 2, `${submissions} submissions of ${calls.length} dispatches`);
      const { pipelines, bindGroups, liveBuffers, liveBytes, pooledBytes } = backend.statistics();
      assert.equal(
        { pipelines, bindGroups, liveBuffers, liveBytes, pooledBytes },
        {
          pipelines: before.pipelines,
          bindGroups: before.bindGroups,
          liveBuffers: before.liveBuffers,
          liveBytes: before.liveBytes,
          pooledBytes: before.pooledBytes,
        },
      );
      model.weights.free();
    });

  test("a decode step reads its samples and nothing else, in one submission", async () => {
    const model = await openModel();
    const dialogues: Dialogue[] = batch.map((prompt, rollout) => ({
      ...{ policy: 0, prompt: prompt.slice(0, 3), noise: { rollout, prompt: 1 }, expectedTokens: 12 },
      answered: () => null,
    }));
    let passes = 0;
    const settings = {
      ...{ maxNewTokens: 12, temperature: 1, noiseKey: tokenKey(1, "device", 0), stopIds: [] },
      ...{ maxRows: dialogues.length, maxTokens: 1000, onPass: () => passes++ },
    };
    const { calls, submissions } = await traceOf(model.backend, () => generate(model, dialogues, settings));
    assert.is(passes, 12);
    assert.match(calls, new RegExp(`^d*(d{10,}r){${passes}}$`));
    assert.is(submissions, passes);
    model.weights.free();
  });

  test("a gradient that is no number: the error names step and tensor, and the weights stay as they were", async () => {
    const model = await openModel();
    const before = await model.weights.read();
    const spoilt = [{ ...examples[0], tokenWeight: Number.NaN }, ...examples.slice(1)];
    const error = await throwsMessage(
      () => supervisedStep(model, spoilt, { optimiser, maxTokens: 1000, step: 7 }),
      "step 7: ",
      "is not a finite number",
      "learningRate",
    );
    assert.instance(error, NumericalError);
    const name = /the gradient of (\S+) is/.exec(error.message)?.[1] ?? "";
    assert.ok(model.weights.names.includes(name), error.message);
    for (const [key, values] of await model.weights.read()) assert.equal(values, before.get(key));
    model.weights.free();
  });
});
