// A whole random model: decoding, training steps, and a grid point of a landscape beside the unperturbed model. These
// are loops of host and device, so this machine's clock times them.
import type { Backend } from "../../engine/index.ts";
import { generate, type Model, type Qwen2Model, score } from "../../model/index.ts";
import { supervisedStep } from "../../rl/learn.ts";
import { LossScale } from "../../rl/loss-scale.ts";
import { median } from "../median.ts";
import { decodeWeightBytes, forwardFlops, trainingFlops } from "../model/model-work.ts";
import type { Bench, Case, Measured, PartOf } from "./part.ts";
import { peerModel } from "./peers.ts";
import { countOf, idsOf, type RandomModel, randomModel } from "./random-model.ts";

type Precision = "f32" | "mixed";
const precisions = ["f32", "mixed"] as const;
const noHalf = (precision: Precision) => (bench: Bench) =>
  precision === "mixed" && !bench.hasHalf ? "the adapter has no f16" : null;

/** One model at a time; it is made again only when another precision is asked for. */
export class OneModel {
  #made: { key: string; model: RandomModel } | null = null;

  async get(backend: Backend, config: Qwen2Model, options: { trainable: boolean; precision: Precision }) {
    const key = JSON.stringify([config.numHiddenLayers, config.hiddenSize, options]);
    if (this.#made?.key === key) return this.#made.model;
    this.free();
    this.#made = { key, model: await randomModel(backend, config, options) };
    return this.#made.model;
  }

  free(): void {
    this.#made?.model.weights.free();
    this.#made = null;
  }
}

/** A wall-clock time of runs that the caller timed. */
export function wall(milliseconds: readonly number[]): Omit<Measured, "checked"> {
  const one = median(milliseconds);
  return { milliseconds: one, clock: "wall", wallMilliseconds: one, samples: milliseconds.length, runsPerSample: 1 };
}

export interface Decoded {
  /** Of one token of every row. */
  milliseconds: number;
  answers: readonly { ids: readonly number[]; logProbs: readonly number[] }[];
}

/** Continues one prompt in several rows, greedily. The pass that computes the prompt is not timed. */
export async function decodeRows(
  model: Model,
  prompt: readonly number[],
  rows: number,
  newTokens: number,
  policy = 0,
): Promise<Decoded> {
  const answers: { ids: readonly number[]; logProbs: readonly number[] }[] = [];
  const dialogues = Array.from({ length: rows }, (_, rollout) => ({
    ...{ policy, prompt, noise: { rollout, prompt: 0 }, expectedTokens: newTokens + 1 },
    answered({ ids, logProbs }: { ids: readonly number[]; logProbs: readonly number[] }) {
      answers.push({ ids, logProbs });
      return null;
    },
  }));
  let [begun, elapsed, sampled, passes] = [performance.now(), 0, 0, 0];
  await generate(model, dialogues, {
    ...{ maxNewTokens: newTokens + 1, temperature: 0, noiseKey: [0, 0], stopIds: [] },
    ...{ maxRows: rows, maxTokens: prompt.length + rows },
    onPass: (pass) => {
      const now = performance.now();
      // A pass may sample several tokens per row.
      if (passes++ > 0) {
        elapsed += now - begun;
        sampled += pass.sampled;
      }
      begun = now;
    },
  });
  if (answers.length !== rows) throw new Error(`decode: expected ${rows} answers, got ${answers.length}`);
  if (sampled === 0) throw new Error("decode: no pass after the first one sampled a token");
  return { milliseconds: (elapsed * rows) / sampled, answers };
}

/** Rows of one prompt must say the same; and the scorer must agree with each token's log-probability. */
async function checkDecoded(
  bench: Bench,
  model: Model,
  prompt: readonly number[],
  { answers }: Decoded,
): Promise<string> {
  const [{ ids, logProbs }] = answers;
  const other = answers.find((one) => one.ids.join() !== ids.join());
  if (other !== undefined)
    throw new Error(`wrong value: rows of one prompt have different tokens: ${ids} and ${other.ids}`);
  const whole = [...prompt, ...ids];
  const mask = whole.map((_, t) => (t < prompt.length ? 0 : 1));
  const [scored] = await score(model, [{ ids: whole, mask }], { temperature: 1, maxTokens: whole.length });
  const compared = bench.compare("log-probabilities against the scorer's", scored.logProbs, logProbs, 1e-5);
  return `${compared}; ${answers.length} equal ${answers.length === 1 ? "row" : "rows"}`;
}

/** Elements of the linear layers' weights, which mixed precision reads in f16. */
function linearCount(config: Qwen2Model): number {
  const roles = new Map([...config.parameters()].map(([name, { role }]) => [name, role]));
  return countOf(config, (name) => roles.get(name) === "linear");
}

export const decode: PartOf = ({ model: config, modelName, decode: { promptTokens, newTokens, rows } }) => {
  const held = new OneModel();
  const prompt = idsOf(promptTokens, config.vocabSize);
  const one = (precision: Precision, count: number): Case => ({
    name: `decode ${precision} ${modelName}, ${count} ${count === 1 ? "row" : "rows"}`,
    flops: count * forwardFlops(config, 1, promptTokens + newTokens / 2, 1),
    bytes: decodeWeightBytes(config) - (precision === "f32" ? 0 : 2 * linearCount(config)),
    tokens: count,
    peer: { kind: "decode", precision, model: peerModel(config), rows: count, promptTokens, newTokens },
    missing: noHalf(precision),
    async measure(bench) {
      const model = await held.get(bench.backend, config, { trainable: false, precision });
      await decodeRows(model, prompt, count, 2);
      const runs = [await decodeRows(model, prompt, count, newTokens)];
      const checked = await checkDecoded(bench, model, prompt, runs[0]);
      while (runs.length < 3 && bench.leftMs > 4 * newTokens * runs[0].milliseconds)
        runs.push(await decodeRows(model, prompt, count, newTokens));
      return { ...wall(runs.map(({ milliseconds }) => milliseconds)), runsPerSample: newTokens, checked };
    },
  });
  return {
    cases: precisions.flatMap((precision) => rows.map((count) => one(precision, count))),
    free: () => held.free(),
  };
};

const optimiser = {
  ...{ learningRate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 },
  maxGradientNorm: 1,
};

async function trainingSteps(
  bench: Bench,
  model: RandomModel,
  precision: Precision,
  sequences: number,
  tokens: number,
) {
  const { vocabSize } = model.config;
  const batch = Array.from({ length: sequences }, (_, i) => ({
    ids: idsOf(tokens, vocabSize, i),
    tokenWeight: 1 / (sequences * (tokens - 1)),
  }));
  const scored = await score(model, batch.slice(0, 1), { temperature: 1, maxTokens: tokens });
  const lossScale = precision === "mixed" ? new LossScale() : null;
  const times: number[] = [];
  const losses: number[] = [];
  let first: readonly number[] = [];
  const steps = 5;
  for (let step = 1; step <= steps; step++) {
    const begun = performance.now();
    const outcome = await supervisedStep(model, batch, { optimiser, maxTokens: sequences * tokens, step, lossScale });
    if (step === 1) first = outcome.logProbs;
    else times.push(performance.now() - begun);
    losses.push(outcome.loss);
    if (step >= 3 && bench.leftMs < 2 * (times.at(-1) ?? 0)) break;
  }
  const compared = bench.compare(
    "log-probabilities against the scorer's",
    first.slice(0, tokens - 1),
    scored[0].logProbs,
    precision === "f32" ? 1e-5 : 1e-3,
  );
  if (!(losses[losses.length - 1] < losses[0]))
    throw new Error(`wrong value: training does not lower the loss: ${losses}`);
  return {
    ...wall(times),
    checked: `${compared}; the loss falls from ${losses[0].toFixed(3)} to ${losses.at(-1)?.toFixed(3)}`,
  };
}

function trainingCase(
  held: OneModel,
  config: Qwen2Model,
  name: string,
  precision: Precision,
  sequences: number,
  tokens: number,
): Case {
  return {
    name: `training step ${precision} ${name}, ${sequences} × ${tokens} tokens`,
    flops: sequences * trainingFlops(config, tokens),
    tokens: sequences * tokens,
    peer: { kind: "training", precision, model: peerModel(config), sequences, tokens },
    missing: noHalf(precision),
    async measure(bench) {
      const model = await held.get(bench.backend, config, { trainable: true, precision });
      return trainingSteps(bench, model, precision, sequences, tokens);
    },
  };
}

export const training: PartOf = ({ model, modelName, training: batches }) => {
  const held = new OneModel();
  const cases = precisions.flatMap((precision) =>
    batches.map(({ sequences, tokens }) => trainingCase(held, model, modelName, precision, sequences, tokens)),
  );
  return { cases, free: () => held.free() };
};

/** Another shape, for which other programs publish times. */
export const gpt2Medium: PartOf = ({ otherModel, otherName, otherTokens }) => {
  const held = new OneModel();
  const cases = precisions.map((precision) => trainingCase(held, otherModel, otherName, precision, 1, otherTokens));
  return { cases, free: () => held.free() };
};
