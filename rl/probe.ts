// How fast an adapter does the work of a run: a small piece of it is run and timed. Generation, scoring and training have
// different rates, because a decode step reads all weights for a few rows, and a backward pass does twice the work of
// its forward pass.
//
// The piece runs on weights of zero: the same kernels at the same shapes, whatever the values. If it would take too long
// or does not fit, one product of the model is timed instead, and the rate of its operations stands for everything.
import { formatDuration } from "../engine/host/index.ts";
import { type Backend, fromArray, linear, OutOfMemoryError, scope, sizeOf } from "../engine/index.ts";
import { generate, type LanguageModel, makeWeights, type Sequence, score, type WeightOptions } from "../model/index.ts";
import { policyStep, type TrainableModel } from "./learn.ts";
import { policyLossOf } from "./policy-loss.ts";
import type { TrainValues } from "./training-settings.ts";
import { attentionFlops, forwardFlops, headFlops } from "./work.ts";

/** A training step on sequences, each with a mask of its answers. */
export type TrainingProbe = (model: TrainableModel, sequences: readonly Required<Sequence>[]) => Promise<unknown>;

/** GRPO's step as a run with these settings takes it. */
export function policyProbe(
  train: TrainValues,
  { maxTokens, recompute }: { readonly maxTokens: number; readonly recompute: boolean },
): TrainingProbe {
  const { beta1, beta2, epsilon, weightDecay, maxGradientNorm, learningRate, temperature } = train;
  return (model, sequences) =>
    policyStep(
      model,
      sequences.map((sequence) => ({
        ...sequence,
        logProbs: new Float32Array(sequence.ids.length),
        // Not 0: with advantages of 0 there would be no backward pass.
        advantage: 1,
        tokenWeight: 0,
        referenceLogProbs: new Float32Array(sequence.ids.length),
      })),
      {
        optimiser: { beta1, beta2, epsilon, weightDecay, maxGradientNorm, learningRate },
        ...{ maxTokens, recomputeLayers: recompute, step: 1, temperature, loss: policyLossOf(train) },
      },
    );
}

/** Sizes of the real work that the piece is cut from. */
export interface WorkSizes {
  /** Conversations that are generated at the same time. */
  readonly rows: number;
  /** Tokens of a forward pass, and of a training pass. */
  readonly tokens: number;
  readonly trainTokens: number;
  /** Tokens of a typical conversation, and how many of them are its prompt. */
  readonly conversation: number;
  readonly prompt: number;
  readonly recompute: boolean;
  /** Trains on one micro-batch (`policyProbe` for GRPO); null if nothing is trained. */
  readonly train: TrainingProbe | null;
  readonly precision: NonNullable<WeightOptions["precision"]>;
}

/** Operations per second; a multiply-add is two. */
export interface WorkRates {
  /** Decode steps of generation. */
  readonly decode: number;
  /** Forward passes over prompts and for scoring. */
  readonly forward: number;
  /** Forward and backward passes, with the update. */
  readonly training: number;
  /** What the rates rest on, in a sentence. */
  readonly basis: string;
}

/** Longest time that the piece may take by the product's rate, seconds. */
const mostSeconds = 12;
/** Decode steps that are timed. */
const steps = 8;

/**
 * @param memoryFits  whether the real work fits the adapter's memory; if not, only the product is timed
 * @throws the signal's reason once it is aborted
 */
export async function probeRates(
  backend: Backend,
  config: LanguageModel,
  sizes: WorkSizes,
  memoryFits: boolean,
  signal: AbortSignal,
): Promise<WorkRates> {
  const [manyRows, fewRows] = [Math.min(sizes.tokens, 512), Math.min(sizes.rows, 512)];
  const many = await productRate(backend, config, manyRows);
  signal.throwIfAborted();
  const few = fewRows === manyRows ? many : await productRate(backend, config, fewRows);
  signal.throwIfAborted();
  const product = { decode: few.rate, forward: many.rate, training: many.rate };
  const restingOn = (why: string): WorkRates => ({
    ...product,
    basis:
      `the rate of one product of the model, ${many.what}: ${(many.rate / 1e9).toFixed(1)} GFLOP/s ` +
      `(${(few.rate / 1e9).toFixed(1)} at ${few.rows} rows, as in a decode step). ${why} Attention, sampling and all else are slower than products, ` +
      "so the real time may be several times longer.",
  });
  const expected = (2 * workOfPiece(config, sizes)) / many.rate;
  if (!memoryFits) return restingOn("The work itself does not fit the memory here.");
  if (expected > mostSeconds)
    return restingOn(`A piece of the work itself would take about ${formatDuration(1000 * expected)}.`);
  try {
    const began = performance.now();
    const measured = await measurePiece(backend, config, sizes, signal);
    return {
      ...measured,
      basis:
        `a piece of the work itself, run on this adapter in ${formatDuration(performance.now() - began)}: ${steps} decode steps of ` +
        `${sizes.rows} conversations, a forward pass${sizes.train === null ? "" : " and a training pass"}, on weights of zero.`,
    };
  } catch (thrown) {
    if (!(thrown instanceof OutOfMemoryError)) throw thrown;
    return restingOn("The work itself does not fit the memory here.");
  }
}

