// One optimiser step on a batch of sequences: forward and backward in micro-batches, then AdamW. The loss is a weighted
// sum over tokens, and the weights depend on the whole batch, so the split into micro-batches does not matter.
import {
  type AdamwSettings,
  adamwStep,
  fromArray,
  NumericalError,
  type ParameterArena,
  readTensors,
  record,
  scope,
  scopeAsync,
  type Tensor,
  weightedSum,
} from "../engine/index.ts";
import { answerScores, type Model, microBatches, type Sequence, scoredPositions } from "../model/index.ts";
import type { LossScale } from "./loss-scale.ts";
import { type PolicyLoss, policyLoss } from "./policy-loss.ts";

export interface TrainableModel extends Model {
  readonly weights: ParameterArena;
}

/** A training sequence. */
export interface Example extends Sequence {
  /** The weight of each of its scored tokens in the loss. */
  readonly tokenWeight: number;
}

/** A training sequence with the inputs of the policy loss. */
export interface PolicyExample extends Example {
  readonly advantage: number;
  /** Log-probabilities at sampling time; entry t belongs to token t. */
  readonly logProbs: ArrayLike<number>; // [T]
  /** The reference's log-probabilities of the scored tokens, in order. Needed if klCoefficient is above 0. */
  readonly referenceLogProbs?: ArrayLike<number>; // [scored]
  /** 1 for the scored tokens whose policy loss and entropy count, 0 for the others. Default: all count. */
  readonly kept?: ArrayLike<number>; // [scored]
}

export interface StepOutcome {
  /** Σ tokenWeight · (−log p), or the policy loss. */
  loss: number;
  /** The global norm of the gradient before clipping. */
  gradientNorm: number;
  /** Per scored token, in the examples' order. */
  logProbs: number[];
  entropy: number[];
  /** exp(logProb − the sampler's logProb), or that of the token's sequence; only with a policy loss. */
  ratio: number[];
  /** k3 from the reference, times the ratio if the loss has it so; only with a KL coefficient. */
  penalty: number[];
  /** Whether gradients overflowed in mixed precision. Then the weights are unchanged, and the loss scale is lower. */
  skipped: boolean;
}

/** The settings of a step. */
export interface StepSettings {
  optimiser: AdamwSettings;
  /** Maximum tokens per forward and backward pass. */
  maxTokens: number;
  /** The number of the step, from 1. */
  step: number;
  /**
   * Gradient checkpointing: keep only each layer's input and run the layer again in the backward pass. Same bits;
   * default false.
   */
  recomputeLayers?: boolean;
  /** The sampling temperature: log-probabilities and entropies are at it. Default 1. */
  temperature?: number;
  /** The loss scale for weights in mixed precision, updated by each step. Default: none. */
  lossScale?: LossScale | null;
}

interface Pieces {
  loss: Tensor;
  logProbs: Tensor;
  entropy: Tensor;
  ratio: Tensor | null;
  penalty: Tensor | null;
}

/** A loss over the examples of a micro-batch. */
interface Objective<E extends Example> {
  lossOf(part: readonly E[], scored: { logProbs: Tensor; entropy: Tensor }): Pieces;
  /** Whether the gradient of these examples can differ from zero. If not, their backward pass is skipped. */
  hasGradient(part: readonly E[]): boolean;
}

/** A step of supervised learning: loss = −Σ tokenWeight · log p(token). */
export async function supervisedStep(
  model: TrainableModel,
  examples: readonly Example[],
  settings: StepSettings,
): Promise<StepOutcome> {
  return optimise(model, examples, settings, {
    hasGradient: () => true,
    lossOf: (part, { logProbs, entropy }) => {
      const weights = perToken(model, part, ({ tokenWeight }) => -tokenWeight, "token weights");
      return { loss: weightedSum(logProbs, weights), logProbs, entropy, ratio: null, penalty: null };
    },
  });
}

/**
 * A GRPO step: loss = −Σ tokenWeight · objective + klCoefficient · Σ tokenWeight · k3 − entropyCoefficient · mean entropy.
 * `loss` names the objective.
 *
 * Examples with advantage 0 have a gradient of exactly 0 unless there is a KL penalty or an entropy bonus. A micro-batch
 * with only such examples is scored without a backward pass. If a step has only such micro-batches, AdamW uses a gradient of zero: the
 * moments decay, and they and weight decay still move the weights.
 * @throws Error when there is a KL coefficient and an example has no reference log-probabilities
 */
export async function policyStep(
  model: TrainableModel,
  examples: readonly PolicyExample[],
  settings: StepSettings & { loss: PolicyLoss },
): Promise<StepOutcome> {
  const { loss: form } = settings;
  const hasPenalty = form.klCoefficient !== 0;
  const { entropyCoefficient = 0 } = form;
  const hasBonus = entropyCoefficient !== 0;
  const isKept = ({ kept }: PolicyExample, scored: number): boolean => kept === undefined || kept[scored] !== 0;
  const counted = hasBonus ? examples.reduce((sum, example) => sum + countKept(example), 0) : 0;
  return optimise(model, examples, settings, {
    hasGradient: (part) => hasPenalty || hasBonus || part.some(({ advantage }) => advantage !== 0),
    lossOf: (part, { logProbs, entropy }) => {
      const oldLogProbs = perToken(model, part, (example, t) => example.logProbs[t], "old log-probabilities");
      const advantages = perToken(
        model,
        part,
        (example, _, scored) => (isKept(example, scored) ? example.advantage : 0),
        "advantages",
      );
      const weights = perToken(model, part, ({ tokenWeight }) => tokenWeight, "token weights");
      const reference = hasPenalty ? perToken(model, part, referenceLogProb, "reference log-probabilities") : null;
      const entropyWeights = hasBonus
        ? perToken(
            model,
            part,
            (example, _, scored) => (isKept(example, scored) ? -entropyCoefficient / counted : 0),
            "entropy weights",
          )
        : null;
      const { loss, ratio, penalty } = policyLoss(
        {
          ...{ logProbs, entropy, oldLogProbs, advantages, weights, entropyWeights },
          referenceLogProbs: reference,
          lengths: part.map((example) => scoredPositions(example).length),
        },
        form,
      );
      return { loss, logProbs, entropy, ratio, penalty: hasPenalty ? penalty : null };
    },
  });
}

