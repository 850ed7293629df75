// The shape of Qwen2.5-0.5B, 494 million random weights, at the buffer limit of lavapipe: it is made by the command, and loads,
// scores, generates and takes a training step, each in a process of its own, whose memory is held against the plan's and
// against 16 GiB. It prints what it took.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { openBackend } from "../../engine/index.ts";
import { describe } from "../support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const bindingBytes = 128 * 2 ** 20;
const gib = 2 ** 30;

interface Measured {
  planned: number;
  used: number;
  /** Peak resident memory of the process; null where the system does not say. */
  resident: number | null;
  seconds: Record<string, number>;
  values: Record<string, number>;
}

/** What a child does with the model; it prints a `Measured`. */
const script = (folder: string, job: string) => `
  import { existsSync, readFileSync } from "node:fs";
  const { openBackend } = await import(${JSON.stringify(new URL("../../engine/index.ts", import.meta.url).href)});
  const { emptyModel, generate, loadModel, makeWeights, openConfig, planMemory, rehearseGeneration, rehearseScoring, score } =
    await import(${JSON.stringify(new URL("../../model/index.ts", import.meta.url).href)});
  const { supervisedStep } = await import(${JSON.stringify(new URL("../../rl/learn.ts", import.meta.url).href)});
  const { config } = await openConfig(${JSON.stringify(folder)});
  const { backend } = await openBackend({ backend: "webgpu", maxBufferBytes: ${bindingBytes} });
  const ids = Array.from({ length: 256 }, (_, i) => (i * 7919 + 13) % config.vocabSize);
  const scoring = { temperature: 1, maxTokens: 4096 };
  const seconds = {}, values = {};
  let begun = performance.now();
  const lap = (name) => { seconds[name] = (performance.now() - begun) / 1000; begun = performance.now(); };
  const meanNll = async (model) => {
    const [{ logProbs }] = await score(model, [{ ids }], scoring);
    return logProbs.reduce((sum, value) => sum - value, 0) / logProbs.length;
  };
  const dialogue = { point: 0, prompt: ids, noise: { rollout: 0, prompt: 1 }, expectedTokens: 8 };
  const sampling = { maxRows: 1, maxTokens: 4096, temperature: 0 };
  const step = (model) => supervisedStep(model, [{ ids, tokenWeight: 1 / (ids.length - 1) }], {
    optimiser: { learningRate: 1e-5, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, maxGradientNorm: 1 },
    maxTokens: 256, step: 1, recomputeLayers: true,
  });
  const trainable = ${JSON.stringify(job)} === "train";
  const jobs = {
    score: {
      plan: (planning) => rehearseScoring(emptyModel(planning, config), [{ ids }], scoring),
      run: async (model) => { values.nll = await meanNll(model); lap("first scoring"); await meanNll(model); lap("scoring"); },
    },
    generate: {
      plan: (planning) => rehearseGeneration(emptyModel(planning, config), [dialogue], sampling),
      run: async (model) => {
        let answer;
        await generate(model, [{ ...dialogue, answered: (given) => { answer = given; return null; } }], {
          ...sampling, maxNewTokens: 8, noiseKey: [1, 2], stopIds: [],
          onPass: ({ tokens }) => lap(tokens > 1 ? "prefill" : "token"),
        });
        const [{ logProbs }] = await score(model, [{ ids: [...ids, ...answer.ids] }], scoring);
        values.tokens = answer.ids.length;
        values.difference = Math.max(...answer.logProbs.map((value, i) => Math.abs(value - logProbs[ids.length - 1 + i])));
      },
    },
    train: {
      plan: (planning) => step({ backend: planning, config, weights: makeWeights(planning, config, { trainable }) }),
      run: async (model) => {
        const { loss, gradientNorm } = await step(model);
        lap("step");
        Object.assign(values, { loss, gradientNorm, after: await meanNll(model) });
      },
    },
  };
  const { plan, run } = jobs[${JSON.stringify(job)}];
  const planned = await planMemory(backend, plan);
  lap("plan");
  const model = await loadModel(backend, ${JSON.stringify(folder)}, { trainable });
  await backend.idle();
  lap("load");
  await run(model);
  const status = existsSync("/proc/self/status") ? readFileSync("/proc/self/status", "utf8") : "";
  const resident = /VmHWM:\\s+(\\d+)/.exec(status);
  console.log(JSON.stringify({
    planned: planned.deviceBytes, used: backend.statistics().peakBytes,
    resident: resident === null ? null : 1024 * Number(resident[1]), seconds, values,
  }));
  process.exit(0);`;

const opened = await openBackend();
const { style, description } = opened.backend;
opened.backend.destroy();

describe("model: the size of Qwen2.5-0.5B", (test) => {
  if (style !== "lavapipe" && style !== "gpu") {
    test.skip("all of it", `${description}: it would take an hour there; take lavapipe or a GPU`);
    return;
  }
  const needed = 12 * gib;
  if (process.availableMemory() < needed) {
    const free = (process.availableMemory() / gib).toFixed(1);
    test.skip("all of it", `a training step takes 11 GiB of memory, this machine has ${free} GiB free`);
    return;
  }
  const place = mkdtempSync(join(tmpdir(), "foothold-real-size-"));
  const folder = join(place, "model");
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const child = (...words: string[]): string => {
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { cwd: root, encoding: "utf8" });
    if (status !== 0) throw new Error(`exit code ${status}: ${stderr}`);
    return stdout;
  };
  const measure = (job: string): Measured => {
    const found: Measured = JSON.parse(child("--input-type=module", "-e", script(folder, job)));
    const { planned, used, resident, seconds } = found;
    const inGib = (bytes: number): string => `${(bytes / gib).toFixed(2)} GiB`;
    const times = Object.entries(seconds).map(([name, value]) => `${name} ${value.toFixed(2)} s`);
    console.log(
      `\n  ${job} (${description}): planned ${inGib(planned)}, used ${inGib(used)}` +
        `${resident === null ? "" : `, resident at most ${inGib(resident)}`}; ${times.join(", ")}`,
    );
    assert.ok(Math.abs(planned / used - 1) < 0.1, `planned ${inGib(planned)}, used ${inGib(used)}`);
    assert.ok((resident ?? used) < 16 * gib, `${inGib(resident ?? used)} in all`);
    return found;
  };

  test("is made by the command", () => {
    child("model/initialise.ts", "--config", "qwen2.5-0.5b", "--out", folder, "--dtype", "bf16");
  });

  test("loads and scores 256 tokens", () => {
    const { nll } = measure("score").values;
    // Random weights know nothing of the text: ln 151,936 = 11.9, and a little for being sure of something.
    assert.ok(nll > 11.5 && nll < 13.5, `mean −log p ${nll}`);
  });

  test("generates, and scores what it generated alike", () => {
    const { tokens, difference } = measure("generate").values;
    assert.is(tokens, 8);
    assert.ok(difference < 1e-4, `log-probabilities differ by ${difference}`);
  });

  test("takes a training step of 256 tokens, after which they are likelier", () => {
    const { loss, gradientNorm, after } = measure("train").values;
    assert.ok(gradientNorm > 0 && after < loss, `loss ${loss}, after the step ${after}, gradient ${gradientNorm}`);
  });
});
