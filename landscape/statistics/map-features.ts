// What a map looks like beyond one correlation: how symmetric it is, where its peak is and how certain that is, whether
// the best cells are those of lowest KL, how it falls with distance, and how well the surrogate predicts the reward.

import { groupBy } from "../../engine/host/index.ts";
import { studentQuantile } from "../../rl/index.ts";
import { type GridCell, ringIndex } from "../grid.ts";
import { centred, dot, meanMap, type PromptMaps, pairProduct, parityPart, rounding } from "./prompt-maps.ts";
import { mean, pearson, spread } from "./statistics.ts";

export interface Parity {
  /**
   * Share of the mean map's variance that is even, R(α, β) = R(−α, −β) (hills, saddles); noise included. Null: a flat
   * map.
   */
  even: number | null;
  /** The rest: odd, R(α, β) = −R(−α, −β) (slopes). */
  odd: number | null;
  /** The even share free of rollout noise, from pairs of different prompts; can leave [0, 1]. Null: undetermined. */
  evenFreeOfNoise: number | null;
}

/** Even and odd shares of a map's variance; cells whose mirror image is missing are left out. */
export function parity(cells: readonly GridCell[], maps: readonly Float64Array[]): Parity {
  const indexOf = new Map(cells.map((cell, k) => [`${cell.alpha},${cell.beta}`, k]));
  const mirrored = cells.map((cell) => indexOf.get(`${0 - cell.alpha},${0 - cell.beta}`) ?? -1);
  const kept = cells.map((_, k) => k).filter((k) => mirrored[k] >= 0);
  const place = new Map(kept.map((k, position) => [k, position]));
  const mirror = kept.map((k) => place.get(mirrored[k]) ?? -1);
  const keptMaps = maps.map((map) => centred(Float64Array.from(kept, (k) => map[k])));
  const even = parityPart(mirror, 1);
  const average = meanMap(keptMaps);
  const total = dot(average, average);
  const least = rounding(maps);
  if (kept.length === 0 || total <= least) return { even: null, odd: null, evenFreeOfNoise: null };
  const evenPart = even(average);
  const share = dot(evenPart, evenPart) / total;
  const signal = pairProduct(keptMaps, keptMaps);
  return {
    even: share,
    odd: 1 - share,
    evenFreeOfNoise: signal > least ? pairProduct(keptMaps.map(even), keptMaps) / signal : null,
  };
}

export interface Peak {
  cell: GridCell;
  reward: number;
  /** Cells that the prompts cannot distinguish from the best one: it is among them with at least 95% confidence. */
  region: GridCell[];
  /** Whether the checkpoint itself is among them. */
  includesCentre: boolean;
}

/**
 * Where the mean reward is highest. A cell is outside the region when the paired difference to the peak, prompt by
 * prompt, is above t standard errors (for a mean that is the jackknife's), t Student's one-sided 5% ÷ number of other
 * cells: so the region holds the truly best cell with 95% confidence even though the peak was picked as the highest of
 * many. The peak's reward is the highest of many noisy ones, hence biased upwards: measure it again on fresh prompts.
 */
export function peakOf({ cells, reward }: PromptMaps): Peak | null {
  if (cells.length === 0 || reward.length === 0) return null;
  const average = meanMap(reward);
  const best = average.indexOf(Math.max(...average));
  const reach = reward.length > 1 ? studentQuantile(1 - 0.05 / Math.max(1, cells.length - 1), reward.length - 1) : 0;
  const region = cells.filter((_, cell) => {
    const { mean: gap, standardError } = spread(reward.map((map) => map[best] - map[cell]));
    return standardError === null || gap <= reach * standardError;
  });
  return {
    cell: cells[best],
    reward: average[best],
    region,
    includesCentre: region.some((cell) => cell.alpha === 0 && cell.beta === 0),
  };
}

export interface Overlap {
  /** Cells in a tenth. */
  size: number;
  /** Share of the top tenth of R that lies in the lowest tenth of KL. */
  share: number;
  /** The share to expect if only the distance to the centre mattered. */
  expected: number;
  /** Whether the lowest tenth of KL splits a radius class. If it splits none, `share` equals `expected` for any R. */
  canDiffer: boolean;
}

