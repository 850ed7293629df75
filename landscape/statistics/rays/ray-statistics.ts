// What is said of rays around one checkpoint. Reward and KL by radius are means over rays of the mean over a ray's halves.
// Between two radii reward is linear in the radius, and √KL too, since KL of small perturbations grows with its square.
import { type Estimate, saysSomething } from "../intervals.ts";
import { pearson } from "../statistics.ts";
import {
  klAt,
  LEAST_RAYS,
  meanCurve,
  NOTHING,
  type RayEstimate,
  type RayField,
  rayEstimate,
  rewardAt,
  type Without,
} from "./ray-field.ts";

export interface RadiusRow {
  readonly radius: number;
  readonly rays: number;
  readonly reward: RayEstimate;
  readonly kl: RayEstimate;
  /** Correlation of KL and reward over the halves of all rays at this radius: distance plays no part in it. Over rays. */
  readonly r: Estimate;
}

export interface RadiusStatistics {
  readonly originReward: RayEstimate;
  readonly rows: readonly RadiusRow[];
  /** The radius where mean reward has fallen to half of R(0). Null: it is not reached. */
  readonly r50: RayEstimate;
  /** Mean KL at r50. */
  readonly klAtR50: RayEstimate;
  /** Mean of R/R(0) over radii from 0 to the largest. Null if R(0) is 0. */
  readonly kept: RayEstimate;
}

export interface KlRow {
  readonly target: number;
  /** Rays of which every half reaches it, of all. */
  readonly rays: number;
  readonly of: number;
  readonly reward: RayEstimate;
  /** Mean scale that reaches it. */
  readonly scale: number | null;
}

export interface FixedKlStatistics {
  readonly rows: readonly KlRow[];
  /** KL where mean reward has fallen to half of R(0). Null: it is not reached. */
  readonly kl50: RayEstimate;
}

/**
 * The first x at which a broken line through (x_k, y_k) falls to `level`, linear between two points.
 * @param x  ascending, from the checkpoint
 * @returns null if it never does, if y begins at or below the level, or if a value before that place is missing
 */
export function firstFall(x: readonly number[], y: readonly (number | null)[], level: number): number | null {
  let before = y[0];
  if (before === null || !(before > level)) return null;
  for (let k = 1; k < x.length; k++) {
    const here = y[k];
    if (here === null) return null;
    if (here <= level) return x[k - 1] + ((before - level) / (before - here)) * (x[k] - x[k - 1]);
    before = here;
  }
  return null;
}

/** y at a place of a broken line; null outside it, or beside a missing value. @param x  ascending */
export function valueAt(x: readonly number[], y: readonly (number | null)[], place: number): number | null {
  for (let k = 1; k < x.length; k++) {
    if (place < x[k - 1] || place > x[k]) continue;
    const [before, after] = [y[k - 1], y[k]];
    if (before === null || after === null) return null;
    return x[k] === x[k - 1] ? after : before + ((place - x[k - 1]) / (x[k] - x[k - 1])) * (after - before);
  }
  return null;
}

/** Mean of a broken line over its whole length (trapezoids); null beside a missing value. */
export function meanOfLine(x: readonly number[], y: readonly (number | null)[]): number | null {
  let area = 0;
  for (let k = 1; k < x.length; k++) {
    const [before, after] = [y[k - 1], y[k]];
    if (before === null || after === null) return null;
    area += ((before + after) / 2) * (x[k] - x[k - 1]);
  }
  return area / (x[x.length - 1] - x[0]);
}

/** R(0), then mean reward at each position. */
const rewards = (field: RayField, without: Without): (number | null)[] => [
  rewardAt(field.origin, without.prompt),
  ...meanCurve(field, without).map(({ reward }) => reward),
];
const half = (field: RayField, { prompt }: Without): number => rewardAt(field.origin, prompt) / 2;

