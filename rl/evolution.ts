// Evolution strategies: a step from rewards alone, without gradients. N members are the weights moved along Gaussians, and
// members of high reward pull the weights towards them:
//
//   member i is θ + σ·ε_i, ε_i standard normal over all parameters;  θ ← θ + α / (N·σ) · Σ_i F_i · ε_i
//
// With antithetic pairs members 2j and 2j + 1 are θ + σ·ε_j and θ − σ·ε_j. F_i is the fitness of member i: its mean reward,
// normalised over the members. No Gaussian is stored: each is drawn again from its counters, once for the member's weights
// and once for the step. So the previous step, for the cosine between two steps, is known from its coefficients.
//
// Sources: Salimans et al. 2017, "Evolution Strategies as a Scalable Alternative to Reinforcement Learning"; z-scores as in
// Qiu et al. 2025, "Evolution Strategies at Scale: LLM Fine-Tuning Beyond Reinforcement Learning".
import {
  addDirection,
  type DirectionStep,
  empty,
  NumericalError,
  type ParameterArena,
  philoxKey,
  rowProducts,
  scopeAsync,
  type WeightedStream,
  wordsOf,
  writeWeightedNormals,
} from "../engine/index.ts";
import { meanOf, standardDeviation } from "./advantage.ts";

export const fitnessKinds = ["centred-ranks", "z-score"] as const;
export type FitnessKind = (typeof fitnessKinds)[number];

export interface EvolutionSettings {
  /** N. */
  readonly population: number;
  /** σ. */
  readonly sigma: number;
  /** α. */
  readonly learningRate: number;
  readonly antithetic: boolean;
  readonly fitness: FitnessKind;
}

/** The members' Gaussians at a step: key number i belongs to member i, or to the pair of members 2i and 2i + 1. */
export interface Generation {
  readonly seed: number;
  readonly step: number;
  readonly settings: EvolutionSettings;
}

/** The label of a stream is `evolve|SEED|STEP|NUMBER`. */
function keyOf({ seed, step }: Generation, number: number): ReturnType<typeof philoxKey> {
  return philoxKey(`evolve|${seed}|${step}|${number}`);
}

/** The step from θ to a member: ±σ times its Gaussian. */
export function stepToMember(generation: Generation, member: number): DirectionStep {
  const { antithetic, sigma } = generation.settings;
  const number = antithetic ? Math.floor(member / 2) : member;
  const sign = antithetic && member % 2 === 1 ? -1 : 1;
  return { kind: "gaussian", key: keyOf(generation, number), coefficient: sign * sigma };
}

/**
 * Fitness from mean rewards:
 * - `centred-ranks`  (rank − 1) / (n − 1) − ½ with rank 1 for the lowest: −½ to ½ (Salimans et al. 2017). Members of equal
 *                    reward get their mean rank; in the authors' program the order of the list decides
 * - `z-score`        (r − mean) / s, s the population standard deviation
 *
 * All 0 if the rewards are equal. A member without a reward (null) counts nowhere and gets 0.
 * @throws Error on a reward that is not finite
 */
export function fitnessOf(kind: FitnessKind, rewards: readonly (number | null)[]): number[] {
  const known = rewards.filter((reward) => reward !== null);
  const broken = known.find((reward) => !Number.isFinite(reward));
  if (broken !== undefined) throw new Error(`fitness: expected finite rewards, got ${broken}`);
  const spread = standardDeviation(known, "population");
  if (spread === 0) return rewards.map(() => 0);
  const mean = meanOf(known);
  return rewards.map((reward) => {
    if (reward === null) return 0;
    if (kind === "z-score") return (reward - mean) / spread;
    const below = known.filter((other) => other < reward).length;
    const equal = known.filter((other) => other === reward).length;
    return (below + (equal - 1) / 2) / (known.length - 1) - 0.5;
  });
}

/**
 * The step as a sum of Gaussians: α / (N·σ) · F_i for each stream, or α / (N·σ) · (F_2j − F_2j+1) for each pair. In the order
 * of the members, which is the order of the sum.
 */
export function streamsOf(generation: Generation, fitness: readonly number[]): WeightedStream[] {
  const { population, sigma, learningRate, antithetic } = generation.settings;
  const factor = learningRate / (population * sigma);
  return Array.from({ length: antithetic ? population / 2 : population }, (_, number) => ({
    key: keyOf(generation, number),
    coefficient: factor * (antithetic ? fitness[2 * number] - fitness[2 * number + 1] : fitness[number]),
  }));
}

export interface EvolutionUpdate {
  /** ‖Δθ‖ over all parameters. */
  readonly norm: number;
  /** ⟨Δθ, previous Δθ⟩ / (‖Δθ‖·‖previous Δθ‖); null if there is no previous step, or one of the two is 0. */
  readonly cosine: number | null;
}

/**
 * θ ← θ + Σ_k c_k · g_k, one tensor after another. Each sum is f32 in the streams' order, then one fma adds it to θ. A step
 * whose coefficients are all 0 changes no bit.
 * @param streams   of this step
 * @param previous  of the step before, for the cosine; null if there is none
 * @throws NumericalError when the step is not finite in f32; the weights may have changed then
 */
export async function applyUpdate(
  arena: ParameterArena,
  streams: readonly WeightedStream[],
  previous: readonly WeightedStream[] | null,
): Promise<EvolutionUpdate> {
  // Adding 0 would lose the sign of −0.
  if (streams.every(({ coefficient }) => coefficient === 0)) return { norm: 0, cosine: null };
  arena.backend.phase?.("evolution strategies: update");
  let [square, product, previousSquare] = [0, 0, 0];
  for (const name of arena.names) {
    const weight = arena.value(name);
    await scopeAsync(async () => {
      const words = wordsOf(name);
      const draw = (of: readonly WeightedStream[]) => {
        const y = empty(arena.backend, weight.shape, arena.dtype, "evolution step");
        writeWeightedNormals(y, words, of);
        return y;
      };
      const update = draw(streams);
      square += sumOf(await rowProducts(update, update));
      if (previous !== null) {
        const before = draw(previous);
        product += sumOf(await rowProducts(update, before));
        previousSquare += sumOf(await rowProducts(before, before));
      }
      if (Number.isFinite(square)) addDirection(weight, update, 1);
    });
    if (!Number.isFinite(square))
      throw new NumericalError(
        `evolution strategies: the step of ${name} is not a finite number. Continue from the last checkpoint with a lower ` +
          "--train.evolve.learningRate.",
      );
  }
  arena.valuesChanged();
  const lengths = Math.sqrt(square) * Math.sqrt(previousSquare);
  return { norm: Math.sqrt(square), cosine: lengths === 0 ? null : product / lengths };
}

function sumOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum;
}
