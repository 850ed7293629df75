// What is estimated from per-prompt maps, and how sure it is.
//
// A map is a vector over the cells of a slice. Every prompt i has a reward map R_i, and every reference prompt a KL map
// K_i; prompt i is the same prompt in both (both sets are the first prompts of one list). Two estimands:
//   r    the correlation of the two mean maps, as they were measured at this budget: rollout noise pulls it towards 0;
//   r∞   C_KR / √(C_KK · C_RR), C_XY the mean over pairs of *different* prompts i ≠ j of Σ_cells X̃_i · Ỹ_j
//        (tilde: centred over cells). Noise of different prompts is independent, so it drops out of every C: r∞ is what
//        r tends to with ever more prompts. It can pass ±1, and is undetermined where C_RR ≤ 0 (or C_KK): the map's
//        spread drowns in the noise.
// A sum over pairs is (sum of maps)·(sum of maps) less the diagonal, so everything costs prompts · cells.
//
// Intervals are delete-one-prompt jackknives on the raw scale: a prompt is deleted from every set, slice and checkpoint
// that has it, so differences and trends between them are paired. (On Fisher's z coverage falls to 40–90%; a percentile
// bootstrap of r leans towards 0 and misses.)
import { SettingsError } from "../../engine/host/index.ts";
import type { GridCell } from "../grid.ts";
import { studentQuantile } from "./distributions.ts";
import { mean, spread } from "./statistics.ts";

/** Maps of each prompt over the same cells; entry p of each set is prompt p of the study's list. */
export interface PromptMaps {
  cells: readonly GridCell[];
  /** R_i: mean reward of prompt i over its rollouts. Prompts × cells. */
  reward: readonly Float64Array[];
  /**
   * K_i: KL summed over prompt i's reference completions ÷ mean token count of a prompt; their mean is `kl_token`.
   * Nats.
   */
  kl: readonly Float64Array[];
  /** J_i: clipped surrogate of prompt i's group ÷ the group's tokens; their mean is `j_group_token`. */
  objective: readonly Float64Array[];
}

/** No prompt deleted. */
export const NONE = -1;

/** A number that can be taken again without prompt `deleted` (or NONE); null where it is undetermined. */
export interface Estimand {
  /** Distinct prompts that can be deleted. */
  prompts: number;
  at(deleted: number): number | null;
}

/**
 * An estimate with its interval; null: undetermined. Values are as they come, so a correlation may pass ±1: clip when
 * drawing.
 */
export interface Estimate {
  value: number | null;
  low: number | null;
  high: number | null;
  standardError: number | null;
}

const undetermined: Estimate = { value: null, low: null, high: null, standardError: null };

/**
 * Delete-one-prompt jackknife: variance = (n − 1)/n · Σ_p (value without p − their mean)²; the interval is Student's
 * with n − 1 degrees of freedom, on the raw scale. Without an interval where one deletion leaves the value
 * undetermined.
 */
export function jackknife({ prompts, at }: Estimand, confidence = 0.95): Estimate {
  const value = at(NONE);
  if (value === null) return undetermined;
  const without: number[] = [];
  for (let p = 0; p < prompts; p++) {
    const one = at(p);
    if (one === null) break;
    without.push(one);
  }
  if (prompts < 2 || without.length < prompts) return { ...undetermined, value };
  const standardError = spread(without).populationDeviation * Math.sqrt(prompts - 1);
  const reach = studentQuantile((1 + confidence) / 2, prompts - 1) * standardError;
  return { value, low: value - reach, high: value + reach, standardError };
}

/** A linear map on maps that is applied to each prompt's before anything is correlated. */
export type Projection = (map: Float64Array) => Float64Array;

/** x − mean over cells. */
export const centred: Projection = (map) => {
  const centre = mean(map);
  return map.map((value) => value - centre);
};

/** x − mean over the cell's radius class: takes out all that depends on the distance to the centre alone. */
export function centredInRings(cells: readonly GridCell[]): Projection {
  const classes = [...new Set(cells.map((cell) => cell.squaredSteps))];
  const classOf = cells.map((cell) => classes.indexOf(cell.squaredSteps));
  const counts = new Float64Array(classes.length);
  for (const c of classOf) counts[c]++;
  return (map) => {
    const sums = new Float64Array(classes.length);
    classOf.forEach((c, cell) => {
      sums[c] += map[cell];
    });
    return map.map((value, cell) => value - sums[classOf[cell]] / counts[classOf[cell]]);
  };
}

/** (x ± x mirrored at the centre) / 2. The cells must come in mirrored pairs. */
export const parityPart =
  (mirror: readonly number[], sign: 1 | -1): Projection =>
  (map) =>
    map.map((value, cell) => (value + sign * map[mirror[cell]]) / 2);

export function dot(x: Float64Array, y: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < x.length; k++) sum += x[k] * y[k];
  return sum;
}

