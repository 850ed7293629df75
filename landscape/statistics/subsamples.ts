// Intervals of statistics that jump when one prompt is deleted, such as the overlap of two sets of cells. For them the
// delete-one jackknife fails: simulated coverage falls to 3%. Here many prompts are deleted at once, at random: half of
// them in some draws, a quarter in the others. The variance is (n − d)/d times the mean squared deviation of the draws,
// d the number deleted (Shao & Wu 1989, "A general theory for jackknife variance estimation"). Halves are too narrow for
// large overlaps and quarters for small ones, so the larger of the two is used (docs/metrics.md has the simulation).
//
// The draws depend on the numbers of prompts alone. So the same prompts are deleted at every checkpoint, and
// differences and trends are paired.
import { SettingsError } from "../../engine/host/index.ts";
import { studentQuantile } from "../../rl/index.ts";
import { LEAST_PROMPTS } from "./estimands.ts";
import type { Estimate } from "./intervals.ts";
import { type SimulationRandom, simulationRandom } from "./random.ts";
import { spread } from "./statistics.ts";

const DRAWS = 100;
const SHARES_DELETED = [0.5, 0.25] as const;

/** The sets of prompts that are kept in each draw: for every share deleted, DRAWS times a mark per prompt. */
export interface SubsamplePlan {
  readonly prompts: number;
  /** Of them in both sets of completions. */
  readonly shared: number;
  readonly kept: readonly (readonly Uint8Array[])[];
}

/**
 * Prompts of both sets and the others are deleted in the same share, so no draw is without reference prompts.
 * @param rollouts   prompts with fresh rollouts
 * @param reference  prompts with reference completions; both sets are the first prompts of one list
 */
export function subsamplePlan(rollouts: number, reference: number): SubsamplePlan {
  const prompts = Math.max(rollouts, reference);
  const shared = Math.min(rollouts, reference);
  const random = simulationRandom(prompts, shared);
  const kept = SHARES_DELETED.map((share) =>
    Array.from({ length: DRAWS }, () => {
      const marks = new Uint8Array(prompts).fill(1);
      deleteFrom(marks, 0, shared, share, random);
      deleteFrom(marks, shared, prompts, share, random);
      return marks;
    }),
  );
  return { prompts, shared, kept };
}

function deleteFrom(marks: Uint8Array, start: number, end: number, share: number, random: SimulationRandom): void {
  const order = Array.from({ length: end - start }, (_, k) => start + k);
  const deleted = Math.round(share * order.length);
  for (let k = 0; k < deleted; k++) {
    const other = k + random.integer(order.length - k);
    [order[k], order[other]] = [order[other], order[k]];
    marks[order[k]] = 0;
  }
}

/** A statistic's value of all prompts, and in each draw of the plan. */
export interface Subsampled {
  readonly prompts: number;
  readonly shared: number;
  readonly value: number;
  readonly draws: readonly (readonly number[])[];
  /** The smallest step of the statistic; an interval reaches at least half of it to both sides. */
  readonly resolution: number;
}

/** Several statistics of the same prompts at once. @param statistics  of the prompts marked 1 */
export function subsampled(
  { prompts, shared, kept }: SubsamplePlan,
  resolution: number,
  statistics: (kept: Uint8Array) => readonly number[],
): Subsampled[] {
  const values = statistics(new Uint8Array(prompts).fill(1));
  const draws = kept.map((sets) => sets.map(statistics));
  return values.map((value, s) => ({
    prompts,
    shared,
    value,
    draws: draws.map((of) => of.map((drawn) => drawn[s])),
    resolution,
  }));
}

/**
 * Σ_k weights_k · statistic_k, paired draw by draw.
 * @throws SettingsError when they are not of the same prompts
 */
export function combineSubsampled(of: readonly Subsampled[], weights: readonly number[]): Subsampled {
  const [{ prompts, shared, draws }] = of;
  const other = of.find((one) => one.prompts !== prompts || one.shared !== shared);
  if (other !== undefined)
    throw new SettingsError(
      `paired comparison: expected the same prompts everywhere, got ${prompts} (${shared} in both sets) and ` +
        `${other.prompts} (${other.shared}). Sweep both with the same landscape.rollouts and landscape.reference.`,
    );
  const sum = (value: (one: Subsampled) => number): number =>
    of.reduce((total, one, k) => total + weights[k] * value(one), 0);
  return {
    prompts,
    shared,
    value: sum((one) => one.value),
    draws: draws.map((drawn, share) => drawn.map((_, k) => sum((one) => one.draws[share][k]))),
    resolution: Math.hypot(...of.map((one, k) => weights[k] * one.resolution)),
  };
}

/** The 95% interval, Student's t with one degree of freedom less than prompts; none below LEAST_PROMPTS. */
export function subsampleInterval({ prompts, shared, value, draws, resolution }: Subsampled): Estimate {
  if (Math.min(prompts, shared) < LEAST_PROMPTS) return { value, low: null, high: null, standardError: null };
  const variances = draws.map((drawn, k) => {
    const share = SHARES_DELETED[k];
    return (spread(drawn).populationDeviation ** 2 * (1 - share)) / share;
  });
  const standardError = Math.sqrt(Math.max(...variances));
  const reach = Math.max(studentQuantile(0.975, prompts - 1) * standardError, resolution / 2);
  return { value, low: value - reach, high: value + reach, standardError };
}
