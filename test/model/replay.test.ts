// Decode steps that are replayed give the bits of decode steps that run: tokens, log-probabilities and entropies, whatever
// rows come and go. "Without" is the same device without its recorder.
import assert from "node:assert/strict";
import type { WorkRecorder } from "../../engine/backends/backend.ts";
import { type Backend, tokenKey } from "../../engine/index.ts";
import {
  type Dialogue,
  type GenerateSettings,
  generate,
  loadForInference,
  loadModel,
  type Model,
} from "../../model/index.ts";
import { testBackends, webgpuBackend } from "../backends.ts";
import { describe, fixturePath } from "../support.ts";
import { along, pointWeightsOf } from "./point-weights.ts";

interface Sizes {
  count?: number;
  policies?: number;
  expectedTokens?: number;
  /** What each answer will be, for drafts; null for none. */
  said?: readonly number[][] | null;
}

interface Talk {
  readonly heard: readonly string[];
  /** The tokens of each dialogue's first answer. */
  readonly answers: number[][];
  readonly replayed: number;
  readonly dispatches: number;
}

const settings: GenerateSettings = {
  maxNewTokens: 12,
  temperature: 1,
  noiseKey: tokenKey(1, "test", 0),
  stopIds: Array.from({ length: 30 }, (_, i) => 11 * i), // most answers end early, some are cut off
  maxRows: 5,
  maxTokens: 300,
};

function dialoguesOf({ count = 12, policies = 1, expectedTokens = 50, said = null }: Sizes) {
  const heard: string[] = [];
  const answers: number[][] = [];
  const dialogues = Array.from({ length: count }, (_, k): Dialogue => {
    heard[k] = "";
    return {
      policy: k % policies,
      prompt: Array.from({ length: 3 + (k >> 1) }, (__, i) => (7 * (k >> 1) + 31 * i) % 300),
      noise: { rollout: k, prompt: 7 },
      expectedTokens,
      answered: (answer) => {
        heard[k] += `${JSON.stringify(answer)}\n`;
        answers[k] ??= [...answer.ids];
        return answer.turn === 1 ? null : Array.from({ length: 1 + (k % 3) }, (__, i) => 11 * k + i);
      },
      draft: (turn, answer) =>
        said === null || turn > 0 || k % 2 > 0 ? null : said[k].slice(answer.length, answer.length + 2),
    };
  });
  return { heard, answers, dialogues };
}

/** Runs dialogues, and counts replayed steps. */
async function talk(model: Model, isReplayed: boolean, other: Partial<GenerateSettings>, sizes: Sizes): Promise<Talk> {
  const { heard, answers, dialogues } = dialoguesOf(sizes);
  const backend: Backend & { recorder?: WorkRecorder } = model.backend;
  const { recorder } = backend;
  assert.ok(recorder !== undefined);
  let replayed = 0;
  const counting: WorkRecorder = {
    ...recorder,
    replay: (work) => {
      const isDone = recorder.replay(work);
      if (isDone) replayed++;
      return isDone;
    },
  };
  Object.assign(backend, { recorder: isReplayed ? counting : undefined });
  const before = backend.statistics();
  try {
    await generate(model, dialogues, { ...settings, ...other });
  } finally {
    Object.assign(backend, { recorder });
  }
  const after = backend.statistics();
  // Slots keep tables of the rows that they met.
  if (!model.weights.isPerturbed) assert.equal(after.liveBuffers, before.liveBuffers);
  return { heard, answers, replayed, dispatches: after.dispatches - before.dispatches };
}

/** @param least  replayed steps, at least */
async function expectSame(
  what: string,
  model: Model,
  other: Partial<GenerateSettings> = {},
  sizes: Sizes = {},
  least = 10,
): Promise<Talk> {
  const ran = await talk(model, false, other, sizes);
  const replayed = await talk(model, true, other, sizes);
  assert.deepEqual(replayed.heard, ran.heard, what);
  assert.equal(replayed.dispatches, ran.dispatches, `${what}: dispatches`);
  assert.equal(ran.replayed, 0);
  assert.ok(replayed.replayed >= least, `${what}: ${replayed.replayed} steps were replayed`);
  return ran;
}

const plain = { topK: 0, topP: 1, repetitionPenalty: 1 };