/** Membership in the `size` highest values; those tied for the last places share them. */
function highest(values: ArrayLike<number>, size: number): Float64Array {
  const bar = Float64Array.from(values).sort()[values.length - size];
  let above = 0;
  let tied = 0;
  for (let k = 0; k < values.length; k++) {
    if (values[k] > bar) above++;
    else if (values[k] === bar) tied++;
  }
  return Float64Array.from(values, (value) => (value > bar ? 1 : value === bar ? (size - above) / tied : 0));
}

/**
 * Overlap of the top tenth of R with the lowest tenth of KL. Both lie near the centre whatever the policy, so the
 * overlap by chance is given beside it, as if the rewards were shuffled among the cells of each radius class: Σ_class
 * (R's cells)·(KL's cells) ÷ cells.
 */
export function tenthsOverlap(cells: readonly GridCell[], reward: Float64Array, kl: Float64Array): Overlap {
  const size = Math.max(1, Math.round(cells.length / 10));
  const best = highest(reward, size);
  const nearest = highest(
    kl.map((value) => -value),
    size,
  );
  const classes = new Map<number, { count: number; best: number; nearest: number }>();
  cells.forEach(({ squaredSteps }, k) => {
    const found = classes.get(squaredSteps) ?? { count: 0, best: 0, nearest: 0 };
    classes.set(squaredSteps, {
      count: found.count + 1,
      best: found.best + best[k],
      nearest: found.nearest + nearest[k],
    });
  });
  const expected = [...classes.values()].reduce((sum, ring) => sum + (ring.best * ring.nearest) / ring.count, 0);
  const canDiffer = [...classes.values()].some(({ count, nearest }) => nearest > 1e-9 && nearest < count - 1e-9);
  return { size, share: dot(best, nearest) / size, expected: expected / size, canDiffer };
}

export interface RingMean {
  /** Distance to the centre in whole grid steps. */
  ring: number;
  cells: number;
  mean: number;
}

/** Mean of a map over each ring of cells, from the centre outwards. */
export function ringMeans(cells: readonly GridCell[], map: ArrayLike<number>): RingMean[] {
  return rings(cells).map(({ ring, members }) => ({
    ring,
    cells: members.length,
    mean: mean(members.map((k) => map[k])),
  }));
}

function rings(cells: readonly GridCell[]): { ring: number; members: number[] }[] {
  const found = groupBy(cells.keys(), (k) => ringIndex(cells[k]));
  return [...found].sort(([a], [b]) => a - b).map(([ring, members]) => ({ ring, members }));
}

export interface SurrogateFit {
  /** Distance to the centre in whole grid steps; null: all cells but the centre. */
  ring: number | null;
  cells: number;
  /** Pearson's correlation of J − J(0,0) and R − R(0,0) over these cells. */
  r: number | null;
  /**
   * Σ (J − J(0,0))·(R − R(0,0)) ÷ √(Σ (J − J(0,0))² · Σ (R − R(0,0))²), in [−1, 1]; null if either difference is 0 in all
   * cells. `rSquared` is its square.
   */
  cosine: number | null;
  /**
   * Share of Σ (R − R(0,0))² that a line through the origin, R − R(0,0) = b · (J − J(0,0)), explains. Both differences
   * vanish at the checkpoint, so the line has no intercept. Null if either difference is 0 in all cells.
   */
  rSquared: number | null;
}

/**
 * How well the surrogate on the checkpoint's own completions predicts the reward of fresh rollouts: over all cells,
 * then by ring.
 */
export function surrogateFits(
  cells: readonly GridCell[],
  objective: Float64Array,
  reward: Float64Array,
): SurrogateFit[] | null {
  const centre = cells.findIndex((cell) => cell.alpha === 0 && cell.beta === 0);
  if (centre < 0) return null;
  const fit = (ring: number | null, members: number[]): SurrogateFit => {
    const j = Float64Array.from(members, (k) => objective[k] - objective[centre]);
    const r = Float64Array.from(members, (k) => reward[k] - reward[centre]);
    const squares = dot(j, j) * dot(r, r);
    const cosine = squares === 0 ? null : dot(j, r) / Math.sqrt(squares);
    return {
      ring,
      cells: members.length,
      r: members.length < 3 ? null : pearson(j, r),
      cosine,
      rSquared: cosine === null ? null : cosine ** 2,
    };
  };
  const outer = rings(cells)
    .map(({ ring, members }) => ({ ring, members: members.filter((k) => k !== centre) }))
    .filter(({ members }) => members.length > 0);
  return [
    fit(
      null,
      outer.flatMap(({ members }) => members),
    ),
    ...outer.map(({ ring, members }) => fit(ring, members)),
  ];
}