export function sumOfMaps(maps: readonly Float64Array[], cells: number): Float64Array {
  const sum = new Float64Array(cells);
  for (const map of maps) for (let cell = 0; cell < cells; cell++) sum[cell] += map[cell];
  return sum;
}

/** Mean map of a set, which may leave out one prompt. */
export function meanMap(maps: readonly Float64Array[], deleted = NONE): Float64Array {
  const kept = maps.filter((_, p) => p !== deleted);
  return sumOfMaps(kept, maps[0]?.length ?? 0).map((value) => value / kept.length);
}

interface Moment {
  /** Product of the two mean maps: rollout noise included. */
  all(deleted: number): number;
  /** Mean product over pairs of different prompts: free of noise. NaN when there is no such pair. */
  pairs(deleted: number): number;
}

/** Products of two sets of (projected) maps, with any one prompt deleted, from sums taken once. */
function moment(x: readonly Float64Array[], y: readonly Float64Array[]): Moment {
  const cells = x[0]?.length ?? 0;
  const sumX = sumOfMaps(x, cells);
  const sumY = sumOfMaps(y, cells);
  const total = dot(sumX, sumY);
  const withX = x.map((map) => dot(map, sumY));
  const withY = y.map((map) => dot(sumX, map));
  const shared = Math.min(x.length, y.length);
  const own = Array.from({ length: shared }, (_, p) => dot(x[p], y[p]));
  const ownTotal = own.reduce((a, b) => a + b, 0);
  const sums = (p: number) => {
    const inX = p >= 0 && p < x.length ? 1 : 0;
    const inY = p >= 0 && p < y.length ? 1 : 0;
    const ownOfP = inX * inY === 1 ? own[p] : 0;
    return {
      product: total - (inX === 1 ? withX[p] : 0) - (inY === 1 ? withY[p] : 0) + ownOfP,
      diagonal: ownTotal - ownOfP,
      count: (x.length - inX) * (y.length - inY),
      diagonalCount: shared - inX * inY,
    };
  };
  return {
    all: (deleted) => {
      const { product, count } = sums(deleted);
      return product / count;
    },
    pairs: (deleted) => {
      const { product, diagonal, count, diagonalCount } = sums(deleted);
      return (product - diagonal) / (count - diagonalCount);
    },
  };
}

/** C_XY of maps that are already projected: the mean of X_i · Y_j over pairs i ≠ j; NaN when there is no such pair. */
export const pairProduct = (x: readonly Float64Array[], y: readonly Float64Array[]): number => moment(x, y).pairs(NONE);

/** What counts as rounding in a mean product: 1e-13 of the maps' magnitude, squared. */
export function rounding(maps: readonly Float64Array[]): number {
  return 1e-26 * mean(maps.map((map) => dot(map, map)));
}

/**
 * Correlation of two sets of maps after a projection.
 * @param kind  "all": of the mean maps, as measured (r). "pairs": over different prompts only (r∞)
 */
export function mapCorrelation(
  x: readonly Float64Array[],
  y: readonly Float64Array[],
  projection: Projection,
  kind: "all" | "pairs",
): Estimand {
  const projectedX = x.map(projection);
  const projectedY = y.map(projection);
  const xx = moment(projectedX, projectedX);
  const yy = moment(projectedY, projectedY);
  const xy = moment(projectedX, projectedY);
  const leastX = rounding(x);
  const leastY = rounding(y);
  return {
    prompts: Math.max(x.length, y.length),
    at: (deleted) => {
      const ofX = xx[kind](deleted);
      const ofY = yy[kind](deleted);
      // Written so that NaN (no pair left) is undetermined too.
      if (!(ofX > leastX && ofY > leastY)) return null;
      return xy[kind](deleted) / Math.sqrt(ofX * ofY);
    },
  };
}

/** r(KL, R) at this budget: Pearson's correlation of the two mean maps. */
export const rAtBudget = (maps: PromptMaps): Estimand => mapCorrelation(maps.kl, maps.reward, centred, "all");

/** r∞(KL, R): free of rollout noise. */
export const rInfinity = (maps: PromptMaps): Estimand => mapCorrelation(maps.kl, maps.reward, centred, "pairs");

/** r∞ of what is left of KL and R within radius classes; null for maps that depend on the radius alone. */
export const rWithinRing = (maps: PromptMaps): Estimand =>
  mapCorrelation(maps.kl, maps.reward, centredInRings(maps.cells), "pairs");

/**
 * Any statistic of the mean KL map and the mean reward map (Spearman, partial correlation …); costs prompts · its own
 * cost.
 */
