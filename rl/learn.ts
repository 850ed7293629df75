// One optimiser step on a batch of sequences: forward and backward in micro-batches, then AdamW. The loss is a sum over
// tokens with weights that the whole batch decides, so how it is cut into micro-batches does not matter.
import {
  type AdamwSettings,
  adamwStep,
  backward,
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

/** One with what the policy loss needs. */
export interface PolicyExample extends Example {
  readonly advantage: number;
  /** Log-probabilities at sampling time, entry t of token t. */
  readonly logProbs: ArrayLike<number>; // [T]
  /** The reference's log-probabilities of the scored tokens, in order. Needed where klCoefficient is above 0. */
  readonly referenceLogProbs?: ArrayLike<number>; // [scored]
}

/** What a GRPO step minimises; the formulas are at `surrogate` (engine/ops/loss). */
export interface PolicyLoss {
  readonly kind: "clipped" | "masked-importance";
  /** Of "clipped". */
  readonly clipLow: number;
  readonly clipHigh: number;
  /** Of "masked-importance". */
  readonly ratioLow: number;
  readonly ratioHigh: number;
  /** Weight of the k3 divergence from the reference; 0 for none, and no reference is needed. */
  readonly klCoefficient: number;
}

/** The policy loss that the settings of training name. */
export function policyLossOf(training: Omit<PolicyLoss, "kind"> & { readonly loss: PolicyLoss["kind"] }): PolicyLoss {
  const { loss, clipLow, clipHigh, ratioLow, ratioHigh, klCoefficient } = training;
  return { kind: loss, clipLow, clipHigh, ratioLow, ratioHigh, klCoefficient };
}

export interface StepOutcome {
  /** Σ tokenWeight · (−log p), or the policy loss. */
  loss: number;
  /** Before clipping. */
  gradientNorm: number;
  /** Per scored token, in the examples' order. */
  logProbs: number[];
  entropy: number[];
  /** exp(logProb − the sampler's); only with a policy loss. */
  ratio: number[];
  /** k3 from the reference; only with a KL coefficient. */
  penalty: number[];
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
  penalty: Tensor | null;
}

/** A loss over examples, as a micro-batch computes it. */
interface Objective<E extends Example> {
  lossOf(part: readonly E[], scored: { logProbs: Tensor; entropy: Tensor }): Pieces;
  /** Whether the gradient of these examples can be anything but zero. Where not, their backward pass is skipped. */
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
      return { loss: weightedSum({ x: logProbs, weights }, {}).y, logProbs, entropy, ratio: null, penalty: null };
    },
  });
}

/**
 * A GRPO step: loss = −Σ tokenWeight · objective + klCoefficient · Σ tokenWeight · k3, of the kind that `loss` names.
 *
 * Examples whose advantage is 0 have a gradient of exactly 0 unless there is a KL penalty. A micro-batch of such examples
 * alone is scored without a backward pass; a step of such micro-batches alone is AdamW's step for a zero gradient, which
 * lets the moments decay and still moves the weights by them and by weight decay.
 * @throws Error when there is a KL coefficient, and an example without reference log-probabilities
 */
export async function policyStep(
  model: TrainableModel,
  examples: readonly PolicyExample[],
  settings: StepSettings & { loss: PolicyLoss },
): Promise<StepOutcome> {
  const { loss: form } = settings;
  const hasPenalty = form.klCoefficient !== 0;
  return optimise(model, examples, settings, {
    hasGradient: (part) => hasPenalty || part.some(({ advantage }) => advantage !== 0),
    lossOf: (part, { logProbs, entropy }) => {
      const inputs = {
        logProbs,
        oldLogProbs: perToken(model, part, (example, t) => example.logProbs[t], "old log-probabilities"),
        advantages: perToken(model, part, ({ advantage }) => advantage, "advantages"),
        weights: perToken(model, part, ({ tokenWeight }) => tokenWeight, "token weights"),
        referenceLogProbs: hasPenalty ? perToken(model, part, referenceLogProb, "reference log-probabilities") : null,
      };
      const { loss, ratio, penalty } = surrogate(inputs, form);
      return { loss, logProbs, entropy, ratio, penalty: hasPenalty ? penalty : null };
    },
  });
}

function referenceLogProb({ referenceLogProbs }: PolicyExample, _t: number, scored: number): number {
  if (referenceLogProbs === undefined)
    throw new Error("policyStep: a KL coefficient needs referenceLogProbs, an example has none");
  return referenceLogProbs[scored];
}

/** One number for each scored token of the examples, on the device. @param value  of token t, the `scored`-th scored one */
function perToken<E extends Example>(
  { backend, weights: { dtype } }: TrainableModel,
  examples: readonly E[],
  value: (example: E, t: number, scored: number) => number,
  label: string,
): Tensor {
  const values = examples.flatMap((example) => scoredPositions(example).map((t, scored) => value(example, t, scored)));
  return fromArray(backend, values, [values.length], dtype, label);
}

async function optimise<E extends Example>(
  model: TrainableModel,
  examples: readonly E[],
  { optimiser, maxTokens, step, recomputeLayers = false, lossScale = null }: StepSettings,
  { lossOf, hasGradient }: Objective<E>,
): Promise<StepOutcome> {
  const { weights: arena, backend, config } = model;
  const scale = lossScale?.scale ?? 1;
  return scopeAsync(async () => {
    arena.clearGradients();
    backend.phase?.("training step: forward and backward");
    const pieces: Pieces[] = [];
    for (const part of microBatches(examples, maxTokens)) {
      const forward = (): Pieces => {
        const { hidden, targets } = answerStates(model, part, 0, { recomputeLayers });
        return lossOf(part, head(hidden, headWeight(config, arena), targets, { temperature: 1 }, null));
      };
      pieces.push(
        scope(() => {
          if (!hasGradient(part)) return forward();
          const recording = record(forward);
          const { loss } = recording.result;
          const seed = fromArray(backend, [scale], loss.shape, loss.dtype, "loss scale");
          backward(recording, new Map([[loss, seed]]), arena.gradients);
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
          "they were before the step: go on from the last checkpoint with a lower --train.learningRate.",
      );
    }
    lossScale?.stepTaken();
    return outcome;
  });
}
