// Two lanes share one queue of dialogues: the same bits as one, nothing is lost when one fails, and nobody waits for ever.
import * as assert from "uvu/assert";
import { tokenKey } from "../../engine/index.ts";
import { openBackend } from "../../engine/open.ts";
import type { Dialogue } from "../../model/dialogue.ts";
import type { GenerateSettings, Model } from "../../model/generate-settings.ts";
import { generate } from "../../model/generation.ts";
import { rowsOfLanes } from "../../model/lanes.ts";
import { emptyModel, planMemory, rehearseGeneration } from "../../model/plan.ts";
import { loadModel } from "../../model/weights.ts";
import { webgpuBackend } from "../backends.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";

const folder = fixturePath("qwen2-tiny");
const count = 210;
const settings = {
  ...{ maxNewTokens: 6, temperature: 1, noiseKey: tokenKey(1, "test", 0), stopIds: [1, 5, 17], maxTokens: 300 },
};

/** Prompts of a few lengths, of which two dialogues share one each. @param said  gets the answers */
function dialoguesOf(vocabulary: number, said: Map<number, string>, all = count): Dialogue[] {
  return Array.from({ length: all }, (_, k) => {
    const group = Math.floor(k / 2);
    return {
      ...{ policy: 0, noise: { rollout: k, prompt: 3 }, expectedTokens: 8 },
      prompt: Array.from({ length: 2 + (group % 5) }, (__, t) => (13 * group + 7 * t) % vocabulary),
      answered: ({ ids, logProbs }) => {
        said.set(k, `${ids.join()} ${[...new Float32Array(logProbs)].join()}`);
        return null;
      },
    };
  });
}

/** The answers, and the lanes that passes belonged to. */
async function talk(
  model: Model,
  maxRows: number,
  other: Partial<GenerateSettings> = {},
): Promise<{ said: Map<number, string>; lanes: Set<number> }> {
  const said = new Map<number, string>();
  const lanes = new Set<number>();
  await generate(model, dialoguesOf(model.config.vocabSize, said), {
    ...{ ...settings, maxRows, onPass: ({ lane }) => void lanes.add(lane) },
    ...other,
  });
  return { said, lanes };
}

describe("model/lanes", (test) => {
  test("a large batch on a software driver has two lanes; a small one and a GPU one", () => {
    assert.equal(rowsOfLanes({ memory: "host" }, 191), [191]);
    assert.equal(rowsOfLanes({ memory: "host" }, 192), [96, 96]);
    assert.equal(rowsOfLanes({ memory: "host" }, 257), [129, 128]);
    assert.equal(rowsOfLanes({ memory: "device" }, 512), [512]);
  });

  test("two lanes say what one says, to the bit, with places for all and for a part of the dialogues", async () => {
    const { backend } = await webgpuBackend();
    const model = await loadModel(backend, folder);
    const one = await talk(model, 9);
    assert.equal([...one.lanes], [0]);
    assert.is(one.said.size, count);
    for (const maxRows of [count, 194]) {
      const two = await talk(model, maxRows);
      assert.equal([...two.lanes].sort(), backend.memory === "host" ? [0, 1] : [0]);
      assert.equal([...two.said].sort(), [...one.said].sort());
    }
    model.weights.free();
  });

  test("an error in one lane ends both, is thrown, and leaves nothing on the device", async () => {
    const { backend } = await webgpuBackend();
    const model = await loadModel(backend, folder);
    await backend.idle();
    const before = backend.statistics().liveBuffers;
    let answers = 0;
    // All answers have full length, so the first ones of both lanes end at about the same time.
    const dialogues = dialoguesOf(model.config.vocabSize, new Map(), 400).map((dialogue, k) => ({
      ...dialogue,
      answered: () => {
        answers++;
        if (k === 3) throw new Error("no more of this");
        return null;
      },
    }));
    await throwsMessage(
      () => generate(model, dialogues, { ...settings, stopIds: [], maxRows: 192 }),
      "no more of this",
    );
    assert.ok(answers <= 4 + 96, `${answers} answers: the other lane went on`);
    assert.is(backend.statistics().liveBuffers, before);
    model.weights.free();
  });

  test("a lane without dialogues waits for what the other one brings; idle is told only when both have none", async () => {
    const { backend } = await webgpuBackend();
    const model = await loadModel(backend, folder);
    const said = new Map<number, string>();
    const all = dialoguesOf(model.config.vocabSize, said, 240);
    const perBatch = 60;
    let released = perBatch;
    let begun = 0;
    let idle = 0;
    // The next sixty come when all of those before have ended, and only `between` lets them come.
    const dialogues = function* (): Iterable<Dialogue | null> {
      while (begun < all.length) yield begun < released ? all[begun++] : null;
    };
    await generate(model, dialogues(), {
      ...{ ...settings, maxRows: 200, bounds: { count: 240, expectedTokens: 8, promptLengths: [6, 6, 6] } },
      between: async (isIdle) => {
        if (!isIdle) return false;
        idle++;
        assert.is(said.size, begun, "idle, with dialogues under way");
        released += perBatch;
        await new Promise((resolve) => setTimeout(resolve, 5));
        return true;
      },
    });
    assert.is(said.size, 240);
    assert.is(idle, 3);
    model.weights.free();
  });

  test("dialogues that never come are an error in both lanes", async () => {
    const { backend } = await webgpuBackend();
    const model = await loadModel(backend, folder);
    const never = function* (): Iterable<Dialogue | null> {
      for (;;) yield null;
    };
    await throwsMessage(
      () =>
        generate(model, never(), {
          ...settings,
          maxRows: 200,
          bounds: { count: 200, expectedTokens: 8, promptLengths: [6] },
        }),
      "no dialogue is under way, and none comes",
    );
    model.weights.free();
  });

  test("the plan knows both lanes", async () => {
    const { backend } = await openBackend({ backend: "webgpu" });
    const { config } = await loadModel(backend, folder);
    backend.destroy();
    const own = (await openBackend({ backend: "webgpu" })).backend;
    // Of one length: with others the plan takes the longest first, which end in one lane.
    const dialogues = dialoguesOf(config.vocabSize, new Map()).map((dialogue, k) => ({
      ...dialogue,
      prompt: [1, 2, 3, 4, 5, k >> 1],
    }));
    const sizes = { maxRows: count, maxTokens: 300, temperature: 1 };
    const { deviceBytes } = await planMemory(own, (planning) =>
      rehearseGeneration(emptyModel(planning, config), dialogues, sizes),
    );
    await generate(await loadModel(own, folder), dialogues, { ...settings, ...sizes });
    const used = own.statistics().peakBytes;
    assert.ok(Math.abs(deviceBytes / used - 1) < 0.1, `planned ${deviceBytes}, used ${used}`);
    own.destroy();
  });
});
