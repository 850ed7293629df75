// Several decode steps between two reads: the same bits as one step per read, in fewer reads; and how many there are.
import * as assert from "uvu/assert";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import { type Backend, type Parameter, tokenKey, type Warping, type Weights } from "../../engine/index.ts";
import { type Dialogue, type GenerateSettings, generate, loadModel, type Model } from "../../model/index.ts";
import { bestStepsPerRead, mostStepsPerRead, StepsPerRead } from "../../model/steps-per-read.ts";
import { testBackends, webgpuBackend } from "../backends.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";

/** Dialogues of three turns, whose prompts are shared by pairs; even and odd ones may have another policy. */
function makeDialogues(count: number, policies: number, expectedTokens: number, heard: string[]): Dialogue[] {
  return Array.from({ length: count }, (_, k) => ({
    policy: k % policies,
    prompt: Array.from({ length: 3 + (k >> 1) }, (_, i) => (7 * (k >> 1) + 31 * i) % 300),
    noise: { rollout: k, prompt: 7 },
    expectedTokens,
    answered: (answer) => {
      heard[k] = `${heard[k] ?? ""}${JSON.stringify(answer)}\n`;
      return answer.turn === 2 ? null : Array.from({ length: 1 + (k % 3) }, (_, i) => 11 * k + i);
    },
    sampled: (id) => {
      heard[k] = `${heard[k] ?? ""}${id} `;
    },
  }));
}

const settings: GenerateSettings = {
  maxNewTokens: 9,
  temperature: 1,
  noiseKey: tokenKey(1, "test", 0),
  stopIds: Array.from({ length: 40 }, (_, i) => 9 * i), // most answers end early, some are cut off
  maxRows: 5,
  maxTokens: 300,
};

interface Talk {
  heard: string[];
  reads: number;
  sampled: number;
}

async function talk(
  model: Model,
  other: Partial<GenerateSettings>,
  { count = 12, policies = 1, expectedTokens = 40 } = {},
): Promise<Talk> {
  const heard: string[] = [];
  let [reads, sampled] = [0, 0];
  const { backend } = model;
  const { read } = backend;
  backend.read = (ranges) => {
    reads++;
    return read.call(backend, ranges);
  };
  try {
    const onPass = (pass: { sampled: number }): void => {
      sampled += pass.sampled;
    };
    await generate(model, makeDialogues(count, policies, expectedTokens, heard), { ...settings, onPass, ...other });
  } finally {
    backend.read = read;
  }
  return { heard, reads, sampled };
}

/** Policy 1 has the values of another model of the same shapes. */
function slotsOf(one: Weights, other: Weights, shapes: (name: string) => readonly number[]): Weights {
  const tensors = (parameter: Parameter) => {
    if (parameter.kind !== "tensor") throw new Error("expected plain weights");
    return { rows: parameter.tensor, panels: parameter.panels };
  };
  return {
    dtype: "f32",
    isPerturbed: true,
    get: (name) => ({
      kind: "slots",
      shape: shapes(name),
      slots: new Map([
        [0, tensors(one.get(name))],
        [1, tensors(other.get(name))],
      ]),
    }),
  };
}

/** @param isTight  rows lack slots for several steps, so that reads may be as many */
async function expectSame(
  what: string,
  model: Model,
  other: Partial<GenerateSettings>,
  sizes = {},
  isTight = false,
): Promise<void> {
  const one = await talk(model, { ...other, stepsPerRead: 1 }, sizes);
  const turns = one.heard.join("").split("\n").length - 1;
  if (turns !== 3 * one.heard.length) throw new Error(`${what}: expected three answers each, got ${turns}`);
  for (const stepsPerRead of [2, 4, 8]) {
    const several = await talk(model, { ...other, stepsPerRead }, sizes);
    assert.equal(several.heard, one.heard, `${what}: ${stepsPerRead} steps per read`);
    assert.is(several.sampled, one.sampled, `${what}: ${stepsPerRead} steps per read: tokens that count`);
    if (!isTight && !(several.reads < one.reads))
      throw new Error(`${what}: ${stepsPerRead} steps per read: ${several.reads} reads, not fewer than ${one.reads}`);
  }
}

const plain: Warping = { topK: 0, topP: 1, repetitionPenalty: 1 };