export function radiusStatistics(field: RayField): RadiusStatistics {
  const radii = [0, ...field.positions];
  const r50 = (without: Without): number | null => firstFall(radii, rewards(field, without), half(field, without));
  const curve = meanCurve(field);
  return {
    originReward: rayEstimate(field, ({ prompt }) => rewardAt(field.origin, prompt)),
    rows: field.positions.map((radius, k) => ({
      radius,
      rays: curve[k].rays,
      reward: rayEstimate(field, (without) => meanCurve(field, without)[k].reward),
      kl: rayEstimate(field, (without) => meanCurve(field, without)[k].kl),
      r: rayCorrelation(field, k),
    })),
    r50: rayEstimate(field, r50),
    klAtR50: rayEstimate(field, (without) => {
      const radius = r50(without);
      if (radius === null) return null;
      const roots = meanCurve(field, without).map(({ kl }) => (kl === null ? null : Math.sqrt(kl)));
      const root = valueAt(radii, [0, ...roots], radius);
      return root === null ? null : root ** 2;
    }),
    kept: rayEstimate(field, (without) => {
      const origin = rewardAt(field.origin, without.prompt);
      const mean = meanOfLine(radii, rewards(field, without));
      return mean === null || !(origin > 0) ? null : mean / origin;
    }),
  };
}

/** r(KL, R) over the halves of rays at one position. Leaving out a ray leaves out both halves. */
function rayCorrelation(field: RayField, k: number): Estimate {
  const { overRays } = rayEstimate(field, ({ ray, prompt }) => {
    const points = field.halves.filter((one) => one.ray !== ray).flatMap(({ points: all }) => all[k] ?? []);
    if (points.length < 3) return null;
    return pearson(
      points.map((point) => klAt(point, field.tokens, prompt)),
      points.map((point) => rewardAt(point, prompt)),
    );
  });
  return saysSomething(overRays) ? overRays : { value: null, low: null, high: null, standardError: null };
}

/** @param scales  for each position the scales that reach it */
export function fixedKlStatistics(field: RayField, scales: readonly (readonly number[])[]): FixedKlStatistics {
  const curve = meanCurve(field);
  const roots = [0, ...field.positions.map(Math.sqrt)];
  return {
    rows: field.positions.map((target, k) => ({
      target,
      rays: curve[k].rays,
      of: new Set(field.halves.map(({ ray }) => ray)).size,
      reward: rayEstimate(field, (without) => meanCurve(field, without)[k].reward),
      scale: scales[k].length === 0 ? null : scales[k].reduce((sum, scale) => sum + scale, 0) / scales[k].length,
    })),
    kl50: rayEstimate(field, (without) => {
      const root = firstFall(roots, rewards(field, without), half(field, without));
      return root === null ? null : root ** 2;
    }),
  };
}

/**
 * Mean reward of each ray where its KL is `kl`: on each half linear in √KL, between the points in the order of their radii; the
 * mean over the halves. Null for a ray of which a half does not reach it.
 */
export function rewardsAtKl(field: RayField, kl: number, prompt = NOTHING.prompt): (number | null)[] {
  const byRay = new Map<number, (number | null)[]>();
  const root = Math.sqrt(kl);
  for (const { ray, points } of field.halves) {
    const known = points.flatMap((point) => point ?? []);
    // Where KL is reached follows from all prompts, so that leaving one out changes the reward alone.
    const roots = [0, ...known.map((point) => Math.sqrt(klAt(point, field.tokens, NOTHING.prompt)))];
    const reward = [rewardAt(field.origin, prompt), ...known.map((point) => rewardAt(point, prompt))];
    byRay.set(ray, [...(byRay.get(ray) ?? []), firstPlace(roots, reward, root)]);
  }
  return [...byRay.values()].map((of) => {
    const found = of.filter((value) => value !== null);
    return found.length < of.length ? null : found.reduce((sum, value) => sum + value, 0) / found.length;
  });
}

/** y where x first rises to a place; x need not ascend. */
function firstPlace(x: readonly number[], y: readonly number[], place: number): number | null {
  for (let k = 1; k < x.length; k++)
    if (x[k - 1] <= place && x[k] >= place)
      return x[k] === x[k - 1] ? y[k] : y[k - 1] + ((place - x[k - 1]) / (x[k] - x[k - 1])) * (y[k] - y[k - 1]);
  return null;
}

/** Whether there are too few rays for intervals over rays. */
export const hasFewRays = (field: RayField): boolean => new Set(field.halves.map(({ ray }) => ray)).size < LEAST_RAYS;
