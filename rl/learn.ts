// One optimiser step on a batch of sequences: forward and backward in micro-batches, then AdamW. The loss is a sum over
// tokens with weights that the whole batch decides, so how it is cut into micro-batches does not matter.
import {
  type AdamwSettings,
  adamwStep,
  fromArray,
  head,
  NumericalError,
  type ParameterArena,
  readTensors,
  record,
  scope,
  scopeAsync,
  surrogate,
  type Tensor,
  weightedSum,
} from "../engine/index.ts";
import { answerStates, headWeight, type Model, microBatches, type Sequence, scoredPositions } from "../model/index.ts";
import type { LossScale } from "./loss-scale.ts";

export interface TrainableModel extends Model {
  readonly weights: ParameterArena;
}

/** A sequence to learn from. */
export interface Example extends Sequence {
  /** What each of its scored tokens counts in the loss. */
  readonly tokenWeight: number;
}

/** One with what the clipped surrogate needs. */
export interface PolicyExample extends Example {
  readonly advantage: number;
  /** Log-probabilities at sampling time, entry t of token t. */
  readonly logProbs: ArrayLike<number>; // [T]
}

export interface StepOutcome {
  /** Σ tokenWeight · (−log p), or −J. */
  loss: number;
  /** Before clipping. */
  gradientNorm: number;
  /** Per scored token, in the examples' order. */
  logProbs: number[];
  entropy: number[];
  /** exp(logProb − the sampler's); only with a policy loss. */
  ratio: number[];
  /** Whether gradients overflowed in mixed precision: the weights are as they were, and the scale is lower. */
  skipped: boolean;
}

/** How a step is taken. */
export interface StepSettings {
  optimiser: AdamwSettings;
  /** Tokens in one forward and backward pass. */
  maxTokens: number;
  /** Counts from 1. */
  step: number;
  /** Keep only each layer's input for the backward pass and run the layer again there. The same bits; default false. */
  recomputeLayers?: boolean;
  /** With weights in mixed precision: the gradients' scale, which learns from each step. Default: none. */
  lossScale?: LossScale | null;
}

interface Pieces {
  loss: Tensor;
  logProbs: Tensor;
  entropy: Tensor;
  ratio: Tensor | null;
}

/** A step of supervised learning: loss = −Σ tokenWeight · log p(token). */
export async function supervisedStep(
  model: TrainableModel,
  examples: readonly Example[],
  settings: StepSettings,
): Promise<StepOutcome> {
  return optimise(model, examples, settings, (part, scored) => {
    const weights = perToken(model, part, ({ tokenWeight }) => -tokenWeight, "token weights");
    const loss = weightedSum(scored.logProbs, weights);
    return { loss, logProbs: scored.logProbs, entropy: scored.entropy, ratio: null };
  });
}

/** A GRPO step: loss = −Σ tokenWeight · min(ρA, clip(ρ, 1 − clipLow, 1 + clipHigh)·A). */
export async function policyStep(
  model: TrainableModel,
  examples: readonly PolicyExample[],
  settings: StepSettings & { clipLow: number; clipHigh: number },
): Promise<StepOutcome> {
  const { clipLow, clipHigh } = settings;
  return optimise(model, examples, settings, (part, scored) => {
    const oldLogProbs = perToken(model, part, ({ logProbs }, t) => logProbs[t], "old log-probabilities");
    const advantages = perToken(model, part, ({ advantage }) => advantage, "advantages");
    const weights = perToken(model, part, ({ tokenWeight }) => tokenWeight, "token weights");
    const { loss, ratio } = surrogate(scored.logProbs, oldLogProbs, advantages, weights, null, {
      kind: "clipped",
      clipLow,
      clipHigh,
      klCoefficient: 0,
      ratioLow: 0,
      ratioHigh: Number.MAX_VALUE,
    });
    return { loss, logProbs: scored.logProbs, entropy: scored.entropy, ratio };
  });
}

/** One number for each scored token of the examples, on the device. */
function perToken<E extends Example>(
  model: Model,
  examples: readonly E[],
  value: (example: E, t: number) => number,
  label: string,
): Tensor {
  const values = examples.flatMap((example) => scoredPositions(example).map((t) => value(example, t)));
  const dtype = model.weights.get("model.norm.weight");
  return fromArray(
    model.backend,
    values,
    [values.length],
    dtype.kind === "tensor" && dtype.tensor.dtype === "f64" ? "f64" : "f32",
    label,
  );
}

async function optimise<E extends Example>(
  model: TrainableModel,
  examples: readonly E[],
  { optimiser, maxTokens, step, recomputeLayers = false, lossScale = null }: StepSettings,
  lossOf: (part: readonly E[], scored: { logProbs: Tensor; entropy: Tensor }) => Pieces,
): Promise<StepOutcome> {
  const { weights: arena, backend, config } = model;
  const scale = lossScale?.scale ?? 1;
  return scopeAsync(async () => {
    arena.clearGradients();
    backend.phase?.("training step: forward and backward");
    const pieces: Pieces[] = [];
    for (const part of microBatches(examples, maxTokens)) {
      const found = scope(() => {
        const recording = record(() => {
          const { hidden, targets } = answerStates(model, part, 0, { recomputeLayers });
          return lossOf(part, head(hidden, headWeight(config, arena), targets, { temperature: 1 }, null));
        });
        const { loss } = recording.result;
        const seed = fromArray(backend, [scale], loss.shape, loss.dtype, "loss scale");
        recording.backward(new Map([[loss, seed]]), arena.gradients);
        return recording.result;
      });
      pieces.push(found);
      backend.flush();
    }
    backend.phase?.("training step: optimiser");
    const update = adamwStep(arena, {
      ...optimiser,
      step: lossScale?.countedStep(step) ?? step,
      losses: pieces.map(({ loss }) => loss),
      lossScale: scale,
    });
    const read = await readTensors(
      pieces.flatMap(({ loss, logProbs, entropy, ratio }) => [loss, logProbs, entropy, ...(ratio ? [ratio] : [])]),
    );
    const { gradientNorm, finite } = await update.result();
    const outcome: StepOutcome = { loss: 0, gradientNorm, logProbs: [], entropy: [], ratio: [], skipped: false };
    let next = 0;
    for (const { ratio } of pieces) {
      outcome.loss += read[next++][0];
      for (const value of read[next++]) outcome.logProbs.push(value);
      for (const value of read[next++]) outcome.entropy.push(value);
      if (ratio) for (const value of read[next++]) outcome.ratio.push(value);
    }
    if (!finite && lossScale?.canLower && Number.isFinite(outcome.loss)) {
      lossScale.stepSkipped();
      return { ...outcome, skipped: true };
    }
    if (!finite) {
      const name = await update.nameOfNonFinite();
      throw new NumericalError(
        `step ${step}: ${name === null ? "the loss" : `the gradient of ${name}`} is not a finite number. The weights are as ` +
          "they were before the step: go on from the last checkpoint with a lower --train.learningRate.",
      );
    }
    lossScale?.stepTaken();
    return outcome;
  });
}