export function ofMeanMaps(
  maps: PromptMaps,
  statistic: (kl: Float64Array, reward: Float64Array) => number | null,
): Estimand {
  const cells = maps.cells.length;
  const leaveOneOut = (set: readonly Float64Array[]) => {
    const sum = sumOfMaps(set, cells);
    return (p: number) => {
      const isIn = p >= 0 && p < set.length;
      const count = set.length - (isIn ? 1 : 0);
      return sum.map((value, cell) => (value - (isIn ? set[p][cell] : 0)) / count);
    };
  };
  const kl = leaveOneOut(maps.kl);
  const reward = leaveOneOut(maps.reward);
  return {
    prompts: Math.max(maps.kl.length, maps.reward.length),
    at: (deleted) => statistic(kl(deleted), reward(deleted)),
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
 * Σ_k weights_k · estimand_k, each taken without the same prompt: paired.
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

/** Mean over slices, one resample of prompts serving all. */
export const meanOver = (estimands: readonly Estimand[]): Estimand =>
  combine(
    estimands,
    estimands.map(() => 1 / estimands.length),
  );

/** Slope of a least-squares line through (steps_k, estimand_k), for instance r per training step. */
export function trend(steps: readonly number[], estimands: readonly Estimand[]): Estimand {
  const centre = mean(steps);
  const squares = steps.reduce((sum, step) => sum + (step - centre) ** 2, 0);
  return combine(
    estimands,
    steps.map((step) => (step - centre) / squares),
  );
}

/**
 * Across slices (or other independent units): below five determined values each is shown and there is no interval; from
 * five, Student's t on their mean, raw scale.
 */
export function acrossSlices(values: readonly (number | null)[], confidence = 0.95): Estimate & { slices: number } {
  const known = values.filter((value) => value !== null);
  const slices = known.length;
  if (slices === 0) return { ...undetermined, slices };
  const { mean: value, standardError } = spread(known);
  if (slices < 5 || standardError === null) return { ...undetermined, value, slices };
  const reach = studentQuantile((1 + confidence) / 2, slices - 1) * standardError;
  return { value, low: value - reach, high: value + reach, standardError, slices };
}

export interface Signal {
  /** C_XX: mean product over pairs of different prompts; the map's own squared spread, summed over cells. */
  value: number;
  /** Standard error of `value` at this number of prompts. */
  standardError: number;
  /**
   * Prompts at which `value` would exceed zero by two standard errors. Null when even its upper end is not above zero.
   */
  promptsNeeded: number | null;
  /** True where `value` ≤ 0: the number was then reckoned from its upper end, and more may be needed. */
  isLowerBound: boolean;
}

/**
 * How well a map's spread stands out of the noise, and how many prompts would make it stand out.
 *
 * With Σ the covariance over cells of one prompt's map around the mean map μ, Var C ≈ 2·tr Σ² / (n(n − 1)) + 4·μᵀΣμ /
 * n. Both traces are estimated from the prompts' deviations; the number needed is the n at which C = 2·√Var.
 */
export function signalOf(maps: readonly Float64Array[], projection: Projection = centred): Signal {
  const n = maps.length;
  const projected = maps.map(projection);
  const cells = projected[0]?.length ?? 0;
  const value = pairProduct(projected, projected);
  if (!Number.isFinite(value)) return { value: 0, standardError: 0, promptsNeeded: null, isLowerBound: true };
  const centre = meanMap(projected);
  const deviations = projected.map((map) => map.map((x, cell) => x - centre[cell]));
  const traceSquared = meanSquaredProduct(deviations, cells);
  const along = mean(deviations.map((deviation) => dot(deviation, centre) ** 2));
  const alongMean = Math.max(0, along - traceSquared / n); // the mean map's own noise, taken out
  const standardError = Math.sqrt((2 * traceSquared) / (n * (n - 1)) + (4 * alongMean) / n);
  const isLowerBound = value <= rounding(maps);
  const spreadSquared = isLowerBound ? value + 2 * standardError : value;
  // C² = 4·(2·traceSquared / n² + 4·alongMean / n), solved for n.
  const promptsNeeded =
    spreadSquared > rounding(maps)
      ? Math.max(
          3,
          Math.ceil(
            (8 * alongMean + Math.sqrt(64 * alongMean ** 2 + 8 * traceSquared * spreadSquared ** 2)) /
              spreadSquared ** 2,
          ),
        )
      : null;
  return { value, standardError, promptsNeeded, isLowerBound };
}

/** Mean over pairs i ≠ j of (e_i · e_j)², which estimates tr Σ²; through the smaller of the two Gram matrices. */
function meanSquaredProduct(deviations: readonly Float64Array[], cells: number): number {
  const n = deviations.length;
  let sum = 0;
  if (n <= cells) {
    for (let i = 1; i < n; i++) for (let j = 0; j < i; j++) sum += 2 * dot(deviations[i], deviations[j]) ** 2;
  } else {
    for (let a = 0; a < cells; a++)
      for (let b = 0; b <= a; b++) {
        let product = 0;
        for (const deviation of deviations) product += deviation[a] * deviation[b];
        sum += (a === b ? 1 : 2) * product ** 2;
      }
    for (const deviation of deviations) sum -= dot(deviation, deviation) ** 2;
  }
  return sum / (n * (n - 1));
}
