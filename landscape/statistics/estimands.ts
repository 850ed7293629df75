// What is estimated from per-prompt maps (prompt-maps.ts). Two estimands of a slice:
//   r    the correlation of the two mean maps at this number of prompts and rollouts: rollout noise pulls it towards 0;
//   r∞   C_KR / √(C_KK · C_RR), C_XY the mean over pairs of *different* prompts i ≠ j of Σ_cells X̃_i · Ỹ_j
//        (tilde: centred over cells). Noise of different prompts is independent, so it drops out of every C: r∞ is what
//        r tends to with ever more prompts. It can pass ±1, and has no value where C_RR ≤ 0 (or C_KK): the map's spread
//        drowns in the noise.
// intervals.ts gives them intervals, and has the rule for when a correlation counts as determined.
import { SettingsError } from "../../engine/host/index.ts";
import {
  centred,
  centredInRings,
  moment,
  type Projection,
  type PromptMaps,
  rounding,
  summed,
  sumOfMaps,
} from "./prompt-maps.ts";
import { mean } from "./statistics.ts";

/** Fewer prompts than this get no interval: simulated coverage below it is not reliable (docs/metrics.md). */
export const LEAST_PROMPTS = 8;
/** The same for r and other correlations of the mean maps, whose intervals are reliable sooner. */
export const LEAST_PROMPTS_OF_MEANS = 3;

/** An estimate that can be computed without prompt `deleted` (or with all: NONE); null if it is undetermined. */
export interface Estimand {
  /** Distinct prompts that can be deleted. */
  prompts: number;
  /** Prompts of the smaller of the two sets that it is made of; `prompts` unless given. */
  fewest?: number;
  /** A correlation of fewer prompts than this gets no interval (intervals.ts); LEAST_PROMPTS_OF_MEANS unless given. */
  leastPrompts?: number;
  at(deleted: number): number | null;
}

/**
 * Correlations of two sets of maps after a projection, from sums taken once. "all": of the mean maps, as measured (r).
 * "pairs": over different prompts only (r∞).
 */
export function mapCorrelations(
  x: readonly Float64Array[],
  y: readonly Float64Array[],
  projection: Projection,
): { readonly all: Estimand; readonly pairs: Estimand } {
  const projectedX = summed(x.map(projection));
  const projectedY = summed(y.map(projection));
  const xx = moment(projectedX, projectedX);
  const yy = moment(projectedY, projectedY);
  const xy = moment(projectedX, projectedY);
  const leastX = rounding(x);
  const leastY = rounding(y);
  const estimand = (kind: "all" | "pairs"): Estimand => ({
    prompts: Math.max(x.length, y.length),
    fewest: Math.min(x.length, y.length),
    leastPrompts: kind === "pairs" ? LEAST_PROMPTS : LEAST_PROMPTS_OF_MEANS,
    at: (deleted) => {
      const ofX = xx[kind](deleted);
      const ofY = yy[kind](deleted);
      // This form also makes NaN (no pair left) undetermined.
      if (!(ofX > leastX && ofY > leastY)) return null;
      return xy[kind](deleted) / Math.sqrt(ofX * ofY);
    },
  });
  return { all: estimand("all"), pairs: estimand("pairs") };
}

/** One kind of `mapCorrelations`. */
export const mapCorrelation = (
  x: readonly Float64Array[],
  y: readonly Float64Array[],
  projection: Projection,
  kind: "all" | "pairs",
): Estimand => mapCorrelations(x, y, projection)[kind];

/** r(KL, R) at this budget: Pearson's correlation of the two mean maps. */
export const rAtBudget = (maps: PromptMaps): Estimand => mapCorrelation(maps.kl, maps.reward, centred, "all");

/** r∞(KL, R): free of rollout noise. */
export const rInfinity = (maps: PromptMaps): Estimand => mapCorrelation(maps.kl, maps.reward, centred, "pairs");

/** r∞ of what is left of KL and R within radius classes; null for maps that depend on the radius alone. */
export const rWithinRing = (maps: PromptMaps): Estimand =>
  mapCorrelation(maps.kl, maps.reward, centredInRings(maps.cells), "pairs");

/**
 * Any statistic of the mean KL map and the mean reward map (Spearman, partial correlation …); costs prompts · the cost
 * of the statistic.
 */
export function ofMeanMaps(
  maps: PromptMaps,
  statistic: (kl: Float64Array, reward: Float64Array) => number | null,
): Estimand {
  const kl = meansWithout(maps.kl, maps.cells.length);
  const reward = meansWithout(maps.reward, maps.cells.length);
  return {
    prompts: Math.max(maps.kl.length, maps.reward.length),
    fewest: Math.min(maps.kl.length, maps.reward.length),
    at: (deleted) => statistic(kl(deleted), reward(deleted)),
  };
}

/** The mean map of a set without any one prompt (or with all: NONE), from one sum. */
export function meansWithout(set: readonly Float64Array[], cells: number): (deleted: number) => Float64Array {
  const sum = sumOfMaps(set, cells);
  return (p) => {
    const isIn = p >= 0 && p < set.length;
    const count = set.length - (isIn ? 1 : 0);
    return sum.map((value, cell) => (value - (isIn ? set[p][cell] : 0)) / count);
  };
}

/** Mean reward at one cell. */
export function rewardAt(maps: PromptMaps, cell: number): Estimand {
  const values = maps.reward.map((map) => map[cell]);
  const total = values.reduce((a, b) => a + b, 0);
  return {
    prompts: values.length,
    at: (p) => (p < 0 ? total / values.length : (total - values[p]) / (values.length - 1)),
  };
}

/**
 * Σ_k weights_k · estimand_k, paired: the same prompt is deleted from all of them.
 * @throws SettingsError when the estimands are not of the same prompts
 */
export function combine(estimands: readonly Estimand[], weights: readonly number[]): Estimand {
  const prompts = estimands[0]?.prompts ?? 0;
  for (const [k, estimand] of estimands.entries())
    if (estimand.prompts !== prompts)
      throw new SettingsError(
        `paired comparison: expected the same prompts everywhere, got ${prompts} in the first map and ` +
          `${estimand.prompts} in map ${k + 1}. Sweep both with the same landscape.rollouts and landscape.reference.`,
      );
  return {
    prompts,
    fewest: Math.min(...estimands.map((estimand) => estimand.fewest ?? estimand.prompts)),
    leastPrompts: Math.max(...estimands.map(({ leastPrompts = LEAST_PROMPTS_OF_MEANS }) => leastPrompts)),
    at: (deleted) => {
      let sum = 0;
      for (let k = 0; k < estimands.length; k++) {
        const value = estimands[k].at(deleted);
        if (value === null) return null;
        sum += weights[k] * value;
      }
      return sum;
    },
  };
}

/** a − b on the same prompts: between checkpoints, slices or runs. */
export const difference = (a: Estimand, b: Estimand): Estimand => combine([a, b], [1, -1]);

/** Slope of a least-squares line through (steps_k, estimand_k), for instance r per training step. */
export function trend(steps: readonly number[], estimands: readonly Estimand[]): Estimand {
  const centre = mean(steps);
  const squares = steps.reduce((sum, step) => sum + (step - centre) ** 2, 0);
  return combine(
    estimands,
    steps.map((step) => (step - centre) / squares),
  );
}
