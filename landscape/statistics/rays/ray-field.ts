// Reward and KL on rays, as sums from which any ray and any prompt can be left out. A ray is a random direction with one or
// two halves. The rays are the independent units: a statistic's interval over rays says how it would differ along other
// directions with these prompts, its interval over prompts how it would differ with other prompts along these rays.
import { ShapeError } from "../../../engine/index.ts";
import type { ByRollout, CellRecord, ReferenceSet } from "../../files/cells.ts";
import { rayPlaceOf } from "../../files/ray-files.ts";
import type { Estimand } from "../estimands.ts";
import { type Estimate, jackknife } from "../intervals.ts";
import { promptInterval } from "../leave-one-out.ts";
import { NONE } from "../prompt-maps.ts";

/** Fewer rays get no interval over rays, as slices do. */
export const LEAST_RAYS = 5;

/** Sums of one point, by prompt. */
export interface FieldPoint {
  /** Mean reward over the prompt's rollouts. */
  readonly reward: Float64Array;
  /** KL summed over the prompt's reference completions, nats. */
  readonly kl: Float64Array;
}

/** One half of a ray; null where a point is not measured or does not exist. */
export interface RayHalf {
  readonly ray: number;
  readonly points: readonly (FieldPoint | null)[];
}

export interface RayField {
  /** Radii, or KLs asked for, ascending. */
  readonly positions: readonly number[];
  readonly halves: readonly RayHalf[];
  readonly origin: FieldPoint;
  /** Assistant tokens of each prompt's reference completions. */
  readonly tokens: Float64Array;
}

/** What is left out: a ray's number, a prompt's. */
export interface Without {
  readonly ray: number;
  readonly prompt: number;
}
export const NOTHING: Without = { ray: NONE, prompt: NONE };

/** A statistic with its two intervals. */
export interface RayEstimate {
  readonly value: number | null;
  readonly overRays: Estimate;
  readonly overPrompts: Estimate;
}

const sumOf = (values: ArrayLike<number>): number => Array.from(values).reduce((sum, value) => sum + value, 0);
const byPrompt = (of: ByRollout, each: (values: readonly number[]) => number): Float64Array =>
  Float64Array.from(of, (values) => each(values));

/** Mean reward over the rollouts of each prompt. */
export const meanOfPrompts = (reward: ByRollout): Float64Array =>
  byPrompt(reward, (values) => sumOf(values) / values.length);

/** @throws ShapeError when prompts or rollouts of the point and the reference differ */
export function fieldPoint({ rollouts, reference }: CellRecord, { tokens }: ReferenceSet): FieldPoint {
  if (reference.kl.length !== tokens.length || reference.kl.some((of, p) => of.length !== tokens[p].length))
    throw new ShapeError(`rays: a point has KL of ${reference.kl.length} prompts, the reference ${tokens.length}`);
  return {
    reward: meanOfPrompts(rollouts.reward),
    kl: byPrompt(reference.kl, sumOf),
  };
}

/**
 * @param cells  of one folder; the checkpoint may be among them
 * @param origin the checkpoint, if it is not; null if it is not measured
 * @returns null without the checkpoint
 */
export function rayField(
  cells: readonly CellRecord[],
  reference: ReferenceSet,
  { positions, rays, signs }: { positions: readonly number[]; rays: number; signs: readonly (1 | -1)[] },
  origin: FieldPoint | null = null,
): RayField | null {
  const centre = cells.find((cell) => rayPlaceOf(cell) === null);
  const own = centre === undefined ? origin : fieldPoint(centre, reference);
  if (own === null) return null;
  const found = new Map<string, FieldPoint>();
  for (const cell of cells) {
    const place = rayPlaceOf(cell);
    if (place !== null) found.set(`${place.ray} ${place.sign} ${place.index}`, fieldPoint(cell, reference));
  }
  const halves = Array.from({ length: rays }, (_, ray) =>
    signs.map((sign) => ({ ray, points: positions.map((__, index) => found.get(`${ray} ${sign} ${index}`) ?? null) })),
  ).flat();
  return { positions, halves, origin: own, tokens: byPrompt(reference.tokens, sumOf) };
}

const sums = new WeakMap<Float64Array, number>();
/** The sum of an array that never changes. */
function totalOf(values: Float64Array): number {
  const known = sums.get(values);
  if (known !== undefined) return known;
  const total = sumOf(values);
  sums.set(values, total);
  return total;
}

/** A sum without one prompt; a set that does not have the prompt keeps all of its own. */
const sumWithout = (values: Float64Array, prompt: number): number =>
  totalOf(values) - (prompt >= 0 && prompt < values.length ? values[prompt] : 0);

export function rewardAt({ reward }: FieldPoint, prompt: number): number {
  const isIn = prompt >= 0 && prompt < reward.length;
  return sumWithout(reward, prompt) / (reward.length - (isIn ? 1 : 0));
}

/** `kl_token`: Σ KL ÷ Σ tokens. */
export const klAt = ({ kl }: FieldPoint, tokens: Float64Array, prompt: number): number =>
  sumWithout(kl, prompt) / Math.max(1, sumWithout(tokens, prompt));

export interface RayMeans {
  /** Rays that have this position on all of their halves. */
  readonly rays: number;
  /** Mean over these rays of the mean over their halves; null without any. */
  readonly reward: number | null;
  readonly kl: number | null;
}

/** The rays of a field, in order. */
export const raysOf = ({ halves }: RayField): number[] => [...new Set(halves.map(({ ray }) => ray))];

/** Reward and KL at each position. A ray with a gap at a position is left out there, with both halves. */
export function meanCurve(field: RayField, { ray, prompt }: Without = NOTHING): RayMeans[] {
  return field.positions.map((_, k) => {
    const gaps = new Set(field.halves.filter(({ points }) => points[k] === null).map((half) => half.ray));
    const kept = field.halves.filter((half) => half.ray !== ray && !gaps.has(half.ray));
    const points = kept.flatMap(({ points: all }) => all[k] ?? []);
    const mean = (of: (point: FieldPoint) => number): number | null =>
      points.length === 0 ? null : sumOf(points.map(of)) / points.length;
    return {
      rays: new Set(kept.map((half) => half.ray)).size,
      reward: mean((point) => rewardAt(point, prompt)),
      kl: mean((point) => klAt(point, field.tokens, prompt)),
    };
  });
}

export const promptsOf = ({ origin, tokens }: RayField): number => Math.max(origin.reward.length, tokens.length);

/** A statistic's value, with a delete-one-ray and a delete-one-prompt jackknife. */
export function rayEstimate(field: RayField, statistic: (without: Without) => number | null): RayEstimate {
  const value = statistic(NOTHING);
  const rays = raysOf(field);
  const alone: Estimate = { value, low: null, high: null, standardError: null };
  const overRays: Estimand = {
    prompts: rays.length,
    at: (k) => (k < 0 ? value : statistic({ ray: rays[k], prompt: NONE })),
  };
  const overPrompts: Estimand = { prompts: promptsOf(field), at: (prompt) => statistic({ ray: NONE, prompt }) };
  const smaller = Math.min(field.origin.reward.length, field.tokens.length);
  return {
    value,
    overRays: rays.length < LEAST_RAYS ? alone : known(jackknife(overRays), alone),
    overPrompts: promptInterval(overPrompts, smaller),
  };
}

/** If leaving out any ray changes nothing, the rays show no spread: an interval of width 0 would claim certainty. */
const known = (estimate: Estimate, alone: Estimate): Estimate => (estimate.standardError === 0 ? alone : estimate);
