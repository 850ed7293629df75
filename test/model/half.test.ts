// Generation and scoring in f16 (`--precision f16`): near the f32 model and transformers, and the same bits whatever the
// batch, from the sampler and from the scorer.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { type Backend, head, klAndScore, openBackend, scopeAsync, tokenKey } from "../../engine/index.ts";
import { openLanguageModel } from "../../model/families.ts";
import {
  answerStates,
  type Dialogue,
  generate,
  headWeight,
  loadForInference,
  loadModel,
  type Model,
  makeHalfWeights,
  type Sequence,
  saveWeights,
  score,
} from "../../model/index.ts";
import { emptyModel, planMemory, rehearseGeneration, rehearseScoring } from "../../model/plan.ts";
import { publishedConfig } from "../../model/published-shapes.ts";
import { testBackends, webgpuBackend } from "../backends.ts";
import { assertKnown, describe, fixturePath, readFixture } from "../support.ts";

interface KnownModel {
  sequences: { ids: number[]; logProbs: number[] }[];
  greedy: { prompt: number[]; tokens: number[]; smallestMargin: number }[];
}

/**
 * Standard deviation of the error of a log-probability, at most: a rounding to f16 errs by up to 2⁻¹¹ of a number, 2⁻¹¹/√3
 * in the root mean square. On the way to a logit, which reaches 10 in these random models, lie ten roundings per layer (two
 * results of norms, those of attention and SwiGLU, keys, values, four weights) and two in the head. They are independent.
 * No error may be larger than four of them.
 */
function typicalError(layers: number): number {
  return 10 * (2 ** -11 / Math.sqrt(3)) * Math.sqrt(10 * layers + 2);
}

const names = ["qwen2-tiny", "qwen2-tiny-bare-f16", "qwen2-untied-odd"];

/** Dialogues of two turns with prompts of uneven length; every fourth shares the prompt of the one before. */
function dialoguesOf(count: number, vocabulary: number, said: string[], sequences: Sequence[]): Dialogue[] {
  return Array.from({ length: count }, (_, k) => {
    const own = k - (k % 4 === 3 ? 1 : 0);
    const prompt = Array.from({ length: 2 + ((5 * own) % 9) }, (__, i) => (31 * own + 17 * i + 3) % vocabulary);
    const ids = [...prompt];
    const mask = prompt.map(() => 0);
    const logProbs: number[] = [];
    return {
      ...{ policy: 0, prompt, noise: { rollout: k, prompt: 3 }, expectedTokens: 20 },
      answered: (answer) => {
        ids.push(...answer.ids);
        mask.push(...answer.ids.map(() => 1));
        logProbs.push(...answer.logProbs);
        said[k] = `${ids.join()}: ${logProbs.join()}`;
        sequences[k] = { ids, mask };
        if (answer.turn === 1) return null;
        const next = [(7 * k + 1) % vocabulary, 5];
        ids.push(...next);
        mask.push(0, 0);
        return next;
      },
    };
  });
}

async function talk(model: Model, count: number, maxRows: number): Promise<{ said: string[]; sequences: Sequence[] }> {
  const found = { said: [] as string[], sequences: [] as Sequence[] };
  await generate(model, dialoguesOf(count, model.config.vocabSize, found.said, found.sequences), {
    ...{ maxNewTokens: 8, temperature: 1, noiseKey: tokenKey(1, "test", 0), stopIds: [1, 5, 40], maxTokens: 300 },
    maxRows,
  });
  return found;
}

/** KL(p ‖ q) at each scored token of the sequences, nats. */
async function divergence(p: Model, q: Model, sequences: readonly Sequence[]): Promise<number[]> {
  return scopeAsync(async () => {
    const [own, other] = [answerStates(p, sequences), answerStates(q, sequences)];
    const [headP, headQ] = [p, q].map(({ config, weights }) => headWeight(config, weights));
    const { logSumExp } = head(own.hidden, headP, own.targets, { temperature: 1 });
    const { kl } = klAndScore({
      ...{ hiddenQ: other.hidden, headQ, rows: null, targets: own.targets, temperature: 1 },
      ...{ hiddenP: own.hidden, headP, logSumExpP: logSumExp },
    });
    return Array.from(await kl.read());
  });
}

async function rejectsMessage(work: Promise<unknown>, start: string): Promise<void> {
  const message = await work.then(
    () => "no error",
    (thrown: unknown) => (thrown instanceof Error ? thrown.message : String(thrown)),
  );
  assert.ok(message.startsWith(start), message);
}