describe("model/replay", (test) => {
  test("rows that end at different times, refills, turns: the same bits and dispatches, with whole buffers and segments", async () => {
    for (const { name, backend } of await testBackends()) {
      if (backend.recorder === undefined) continue;
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const count = name.includes("segments") ? 5 : 12;
      for (const stepsPerRead of [1, 4])
        await expectSame(
          `${name}, ${stepsPerRead} steps per read`,
          { backend, config, weights },
          { stepsPerRead },
          { count },
        );
      weights.free();
    }
  });

  for (const [name, other] of Object.entries<Partial<GenerateSettings>>({
    greedy: { temperature: 0 },
    "temperature 0.7 and top-p": { temperature: 0.7, warping: { ...plain, topP: 0.8 } },
    "top-k": { warping: { ...plain, topK: 20 } },
    "a repetition penalty, whose seen ids change with each token": { warping: { ...plain, repetitionPenalty: 1.5 } },
    "one row at a time": { maxRows: 1 },
  }))
    test(`${name}: likewise`, async () => {
      const { backend } = await webgpuBackend();
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      await expectSame(name, { backend, config, weights }, other);
      weights.free();
    });

  test("drafts between decode steps; rows that outgrow their slots and are preempted: likewise", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const { answers } = await expectSame("without drafts", model);
    await expectSame("drafts", model, {}, { said: answers }, 5);
    for (const expectedTokens of [3, 11]) await expectSame(`${expectedTokens} slots`, model, {}, { expectedTokens }, 5);
    weights.free();
  });

  test("weights in f16: likewise", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadForInference(backend, fixturePath("qwen2-tiny"), "f16");
    await expectSame("f16", { backend, config, weights });
    weights.free();
  });

  test("several points, in slots and made a tile at a time; points that move while rows are under way: likewise", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights: arena } = await loadModel(backend, fixturePath("qwen2-tiny"));
    for (const [name, make] of Object.entries(pointWeightsOf(arena))) {
      const weights = make();
      const model = { backend, config, weights };
      const place = (amount: number): void => weights.placeAlong([amount, -amount, 2 * amount].map(along));
      for (const policies of [1, 3]) {
        place(0.02);
        await expectSame(`${name}, ${policies} points`, model, {}, { policies });
      }
      // After some passes one point moves, and later all of them.
      const moving = async (isReplayed: boolean): Promise<Talk> => {
        place(0.02);
        let passes = 0;
        const between = async (): Promise<boolean> => {
          passes++;
          if (passes === 12) weights.replace(1, along(0.3));
          if (passes === 20) place(0.1);
          return true;
        };
        return talk(model, isReplayed, { between }, { policies: 3 });
      };
      const ran = await moving(false);
      assert.deepEqual((await moving(true)).heard, ran.heard, `${name}: points that move`);
      place(0.02);
      assert.notDeepEqual((await talk(model, false, {}, { policies: 3 })).heard, ran.heard, name);
      weights.free();
    }
    arena.free();
  });

  test("weights that change between two generations, and within one: the new ones are used", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const [name] = weights.names.filter((one) => one.includes("down_proj"));
    const original = (await weights.read([name])).get(name) ?? new Float32Array();
    const before = await expectSame("before", model);
    weights.load(
      name,
      original.map((value, i) => value + 0.2 * ((i % 3) - 1)),
    );
    weights.refreshCopies();
    const after = await expectSame("after", model);
    assert.notDeepEqual(after.heard, before.heard);
    const changing = async (isReplayed: boolean): Promise<Talk> => {
      weights.load(name, original);
      let passes = 0;
      const between = async (): Promise<boolean> => {
        if (++passes === 14)
          weights.load(
            name,
            original.map((value) => -value),
          );
        return true;
      };
      return talk(model, isReplayed, { between }, {});
    };
    const ran = await changing(false);
    assert.notDeepEqual(ran.heard, before.heard);
    assert.deepEqual((await changing(true)).heard, ran.heard);
    weights.free();
  });

  test("two generations that take turns on one device: the bits of each alone", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const alone = await talk(model, false, {}, {});
    const [one, other] = [dialoguesOf({}), dialoguesOf({})];
    await Promise.all([
      generate(model, one.dialogues, settings),
      generate(model, other.dialogues, { ...settings, maxRows: 3 }),
    ]);
    assert.deepEqual(one.heard, alone.heard);
    assert.deepEqual(other.heard, alone.heard);
    weights.free();
  });
});
