// Generation: the same bits whatever the batch. A dialogue alone, in batches of 1, 7 and 64, shuffled, with refills, with a
// shared prompt, after a second prefill: the same tokens and the same log-probabilities, which are also the scorer's.
import * as assert from "uvu/assert";
import type { BufferHandle } from "../../engine/backends/backend.ts";
import {
  CpuBackend,
  type DType,
  matrixUnits,
  type NumberArray,
  OutOfMemoryError,
  tokenKey,
} from "../../engine/index.ts";
import { segmentRows } from "../../engine/tensor.ts";
import {
  type Dialogue,
  type GenerateSettings,
  generate,
  KvCache,
  loadModel,
  type Model,
  score,
} from "../../model/index.ts";
import { testBackends, webgpuBackend } from "../backends.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";

interface Said {
  ids: number[];
  logProbs: number[];
  turns: number[];
  all: number[];
  mask: number[];
}

/** Two-turn dialogues with random prompts, follow-ups and answers of uneven length. */
function makeDialogues(count: number, vocabulary: number, said: Map<number, Said>): Dialogue[] {
  let state = 12345;
  const draw = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  return Array.from({ length: count }, (_, k) => {
    const prompt = Array.from({ length: 2 + draw(9) }, () => draw(vocabulary));
    // Every third shares its neighbour's prompt: another rollout of the same group.
    const followUp = Array.from({ length: 1 + draw(6) }, () => draw(vocabulary));
    const own: Said = { ids: [], logProbs: [], turns: [], all: [...prompt], mask: prompt.map(() => 0) };
    said.set(k, own);
    return {
      policy: 0,
      prompt,
      noise: { rollout: k, prompt: 7 },
      expectedTokens: 30,
      answered: ({ ids, logProbs, turn }) => {
        own.ids.push(...ids);
        own.logProbs.push(...logProbs);
        own.turns.push(ids.length);
        own.all.push(...ids);
        own.mask.push(...ids.map(() => 1));
        if (turn === 1) return null;
        own.all.push(...followUp);
        own.mask.push(...followUp.map(() => 0));
        return followUp;
      },
    };
  });
}

const settings = {
  maxNewTokens: 9,
  temperature: 1,
  noiseKey: tokenKey(1, "test", 0),
  stopIds: [1, 5, 17, 40, 77],
  maxTokens: 300,
};

async function talk(
  model: Model,
  count: number,
  maxRows: number,
  order?: (dialogues: Dialogue[]) => Dialogue[],
  other: Partial<GenerateSettings> = {},
): Promise<Map<number, Said>> {
  const said = new Map<number, Said>();
  const dialogues = makeDialogues(count, model.config.vocabSize, said);
  await generate(model, order ? order(dialogues) : dialogues, { ...settings, ...other, maxRows });
  return said;
}

function assertSame(what: string, found: ReadonlyMap<number, Said>, expected: ReadonlyMap<number, Said>): void {
  for (const [k, one] of found) {
    const other = expected.get(k);
    if (one.ids.join() !== other?.ids.join()) throw new Error(`${what}: dialogue ${k} says other tokens`);
    one.logProbs.forEach((value, i) => {
      if (!Object.is(value, other?.logProbs[i]))
        throw new Error(`${what}: dialogue ${k}, token ${i}: ${value}, alone ${other?.logProbs[i]}`);
    });
  }
}

