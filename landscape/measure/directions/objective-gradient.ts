// The gradient of J at a checkpoint θ, on the checkpoint's own completions: there every ratio is 1 and no clip acts, so
//   ∇J(θ) = Σ_i w_i · A_i · Σ_t ∇ log π_θ(token t of completion i)
// with the advantages A of the landscape and the token weights w of train.normalisation. It points to where J grows.
//
// «As AdamW would» is the step that AdamW takes from θ with this gradient, without learning rate and weight decay:
//   g = −∇J·min(1, maxGradientNorm/‖∇J‖),  m = β₁m₀ + (1 − β₁)g,  v = β₂v₀ + (1 − β₂)g²
//   direction = −(m/(1 − β₁ᵗ)) / (√(v/(1 − β₂ᵗ)) + ε)
// with the run's own moments m₀, v₀ and number of updates t − 1 if its state is of this very step. Otherwise they are 0: the
// direction is that of a first step, which is close to the sign of ∇J.
import { NumericalError, norm, type ParameterArena, perturbIntoSlot } from "../../../engine/index.ts";
import { type LanguageModel, makeWeights } from "../../../model/index.ts";
import { type Example, gradientOfLogProbs, tokenWeights } from "../../../rl/index.ts";
import type { StudySettings } from "../../settings.ts";
import type { Reference } from "../reference.ts";
import { sumOf } from "./direction.ts";

type Train = StudySettings["train"];

/** Gradients of all parameters on the device. */
export interface ObjectiveGradient {
  readonly arena: ParameterArena;
  /** ‖∇J‖ over all parameters. */
  readonly norm: number;
  free(): void;
}

export interface GradientJob {
  readonly config: LanguageModel;
  readonly arena: ParameterArena;
  readonly reference: Reference;
  readonly train: Train;
  /** Tokens per forward and backward pass. */
  readonly maxTokens: number;
  readonly signal?: AbortSignal;
  /** Whether no number is real: memory is planned. */
  readonly isRehearsal?: boolean;
}

/**
 * Allocates the weights once more, with gradients, until it is freed.
 * @throws NumericalError when the gradient is 0 or not finite
 */
export async function objectiveGradient(job: GradientJob): Promise<ObjectiveGradient> {
  const { config, arena: weights, reference, maxTokens, signal } = job;
  const arena = makeWeights(weights.backend, config, { gradients: true, dtype: weights.dtype });
  try {
    for (const name of weights.names)
      perturbIntoSlot(weights.value(name), { rows: arena.value(name), panels: null }, unmoved);
    arena.valuesChanged();
    await gradientOfLogProbs({ backend: weights.backend, config, weights: arena }, examplesOf(reference, job), {
      maxTokens,
      signal,
    });
    const norms: number[] = [];
    for (const name of arena.names) norms.push(await norm(arena.gradient(name)));
    const length = Math.sqrt(sumOf(norms.map((one) => one ** 2)));
    if (length > 0 && Number.isFinite(length)) return { arena, norm: length, free: () => arena.free() };
    throw new NumericalError(
      length === 0
        ? "The gradient of J is 0: within every prompt the checkpoint's completions have equal rewards, so all advantages are 0. " +
            "Raise landscape.reference.prompts or rollouts, or choose another kind of direction (landscape.directions)."
        : "The gradient of J is not a finite number. Choose another kind of direction (landscape.directions).",
    );
  } catch (thrown) {
    arena.free();
    throw thrown;
  }
}

const unmoved = { deltaKey: [0, 0], etaKey: [0, 0], nameWords: [0, 0], a: 0, b: 0 } as const;

/** The completions that count, each token with the weight w·A. */
function examplesOf({ rollouts, advantages, rolloutsPerPrompt }: Reference, job: GradientJob): Example[] {
  const weights = tokenWeights(
    job.train.normalisation,
    rollouts.map(({ tokens }, i) => ({ tokens, group: Math.floor(i / rolloutsPerPrompt) })),
    job.train.maxNewTokens,
  );
  return rollouts
    .map(({ ids, mask }, i) => ({ ids, mask, tokenWeight: job.isRehearsal ? 1 : weights[i] * advantages[i] }))
    .filter(({ tokenWeight }) => tokenWeight !== 0);
}

/** Moments before the step, as `openMoments` gives them; null if they are 0. */
export interface MomentsBefore {
  /** Updates that AdamW has made. */
  readonly updates: number;
  read(name: string): Promise<{ moment1: ArrayLike<number>; moment2: ArrayLike<number> }>;
}

/**
 * The direction of AdamW's step of one tensor, in float64.
 * @param gradient  of J
 * @param norm      ‖∇J‖ over all parameters, for clipping
 */
export async function adamwDirection(
  name: string,
  gradient: ArrayLike<number>,
  norm: number,
  { beta1, beta2, epsilon, maxGradientNorm }: Pick<Train, "beta1" | "beta2" | "epsilon" | "maxGradientNorm">,
  before: MomentsBefore | null,
): Promise<Float64Array> {
  const updates = (before?.updates ?? 0) + 1;
  const { moment1, moment2 } = (await before?.read(name)) ?? { moment1: null, moment2: null };
  const clip = Math.min(1, maxGradientNorm / (norm + 1e-6));
  return Float64Array.from(gradient, (one, i) => {
    const g = -clip * one;
    const m = beta1 * (moment1?.[i] ?? 0) + (1 - beta1) * g;
    const v = beta2 * (moment2?.[i] ?? 0) + (1 - beta2) * g * g;
    return -(m / (1 - beta1 ** updates)) / (Math.sqrt(v / (1 - beta2 ** updates)) + epsilon);
  });
}
