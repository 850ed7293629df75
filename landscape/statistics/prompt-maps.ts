// Maps of each prompt over the cells of a slice, and the sums over them that estimates are made of.
//
// A map is a vector over the cells of a slice. Every prompt i has a reward map R_i, and every reference prompt a KL map
// K_i; prompt i is the same prompt in both (both sets are the first prompts of one list). A sum over pairs i ≠ j is
// (sum of maps)·(sum of maps) less the diagonal, so everything costs prompts · cells.
import type { GridCell } from "../grid.ts";
import { mean } from "./statistics.ts";

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

/** A linear map on maps that is applied to each prompt's before anything is correlated. */
export type Projection = (map: Float64Array) => Float64Array;

/** x − mean over cells. */
export const centred: Projection = (map) => {
  const centre = mean(map);
  const result = new Float64Array(map.length);
  for (let cell = 0; cell < map.length; cell++) result[cell] = map[cell] - centre;
  return result;
};

/** x − mean over the cell's radius class: removes everything that depends only on the distance to the centre. */
export function centredInRings(cells: readonly GridCell[]): Projection {
  const classes = [...new Set(cells.map((cell) => cell.squaredSteps))];
  const classOf = cells.map((cell) => classes.indexOf(cell.squaredSteps));
  const counts = new Float64Array(classes.length);
  for (const c of classOf) counts[c]++;
  return (map) => {
    const sums = new Float64Array(classes.length);
    for (let cell = 0; cell < classOf.length; cell++) sums[classOf[cell]] += map[cell];
    for (let c = 0; c < sums.length; c++) sums[c] /= counts[c];
    const result = new Float64Array(map.length);
    for (let cell = 0; cell < map.length; cell++) result[cell] = map[cell] - sums[classOf[cell]];
    return result;
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

/** Mean map of a set, with or without one prompt. */
export function meanMap(maps: readonly Float64Array[], deleted = NONE): Float64Array {
  const kept = maps.filter((_, p) => p !== deleted);
  return sumOfMaps(kept, maps[0]?.length ?? 0).map((value) => value / kept.length);
}

export interface Moment {
  /** Product of the two mean maps: rollout noise included. */
  all(deleted: number): number;
  /** Mean product over pairs of different prompts: free of noise. NaN when there is no such pair. */
  pairs(deleted: number): number;
}

/** A set of (projected) maps and their sum. */
export interface SummedMaps {
  readonly maps: readonly Float64Array[];
  readonly sum: Float64Array;
}

export const summed = (maps: readonly Float64Array[]): SummedMaps => ({
  maps,
  sum: sumOfMaps(maps, maps[0]?.length ?? 0),
});

/** Products of two sets of (projected) maps, with any one prompt deleted, from sums taken once. */
export function moment({ maps: x, sum: sumX }: SummedMaps, { maps: y, sum: sumY }: SummedMaps): Moment {
  const total = dot(sumX, sumY);
  const withX = x.map((map) => dot(map, sumY));
  const withY = x === y ? withX : y.map((map) => dot(sumX, map));
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
export function pairProduct(x: readonly Float64Array[], y: readonly Float64Array[]): number {
  const ofX = summed(x);
  return moment(ofX, x === y ? ofX : summed(y)).pairs(NONE);
}

/** What counts as rounding in a mean product: 1e-13 of the maps' magnitude, squared. */
export function rounding(maps: readonly Float64Array[]): number {
  return 1e-26 * mean(maps.map((map) => dot(map, map)));
}