describe("model/generate", (test) => {
  test("batches of 1, 7, 64, shuffled and with refills: the same bits", async () => {
    for (const { name, backend } of await testBackends()) {
      if (name.includes("+")) continue;
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const model = { backend, config, weights };
      // Plain loops and small segments say the same at a tenth of the dialogues, in a tenth of the time.
      const count = backend.kind === "cpu" || name.includes("segments") ? 6 : 64;
      const alone = await talk(model, count, 1);
      for (const rows of [7, 64]) assertSame(`${name}: batches of ${rows}`, await talk(model, count, rows), alone);
      assertSame(`${name}: reversed`, await talk(model, count, 5, (d) => d.reverse()), alone);
      const shuffle = (d: Dialogue[]): Dialogue[] =>
        d
          .map((one, i) => ({ one, key: (i * 37) % 64 }))
          .sort((a, b) => a.key - b.key)
          .map(({ one }) => one);
      assertSame(`${name}: shuffled with refills`, await talk(model, count, 9, shuffle), alone);
      weights.free();
    }
  });

  test("in mixed precision: the same bits alone, in a batch, and in the scorer, head, layers and attention in f16", async () => {
    for (const { name, backend } of await testBackends()) {
      if (backend.kind === "cpu" || name.includes("segments")) continue;
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"), { precision: "mixed" });
      const model = { backend, config, weights };
      // The head has copies in f16 if its products use matrix units.
      const head = weights.get(config.headName());
      assert.is(head.kind === "tensor" && head.half !== undefined, matrixUnits(backend) !== null, name);
      const { dispatch } = backend;
      const attended = new Set<boolean>();
      backend.dispatch = (work) => {
        if (/^attention/.test(work.kernel.name)) attended.add(work.kernel.name === "attentionMatrix");
        dispatch.call(backend, work);
      };
      const alone = await talk(model, 12, 1);
      assertSame(`${name}: a batch of 12`, await talk(model, 12, 12), alone);
      const said = [...alone.values()];
      const sequences = said.map(({ all, mask }) => ({ ids: all, mask }));
      const scores = await score(model, sequences, { temperature: settings.temperature, maxTokens: 200 });
      said.forEach(({ logProbs }, k) => {
        const scored: NumberArray = scores[k].logProbs;
        assert.is(scored.length, logProbs.length);
        logProbs.forEach((value, i) => {
          if (!Object.is(scored[i], value))
            throw new Error(`${name}: dialogue ${k}, token ${i}: sampled with ${value}, scored ${scored[i]}`);
        });
      });
      Object.assign(backend, { dispatch });
      // Generation and scoring alike.
      assert.equal([...attended], [matrixUnits(backend) !== null], name);
      weights.free();
    }
  });

  test("with a penalty and cuts: the same bits in any batch; the penalty knows the prompt and all turns", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const warping = { topK: 60, topP: 0.9, repetitionPenalty: 1.2 };
    const alone = await talk(model, 8, 1, undefined, { warping });
    assertSame("in a batch", await talk(model, 8, 8, undefined, { warping }), alone);
    assertSame("reversed", await talk(model, 8, 3, (d) => d.reverse(), { warping }), alone);
    const plain = await talk(model, 8, 8);
    const off = { topK: 0, topP: 1, repetitionPenalty: 1 };
    assertSame("all off", await talk(model, 8, 8, undefined, { warping: off }), plain);
    // Under so large a penalty a seen token is drawn again only when all others are cut: what was said, or asked, never is.
    const harsh = { ...off, repetitionPenalty: 1e6 };
    for (const { all, mask } of (await talk(model, 8, 8, undefined, { warping: harsh, temperature: 0 })).values())
      all.forEach((id, t) => {
        if (mask[t] === 1 && all.indexOf(id) < t) throw new Error(`token ${t}, ${id}, was there already: ${all}`);
      });
    weights.free();
  });

  test("a dialogue that outgrows its cache run is computed again, with the same result", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const alone = await talk(model, 6, 6);
    for (const [expectedTokens, rows] of [
      [12, 2],
      [12, 6],
      [3, 4],
    ]) {
      const tight = await talk(model, 6, rows, (dialogues) => dialogues.map((d) => ({ ...d, expectedTokens })));
      assertSame(`expected ${expectedTokens} tokens, ${rows} rows`, tight, alone);
    }
    weights.free();
  });

  test("rollouts of one prompt share its keys, and say what each would alone", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const prompt = [3, 99, 42, 250, 7, 311].map((id) => id % config.vocabSize);
    let tokens: number[] = [];
    const run = async (rollouts: number[]): Promise<string[]> => {
      const said: string[] = [];
      const dialogues = rollouts.map((rollout, i) => ({
        policy: 0,
        prompt,
        noise: { rollout, prompt: 1 },
        expectedTokens: 9,
        answered: ({ ids, logProbs }: { ids: readonly number[]; logProbs: readonly number[] }) => {
          said[i] = `${ids.join()} ${logProbs.join()}`;
          return null;
        },
      }));
      tokens = [];
      const onPass = (pass: { tokens: number }): void => void tokens.push(pass.tokens);
      await generate(model, dialogues, { ...settings, maxRows: 8, onPass });
      return said;
    };
    const together = await run([0, 1, 2, 3]);
    if (tokens[0] !== prompt.length) throw new Error(`expected the prompt's 6 tokens once, got ${tokens[0]} tokens`);
    for (const rollout of [0, 1, 2, 3]) {
      const [alone] = await run([rollout]);
      if (alone !== together[rollout])
        throw new Error(`rollout ${rollout}: together ${together[rollout]}, alone ${alone}`);
    }
    weights.free();
  });

  test("the sampler's log-probabilities are the scorer's", async () => {
    for (const { name, backend } of await testBackends()) {
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const model = { backend, config, weights };
      const said = await talk(model, 6, 6);
      const sequences = [...said.values()].map(({ all, mask }) => ({ ids: all, mask }));
      const scores = await score(model, sequences, { temperature: 1, maxTokens: 100 });
      [...said.values()].forEach(({ logProbs }, k) => {
        const scored: NumberArray = scores[k].logProbs;
        logProbs.forEach((value, i) => {
          if (!(Math.abs(value - scored[i]) <= 1e-5))
            throw new Error(`${name}: dialogue ${k}, token ${i}: sampled ${value}, scored ${scored[i]}`);
        });
      });
      weights.free();
    }
  });

  test("a cache cut into segments has room for all rows at once, and computes no token twice", async () => {
    const { backend } = (await testBackends())[2];
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const perSegment = KvCache.slotsPerSegment(backend, config);
    const [prompt, answer, rows] = [[3, 5, 8, 13].map((id) => id % config.vocabSize), 6, 8];
    let [passes, computed] = [0, 0];
    const dialogues: Dialogue[] = Array.from({ length: rows }, (_, rollout) => ({
      policy: 0,
      prompt,
      noise: { rollout, prompt: 7 },
      expectedTokens: Math.floor(0.6 * perSegment), // one fits a segment, two do not
      answered: () => null,
    }));
    const onPass = ({ tokens }: { tokens: number }): void => {
      passes++;
      computed += tokens;
    };
    const own = { ...settings, stopIds: [], maxNewTokens: answer, maxRows: rows, onPass };
    await generate({ backend, config, weights }, dialogues, own);
    weights.free();
    // The shared prompt once but for its last token, which every row computes; then every token but the last sampled.
    const expected = [answer, prompt.length - 1 + rows * answer];
    if (passes !== expected[0] || computed !== expected[1])
      throw new Error(`expected ${expected} passes and tokens, got ${[passes, computed]}`);
  });

  test("as many dialogues as one likes: more than a call takes arguments", async () => {
    const { backend } = (await testBackends())[0];
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const stop = new AbortController();
    const dialogues: Dialogue[] = Array.from({ length: 200_000 }, (_, rollout) => ({
      policy: 0,
      prompt: [1 + (rollout % 50), 2],
      noise: { rollout, prompt: 7 },
      expectedTokens: 3,
      answered: () => null,
    }));
    let passes = 0;
    const own = { ...settings, maxRows: 4, signal: stop.signal, onPass: () => void (++passes && stop.abort()) };
    await throwsMessage(() => generate({ backend, config, weights }, dialogues, own), "aborted");
    weights.free();
    if (passes !== 1) throw new Error(`expected one pass, got ${passes}`);
  });

  test("nothing is left behind", async () => {
    for (const { name, backend } of await testBackends()) {
      const before = backend.statistics().liveBuffers;
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      await talk({ backend, config, weights }, 3, 3);
      weights.free();
      const left = backend.statistics().liveBuffers - before;
      if (left !== 0) throw new Error(`${name}: ${left} buffers left behind`);
    }
  });

  test("whichever allocation fails, nothing is left behind", async () => {
    class Full extends CpuBackend {
      left = Number.POSITIVE_INFINITY;
      override allocate(bytes: number, dtype: DType): BufferHandle {
        if (this.left-- === 0) throw new OutOfMemoryError("full");
        return super.allocate(bytes, dtype);
      }
    }
    // The second cuts each layer of the cache into segments; those are its first allocations.
    for (const [maxBufferBytes, most] of [
      [undefined, Number.POSITIVE_INFINITY],
      [16384, 60],
    ] as const) {
      const backend = new Full({ maxBufferBytes });
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const before = backend.statistics().liveBuffers;
      const dialogues: Dialogue[] = [0, 1].map((rollout) => ({
        ...{ policy: 0, prompt: [1, 2], noise: { rollout, prompt: 7 }, expectedTokens: 200, answered: () => null },
      }));
      const own = { ...settings, maxRows: 2, maxNewTokens: 2, stepsPerRead: 2, stopIds: [] };
      let allocations = 0;
      for (let hasFailed = true; hasFailed && allocations < most; allocations++) {
        backend.left = allocations;
        hasFailed = false;
        try {
          await generate({ backend, config, weights }, dialogues, own);
        } catch (thrown) {
          if (!(thrown instanceof OutOfMemoryError)) throw thrown;
          hasFailed = true;
        }
        const left = backend.statistics().liveBuffers - before;
        if (left !== 0) throw new Error(`allocation ${allocations} failed: ${left} buffers left behind`);
      }
      if (allocations < 20) throw new Error(`only ${allocations} allocations`);
      weights.free();
    }
  });

  test("a cache cut into segments: the same bits for one row at a time and for many", async () => {
    const { backend } = (await testBackends())[2];
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const run = async (maxRows: number): Promise<string[]> => {
      const said: string[] = [];
      const dialogues = Array.from(
        { length: 10 },
        (_, k): Dialogue => ({
          policy: 0,
          prompt: Array.from({ length: 30 }, (__, i) => (17 * (k >> 1) + 5 * i) % config.vocabSize),
          noise: { rollout: k, prompt: 3 },
          expectedTokens: 10,
          answered: (answer) => {
            said[k] = JSON.stringify(answer);
            return null;
          },
        }),
      );
      await generate({ backend, config, weights }, dialogues, { ...settings, maxRows });
      return said;
    };
    const [alone, together] = [await run(1), await run(64)];
    weights.free();
    together.forEach((said, k) => {
      if (said !== alone[k]) throw new Error(`dialogue ${k}: together ${said}, alone ${alone[k]}`);
    });
  });

  test("cache runs: allocated, released, merged, never across a segment", async () => {
    const { backend } = (await testBackends())[2];
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    weights.free();
    const { numKeyValueHeads: K, headDim: D } = config;
    const [inSegment] = segmentRows(backend, [2 ** 20, K, D], "f32", "cache");
    const cache = new KvCache(backend, config, 3 * inSegment);
    const runs = Array.from({ length: 3 }, () => cache.allocate(inSegment));
    if (runs.some((run) => run === null) || cache.allocate(1) !== null)
      throw new Error("three runs should fill three segments");
    for (const run of runs) if (run !== null) cache.release(run);
    if (cache.freeSlots !== 3 * inSegment) throw new Error("slots were lost");
    if (cache.allocate(inSegment + 1) !== null) throw new Error("a run crossed a segment");
    // A run that comes after another lies in no earlier segment.
    const [low, middle] = [cache.allocate(inSegment), cache.allocate(5)];
    if (low === null || middle === null) throw new Error("two segments have room");
    cache.release(low);
    const after = cache.allocate(7, middle);
    if (after?.start !== inSegment + 5) throw new Error(`expected slots behind the run, got ${after?.start}`);
    if (cache.allocate(inSegment, middle)?.start !== 2 * inSegment) throw new Error("the next segment has room");
    if (cache.allocate(inSegment, middle) !== null) throw new Error("a run lies in an earlier segment");
    for (const run of [middle, after, { start: 2 * inSegment, length: inSegment }]) cache.release(run);
    if (cache.freeSlots !== 3 * inSegment) throw new Error("slots were lost");
    const first = cache.sharePrefix("p", 5);
    const again = cache.sharePrefix("p", 5);
    if (!first?.isNew || again?.isNew || first.run.start !== again?.run.start)
      throw new Error("a prefix should be shared");
    cache.releasePrefix("p");
    cache.releasePrefix("p");
    if (cache.freeSlots !== 3 * inSegment) throw new Error("the prefix was not freed");
    await throwsMessage(() => cache.releasePrefix("p"), "no prefix");
    cache.free();
  });
});