const both = async (backend: Backend, name: string): Promise<{ f32: Model; f16: Model; free(): void }> => {
  const [f32, f16] = [
    await loadForInference(backend, fixturePath(name), "f32"),
    await loadForInference(backend, fixturePath(name), "f16"),
  ];
  return { f32, f16, free: () => [f32, f16].forEach(({ weights }) => void weights.free()) };
};

describe("model/half", (test) => {
  for (const name of names) {
    const file = `${name}.json`;
    const known = readFixture<KnownModel>(file);

    test(`${name}: log-probabilities near transformers, KL to f32 below 1e-4 nats per token`, async () => {
      for (const { name: where, backend } of await testBackends()) {
        const { f32, f16, free } = await both(backend, name);
        const scores = await score(f16, known.sequences, { temperature: 1, maxTokens: 4096 });
        const typical = typicalError(f16.config.numHiddenLayers);
        const squares: number[] = [];
        known.sequences.forEach(({ logProbs }, i) => {
          const found = scores[i].logProbs;
          assertKnown(file, "logProbs in f16", where, found, logProbs, { absolute: 4 * typical }, `sequence ${i}`);
          found.forEach((value, t) => void squares.push((value - logProbs[t]) ** 2));
        });
        const rms = Math.sqrt(squares.reduce((sum, one) => sum + one, 0) / squares.length);
        assert.ok(rms <= typical, `${where}: root mean square of the errors ${rms}, at most ${typical}`);
        const kl = await divergence(f32, f16, known.sequences);
        const mean = kl.reduce((sum, one) => sum + one, 0) / kl.length;
        assert.ok(Math.abs(mean) < 1e-4, `${where}: mean KL ${mean}`);
        assert.ok(mean !== 0, `${where}: f16 changes nothing`);
        free();
      }
    });

    test(`${name}: greedy tokens of transformers`, async () => {
      for (const { name: where, backend } of await testBackends()) {
        const { f16, free } = await both(backend, name);
        // Near ties may turn either way.
        const clear = known.greedy.filter(({ smallestMargin }) => smallestMargin > 2e-2);
        assert.ok(clear.length > 0, "all prompts have near ties");
        for (const { prompt, tokens } of clear) {
          const found: number[] = [];
          const dialogue = {
            ...{ policy: 0, prompt, noise: { rollout: 0, prompt: 0 }, expectedTokens: tokens.length },
            answered: ({ ids }: { ids: readonly number[] }) => {
              found.push(...ids);
              return null;
            },
          };
          const settings = { temperature: 0, noiseKey: [0, 0], stopIds: [], maxRows: 1, maxTokens: 4096 } as const;
          await generate(f16, [dialogue], { ...settings, maxNewTokens: tokens.length });
          assertKnown(file, "greedy: tokens in f16", where, found, tokens, {});
        }
        free();
      }
    });
  }

  test("1 row, 7 and 500 rows: the same bits; the scorer has the sampler's log-probabilities", async () => {
    for (const { name: where, backend } of await testBackends()) {
      if (where.includes("+")) continue;
      const isSmall = backend.kind === "cpu" || where.includes("segments");
      for (const name of ["qwen2-tiny", "qwen2-untied-odd"]) {
        const { f16, free } = await both(backend, name);
        const count = isSmall ? 6 : name === "qwen2-tiny" ? 500 : 20;
        const batch = await talk(f16, count, count);
        const some = await talk(f16, Math.min(count, 20), 7);
        const alone = await talk(f16, Math.min(count, 8), 1);
        for (const { said } of [some, alone])
          said.forEach((one, k) => void assert.is(one, batch.said[k], `${where}, ${name}: dialogue ${k}`));
        const scored = await score(f16, batch.sequences, { temperature: 1, maxTokens: 500 });
        batch.said.forEach((one, k) => {
          const logProbs = one.split(": ")[1];
          const found = scored[k].logProbs.join();
          assert.is(found, Float32Array.from(logProbs.split(","), Number).join(), `${where}, ${name}: dialogue ${k}`);
        });
        free();
      }
    }
  });

  for (const job of ["generating", "scoring"] as const)
    test(`${job}: a plan in f16 is what is used`, async () => {
      const { backend } = await openBackend({ backend: "webgpu" });
      const model = await loadForInference(backend, fixturePath("qwen2-tiny"), "f16");
      const sequences = [40, 63].map((length, s) => ({ ids: Array.from({ length }, (_, i) => (7 * i + s) % 100) }));
      const dialogues = sequences.map(({ ids }, prompt) => ({
        ...{ policy: 0, prompt: ids, noise: { rollout: 0, prompt }, expectedTokens: 12 },
        answered: () => null,
      }));
      const sizes = { maxRows: 4, maxTokens: 64, temperature: 1 };
      const planned = await planMemory(backend, async (planning) => {
        const empty = emptyModel(planning, model.config, "f16");
        if (job === "generating") await rehearseGeneration(empty, dialogues, sizes);
        else await rehearseScoring(empty, sequences, sizes);
      });
      if (job === "generating")
        await generate(model, dialogues, { ...sizes, maxNewTokens: 12, noiseKey: [1, 2], stopIds: [] });
      else await score(model, sequences, sizes);
      // Which of the released buffers is used again depends on the passes, and a rehearsal has fewer of them: later ones
      // may need a few small buffers of their own.
      const used = backend.statistics().peakBytes;
      const { deviceBytes } = planned;
      assert.ok(deviceBytes >= used - 4096 && deviceBytes <= 1.001 * used, `planned ${deviceBytes}, used ${used}`);
      model.weights.free();
      await backend.destroy();
    });

  test("Qwen2.5-0.5B: weights and cache need less than 55% of the memory of f32", async () => {
    const config = openLanguageModel(publishedConfig("qwen2.5-0.5b"), "qwen2.5-0.5b");
    const { backend } = await webgpuBackend();
    const dialogues = Array.from({ length: 64 }, (_, prompt) => ({
      ...{ policy: 0, prompt: new Array<number>(100).fill(prompt), noise: { rollout: 0, prompt }, expectedTokens: 256 },
    }));
    const [f32, f16] = await Promise.all(
      (["f32", "f16"] as const).map(async (precision) => {
        const { parts } = await planMemory(backend, async (planning) =>
          rehearseGeneration(emptyModel(planning, config, precision), dialogues, {
            ...{ maxRows: 64, maxTokens: 4096, temperature: 1 },
          }),
        );
        const of = (part: "weights" | "compute copies" | "KV cache"): number => parts.get(part) ?? 0;
        return { weights: of("weights") + of("compute copies"), cache: of("KV cache") };
      }),
    );
    assert.ok(f16.weights + f16.cache <= 0.55 * (f32.weights + f32.cache), JSON.stringify({ f32, f16 }));
    assert.ok(f16.cache <= 0.51 * f32.cache, JSON.stringify({ f32, f16 }));
  });

  test("a folder whose matrices hold numbers beyond f16 is refused by the command, and read in f32", async () => {
    const { backend } = await webgpuBackend();
    const { weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const name = "model.layers.1.mlp.down_proj.weight";
    const [values] = (await weights.read([name])).values();
    values[5] = -65520;
    weights.load(name, values);
    const place = mkdtempSync(join(tmpdir(), "foothold-half-"));
    try {
      const folder = join(place, "model");
      await saveWeights(weights, folder, fixturePath("qwen2-tiny"));
      const score = (precision: string) => {
        const words = ["model/score.ts", "--model", folder, "--tokens", join(place, "ids.json")];
        writeFileSync(join(place, "ids.json"), "[[3, 50, 7]]");
        return spawnSync(process.execPath, [...words, "--precision", precision, "--backend", "cpu"], {
          cwd: fileURLToPath(new URL("../..", import.meta.url)),
          encoding: "utf8",
        });
      };
      const { status, stderr } = score("f16");
      assert.is(status, 2, stderr);
      assert.ok(
        stderr.includes(
          `${name}: element 5 is -65520: expected a number within ±65504, the range of f16. Use --precision f32.`,
        ),
        stderr,
      );
      assert.is(score("f32").status, 0);
    } finally {
      rmSync(place, { recursive: true, force: true });
      weights.free();
    }
  });

  test("activations beyond f16 are reported, never used", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const values = await weights.read();
    const sequence = { ids: [3, 50, 7, 20, 9] };
    // Values grow a thousandfold and more, the weights themselves do not leave f16's range.
    for (const [name, factor] of [
      ["model.layers.0.self_attn.v_proj.bias", 1e7],
      ["model.layers.1.self_attn.k_proj.bias", 1e7],
      ["model.layers.0.mlp.up_proj.weight", 4e4],
      ["model.layers.1.input_layernorm.weight", 1e5],
    ] as const) {
      const half = makeHalfWeights(backend, config);
      for (const [own, data] of values) {
        const loader = half.loader(own);
        loader.push(own === name ? data.map((value) => value * factor + (own.endsWith("bias") ? factor : 0)) : data);
        loader.end();
      }
      const model = { backend, config, weights: half };
      const message =
        "the model's logits are not numbers: its weights hold NaN or infinite values, or an activation is";
      await rejectsMessage(score(model, [sequence], { temperature: 1, maxTokens: 100 }), `score: ${message}`);
      await rejectsMessage(talk(model, 1, 1), `generate: ${message}`);
      half.free();
    }
    weights.free();
  });
});