describe("model/steps-per-read", (test) => {
  test("2, 4 and 8 steps per read: the bits of 1, with refills, turns, cut-off answers and shared prompts", async () => {
    for (const { name, backend } of await testBackends()) {
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const model = { backend, config, weights };
      const count = name.includes("segments") || backend.kind === "cpu" ? 5 : 12;
      await expectSame(name, model, { maxRows: backend.kind === "cpu" ? 2 : 5 }, { count });
      weights.free();
    }
  });

  test("greedy, top-k, top-p, a lower temperature: likewise", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    await expectSame("greedy", model, { temperature: 0 });
    await expectSame("top-k", model, { warping: { ...plain, topK: 20 } });
    await expectSame("top-p", model, { temperature: 0.7, warping: { ...plain, topP: 0.8 } });
    weights.free();
  });

  test("rows that have too few slots of the cache for all steps, outgrow them and are preempted: likewise", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    for (const expectedTokens of [3, 11, 17])
      await expectSame(
        `${expectedTokens} slots`,
        { backend, config, weights },
        {},
        { expectedTokens },
        expectedTokens < 11,
      );
    weights.free();
  });

  test("rows of two policies: likewise", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const { weights: other } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const moved = other.value("model.norm.weight");
    moved.write((await moved.read()).map((value, i) => value * (1 + (i % 3))));
    other.valuesChanged();
    const shapes = config.parameters();
    const perturbed = slotsOf(weights, other, (name) => shapes.get(name)?.shape ?? []);
    await expectSame("two policies", { backend, config, weights: perturbed }, {}, { policies: 2 });
    weights.free();
    other.free();
  });

  test("with a repetition penalty there is one step per read, whatever is asked for", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const warping = { ...plain, repetitionPenalty: 1.3 };
    const [one, eight] = [
      await talk({ backend, config, weights }, { warping, stepsPerRead: 1 }),
      await talk({ backend, config, weights }, { warping, stepsPerRead: 8 }),
    ];
    assert.equal(eight, one);
    weights.free();
  });

  test("an abort between two steps of one read takes effect there; nothing is left behind", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const before = backend.statistics().liveBuffers;
    const stop = new AbortController();
    let passes = 0;
    const onPass = (): void => void (++passes === 3 && stop.abort());
    const other = { stopIds: [], stepsPerRead: 8, signal: stop.signal, onPass };
    await throwsMessage(() => talk({ backend, config, weights }, other), "aborted");
    assert.is(passes, 3);
    assert.is(backend.statistics().liveBuffers, before);
    weights.free();
  });

  test("weights that give no numbers are refused at the step that finds it", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const norm = weights.value("model.norm.weight");
    norm.write((await norm.read()).fill(Number.NaN));
    weights.valuesChanged();
    await throwsMessage(() => talk({ backend, config, weights }, { stepsPerRead: 4 }), "logits are not numbers");
    weights.free();
  });

  test("a number that is none is refused", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    for (const stepsPerRead of [0, 1.5])
      await throwsMessage(
        () => talk({ backend, config, weights }, { stepsPerRead }),
        `stepsPerRead: expected a whole number from 1 on, got ${stepsPerRead}`,
      );
    weights.free();
  });

  test("the best number: √(2Lr/s), a power of two", () => {
    assert.is(bestStepsPerRead(4, 0.1, 16), 1); // lavapipe, the tiny model
    assert.is(bestStepsPerRead(1, 0.5, 24), 4); // √24
    assert.is(bestStepsPerRead(1, 0.5, 64), 8);
    assert.is(bestStepsPerRead(0.1, 1, 1000), mostStepsPerRead);
    assert.is(bestStepsPerRead(-1, 0, 10), 1);
  });

  test("it is measured on a GPU, follows the answers' length, and is 1 on software drivers", async () => {
    // A clock that only a read moves, so that no other work on the machine counts.
    let clockMs = 0;
    class Slow extends CpuBackend {
      override read(ranges: Parameters<Backend["read"]>[0]) {
        clockMs += 20;
        return super.read(ranges);
      }
    }
    const timedAt = (pace: StepsPerRead, steps: number, milliseconds: number): Promise<void> => {
      const { now } = performance;
      performance.now = () => clockMs;
      return pace.timed(steps, milliseconds).finally(() => {
        performance.now = now;
      });
    };
    const onGpu: Backend = Object.assign(new Slow(), { memory: "device" });
    const pace = new StepsPerRead(onGpu, undefined, 64);
    assert.is(pace.count, 1);
    await timedAt(pace, 1, 60); // a step of 40 ms, a read of 20: √(2 · 32 · 20 / 40) = 5.7
    assert.is(pace.count, 4);
    for (let i = 0; i < 50; i++) pace.ended(2);
    await timedAt(pace, 4, 180); // √(2 · 2 · 20 / 40) = 1.4
    assert.is(pace.count, 1);
    const onProcessor = new StepsPerRead(new Slow(), undefined, 64);
    await timedAt(onProcessor, 1, 60);
    assert.is(onProcessor.count, 1);
  });
});