/** Operations of everything that `measurePiece` times, once. */
function workOfPiece(
  config: LanguageModel,
  { rows, tokens, trainTokens, conversation, prompt, train }: WorkSizes,
): number {
  const perToken = forwardFlops(config) + headFlops(config) + attentionFlops(config, conversation);
  const generated = rows * (prompt + 2 * steps);
  return perToken * (generated + tokens + (train === null ? 0 : 4 * trainTokens));
}

interface ProductRate {
  readonly rate: number;
  readonly rows: number;
  readonly what: string;
}

/** Times y = x · Wᵀ with the largest weight of the layers. */
async function productRate(backend: Backend, config: LanguageModel, rows: number): Promise<ProductRate> {
  const [shape] = [...config.parameters().values()]
    .filter(({ role }) => role === "linear")
    .map(({ shape: one }) => one)
    .sort((one, other) => sizeOf(other) - sizeOf(one));
  const [out, width] = shape;
  const x = fromArray(backend, new Float32Array(rows * width), [rows, width], "f32", "probe: rows");
  const weight = fromArray(backend, new Float32Array(out * width), [out, width], "f32", "probe: weight");
  const run = (times: number): void => {
    for (let i = 0; i < times; i++) scope(() => void linear(x, weight, null));
  };
  try {
    const timed = async (times: number): Promise<number> => {
      const began = performance.now();
      run(times);
      await backend.idle();
      return (performance.now() - began) / 1000;
    };
    await timed(1); // compiles
    let times = 1;
    let seconds = await timed(times);
    while (seconds < 0.2 && times < 4096) {
      times *= 2;
      seconds = await timed(times);
    }
    const best = Math.min(seconds, await timed(times), await timed(times));
    return { rate: (2 * rows * out * width * times) / best, rows, what: `${rows} × ${width} × ${out}` };
  } finally {
    x.free();
    weight.free();
  }
}

async function measurePiece(
  backend: Backend,
  config: LanguageModel,
  sizes: WorkSizes,
  signal: AbortSignal,
): Promise<Omit<WorkRates, "basis">> {
  const { rows, tokens, trainTokens, conversation, prompt, train, precision } = sizes;
  const weights = makeWeights(backend, config, { trainable: train !== null, precision });
  const model = { backend, config, weights };
  try {
    const timed = async (work: () => Promise<unknown>): Promise<number> => {
      signal.throwIfAborted();
      const began = performance.now();
      await work();
      await backend.idle();
      return (performance.now() - began) / 1000;
    };
    const decode = (newTokens: number) => (): Promise<void> =>
      generate(
        model,
        Array.from({ length: rows }, (_, rollout) => ({
          policy: 0,
          prompt: new Array<number>(prompt).fill(0),
          noise: { rollout, prompt: 0 },
          expectedTokens: 2 * steps,
          answered: () => null,
        })),
        { maxNewTokens: newTokens, temperature: 1, noiseKey: [0, 0], stopIds: [], maxRows: rows, maxTokens: tokens },
      );
    await decode(2 * steps)(); // compiles
    const fewer = await timed(decode(steps));
    const more = await timed(decode(2 * steps));
    const decodeSeconds = Math.max(more - fewer, more / 100);
    const perStep = rows * (forwardFlops(config) + headFlops(config) + attentionFlops(config, prompt + steps));

    const sequences = (total: number) =>
      Array.from({ length: Math.max(1, Math.floor(total / conversation)) }, () => ({
        ids: new Uint32Array(conversation),
        mask: Array.from({ length: conversation }, (_, t) => (t < prompt ? 0 : 1)),
      }));
    const flopsOf = (count: number): number =>
      count *
      (conversation * (forwardFlops(config) + attentionFlops(config, conversation / 2)) +
        (conversation - prompt) * headFlops(config));
    const scored = sequences(tokens);
    const forward = (): Promise<unknown> => score(model, scored, { temperature: 1, maxTokens: tokens });
    await forward();
    const forwardSeconds = await timed(forward);
    const rates = {
      decode: (steps * perStep) / decodeSeconds,
      forward: flopsOf(scored.length) / forwardSeconds,
    };
    if (train === null) return { ...rates, training: rates.forward / 3 };
    const examples = sequences(trainTokens);
    const learn = (): Promise<unknown> => train(model, examples);
    await learn();
    const trainSeconds = await timed(learn);
    return { ...rates, training: (trainingShare(sizes.recompute) * flopsOf(examples.length)) / trainSeconds };
  } finally {
    weights.free();
  }
}

/** Operations of forward and backward pass, in forward passes. */
export const trainingShare = (recompute: boolean): number => (recompute ? 4 : 3);
