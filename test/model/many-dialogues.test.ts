// Generation over very many dialogues: they are asked for when they are admitted, and nothing of a finished one is kept.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import * as assert from "uvu/assert";
import { PlanningBackend } from "../../engine/index.ts";
import { boundsOf, type Dialogue, emptyModel, generate, loadModel, openConfig } from "../../model/index.ts";
import { webgpuBackend } from "../backends.ts";
import { describe, fixturePath } from "../support.ts";

setFlagsFromString("--expose-gc");
const collect: unknown = runInNewContext("gc");
function heapUsed(): number {
  if (typeof collect === "function") collect();
  return process.memoryUsage().heapUsed;
}

const rows = 64;

describe("model/many-dialogues", (test) => {
  test("the bounds are those of the plain definition, whatever the order and however often a prompt occurs", () => {
    let state = 1;
    const draw = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let round = 0; round < 200; round++) {
      const dialogues = Array.from({ length: 1 + draw(60) }, () => ({
        policy: draw(3),
        prompt: Array.from({ length: 1 + draw(4) }, () => draw(3)),
        expectedTokens: draw(20),
      }));
      const most = 1 + draw(12);
      const lengths = new Map(dialogues.map(({ policy, prompt }) => [`${policy}:${prompt.join()}`, prompt.length]));
      assert.equal(boundsOf(dialogues, most), {
        count: dialogues.length,
        expectedTokens: dialogues.reduce((largest, { expectedTokens }) => Math.max(largest, expectedTokens), 0),
        promptLengths: [...lengths.values()].sort((a, b) => b - a).slice(0, most),
      });
    }
  });

  test("200,000 dialogues need the memory of a batch", async () => {
    const { backend } = await webgpuBackend();
    const { config } = await openConfig(fixturePath("qwen2-tiny"));
    const count = 200_000;
    let begun = 0;
    let ended = 0;
    const heap: number[] = [];
    const prompt = (k: number): number[] => Array.from({ length: 20 }, (_, i) => (k >> i) & 1);
    const made = function* (): Iterable<Dialogue> {
      for (let k = 0; k < count; k++) {
        begun++;
        assert.ok(begun - ended <= rows + 1, `${begun - ended} dialogues at once, the batch has ${rows} rows`);
        if (k === count >> 2 || k === count - 1) heap.push(heapUsed());
        yield {
          policy: 0,
          prompt: prompt(k),
          noise: { rollout: k, prompt: 0 },
          expectedTokens: 1,
          answered: () => {
            ended++;
            return null;
          },
        };
      }
    };
    await generate(emptyModel(new PlanningBackend(backend), config), made(), {
      maxNewTokens: 1,
      temperature: 1,
      noiseKey: [0, 0],
      stopIds: [],
      maxRows: rows,
      maxTokens: 2000,
      bounds: { count, expectedTokens: 1, promptLengths: new Array<number>(rows).fill(20) },
    });
    assert.is(ended, count);
    // A row with its prompt and its key takes more than 500 bytes: kept, 150,000 of them would be 75 MB.
    assert.ok(heap[1] - heap[0] < 10e6, `${heap[1] - heap[0]} bytes more after 150,000 dialogues`);
  });

  test("made on demand or given as a list, and preempted on the way: the same tokens in the same order", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const talk = async (isOnDemand: boolean): Promise<string[]> => {
      const said: string[] = [];
      const all = Array.from(
        { length: 30 },
        (_, k): Dialogue => ({
          policy: 0,
          prompt: Array.from({ length: 2 + (k % 5) }, (__, i) => (7 * k + i) % config.vocabSize),
          noise: { rollout: k, prompt: 3 },
          expectedTokens: 2, // too few: rows outgrow their run, and some wait for others to leave
          answered: ({ ids, logProbs }) => {
            said.push(`${k}: ${ids.join()} ${logProbs.join()}`);
            return null;
          },
        }),
      );
      await generate({ backend, config, weights }, isOnDemand ? all.values() : all, {
        maxNewTokens: 9,
        temperature: 1,
        noiseKey: [1, 2],
        stopIds: [],
        maxRows: 7,
        maxTokens: 100,
        ...(isOnDemand ? { bounds: boundsOf(all, 7) } : {}),
      });
      return said;
    };
    assert.equal(await talk(true), await talk(false));
    weights.free();
  });
});