function countKept(example: PolicyExample): number {
  const { kept } = example;
  return kept === undefined ? scoredPositions(example).length : Array.from(kept).filter((one) => one !== 0).length;
}

function referenceLogProb({ referenceLogProbs }: PolicyExample, _t: number, scored: number): number {
  if (referenceLogProbs === undefined)
    throw new Error("policyStep: a KL coefficient needs referenceLogProbs, an example has none");
  return referenceLogProbs[scored];
}

/**
 * One number per scored token of the examples, on the device. @param value  the number of token t, the `scored`-th
 * scored one
 */
function perToken<E extends Example>(
  { backend, weights: { dtype } }: TrainableModel,
  examples: readonly E[],
  value: (example: E, t: number, scored: number) => number,
  label: string,
): Tensor {
  const values = examples.flatMap((example) => scoredPositions(example).map((t, scored) => value(example, t, scored)));
  return fromArray(backend, values, [values.length], dtype, label);
}

/**
 * The gradient of Σ tokenWeight · log p(token) at the weights, in the arena's gradients. The weights stay as they are.
 * @param model  its arena has memory for gradients
 * @param settings  `adds`: to the gradients that are there; default: replaces them
 */
export async function gradientOfLogProbs(
  model: TrainableModel,
  examples: readonly Example[],
  { maxTokens, signal, adds = false }: Pick<StepSettings, "maxTokens"> & { signal?: AbortSignal; adds?: boolean },
): Promise<void> {
  const { weights: arena, backend } = model;
  if (!adds) arena.clearGradients();
  backend.phase?.("gradient of the objective");
  for (const part of microBatches(examples, maxTokens)) {
    signal?.throwIfAborted();
    await scopeAsync(async () => {
      const recording = record(() => {
        const { logProbs } = answerScores(model, part, { temperature: 1 });
        const weights = perToken(model, part, ({ tokenWeight }) => tokenWeight, "token weights");
        return weightedSum(logProbs, weights);
      });
      const { result } = recording;
      const seed = fromArray(backend, [1], result.shape, result.dtype, "seed");
      recording.backward(new Map([[result, seed]]), arena.gradients);
      // Its value is not needed; the read bounds the work in the queue.
      await readTensors([result]);
    });
  }
  arena.completeGradients();
}

async function optimise<E extends Example>(
  model: TrainableModel,
  examples: readonly E[],
  { optimiser, maxTokens, step, temperature = 1, recomputeLayers = false, lossScale = null }: StepSettings,
  { lossOf, hasGradient }: Objective<E>,
): Promise<StepOutcome> {
  const { weights: arena, backend } = model;
  const scale = lossScale?.scale ?? 1;
  return scopeAsync(async () => {
    arena.clearGradients();
    backend.phase?.("training step: forward and backward");
    const pieces: Pieces[] = [];
    for (const part of microBatches(examples, maxTokens)) {
      const forward = (): Pieces => lossOf(part, answerScores(model, part, { temperature, recomputeLayers }));
      pieces.push(
        scope(() => {
          if (!hasGradient(part)) return forward();
          const recording = record(forward);
          const { loss } = recording.result;
          const seed = fromArray(backend, [scale], loss.shape, loss.dtype, "loss scale");
          recording.backward(new Map([[loss, seed]]), arena.gradients);
          return recording.result;
        }),
      );
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
      pieces.flatMap(({ loss, logProbs, entropy, ratio, penalty }) => [
        loss,
        logProbs,
        entropy,
        ...(ratio ? [ratio] : []),
        ...(penalty ? [penalty] : []),
      ]),
    );
    const { gradientNorm, finite } = await update.result();
    const outcome: StepOutcome = {
      loss: 0,
      gradientNorm,
      logProbs: [],
      entropy: [],
      ratio: [],
      penalty: [],
      skipped: false,
    };
    let next = 0;
    for (const { ratio, penalty } of pieces) {
      outcome.loss += read[next++][0];
      for (const value of read[next++]) outcome.logProbs.push(value);
      for (const value of read[next++]) outcome.entropy.push(value);
      if (ratio) for (const value of read[next++]) outcome.ratio.push(value);
      if (penalty) for (const value of read[next++]) outcome.penalty.push(value);
    }
    if (!finite && lossScale?.canLower && Number.isFinite(outcome.loss)) {
      lossScale.stepSkipped();
      return { ...outcome, skipped: true };
    }
    if (!finite) {
      const name = await update.nameOfNonFinite();
      throw new NumericalError(
        `optimiser step ${step}: ${name === null ? "the loss" : `the gradient of ${name}`} is not a finite number. The weights are as ` +
          "they were before the step: continue from the last checkpoint with a lower --train.learningRate.",
      );
    }
    lossScale?.stepTaken();
    return outcome;
  });
}
