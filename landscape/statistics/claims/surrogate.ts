// How well the surrogate objective J on the checkpoint's own completions foretells the reward of fresh rollouts, cell by
// cell: r and R² of J − J(0,0) against R − R(0,0), over all cells and by ring.
//
// A single ratio can dominate J: ρA has no upper bound if A < 0. So the same is computed with winsorised contributions.
// The contribution of a completion to J − J(0,0) at a cell is its change of Σ min(ρA, clip(ρ)A) ÷ the tokens of its
// group. At every cell, contributions below the 2.5% quantile over completions count as that quantile, and those above
// the 97.5% quantile as that one.
import type { ReferenceSet } from "../../files/cells.ts";
import type { CellSums } from "../cell-sums.ts";
import { LEAST_PROMPTS, meansWithout } from "../estimands.ts";
import { type Estimate, saysSomething } from "../intervals.ts";
import { estimandOf, type LeaveOneOut, promptInterval } from "../leave-one-out.ts";
import { type SurrogateFit, surrogateFits } from "../map-features.ts";
import { NONE, type PromptMaps } from "../prompt-maps.ts";
import { quantileOfSorted } from "../statistics.ts";

/** Share of contributions that are winsorised at each end. */
export const WINSORISED = 0.025;

/** Of the cells of one ring, or of all but the centre (`ring` null). */
export interface SurrogateEstimates {
  readonly ring: number | null;
  readonly cells: number;
  /** Pearson's. */
  readonly r: Estimate;
  /** Explained by a line through the origin. Its interval is that of the cosine on Fisher's z, squared. */
  readonly rSquared: Estimate;
}

export interface SurrogateEvidence {
  /** Share winsorised at each end. */
  readonly level: number;
  readonly raw: readonly SurrogateEstimates[];
  readonly winsorised: readonly SurrogateEstimates[];
}

/** Null without the centre's cell. @param cells  in any order, those of `maps` */
export function surrogateEvidence(
  cells: readonly CellSums[],
  reference: ReferenceSet,
  maps: PromptMaps,
): SurrogateEvidence | null {
  const centre = maps.cells.findIndex(({ alpha, beta }) => alpha === 0 && beta === 0);
  if (centre < 0) return null;
  const contributions = winsorisedMaps(cells, reference, maps, centre);
  const estimates = (objective: readonly Float64Array[]) => {
    const prompts = Math.max(objective.length, maps.reward.length);
    const meanObjective = meansWithout(objective, maps.cells.length);
    const meanReward = meansWithout(maps.reward, maps.cells.length);
    const fits = (deleted: number): SurrogateFit[] =>
      surrogateFits(maps.cells, meanObjective(deleted), meanReward(deleted)) ?? [];
    const whole = fits(NONE);
    const fewest = Math.min(objective.length, maps.reward.length);
    const without = fewest < LEAST_PROMPTS ? [] : Array.from({ length: prompts }, (_, p) => fits(p));
    return whole.map(({ ring, cells: count }, k): SurrogateEstimates => {
      const of = (name: "r" | "cosine"): LeaveOneOut => ({
        value: whole[k][name],
        without: without.map((fit) => fit[k][name]),
      });
      const plain = (table: LeaveOneOut): Estimate => determinedOnly(promptInterval(estimandOf(table), without.length));
      const cosine = of("cosine");
      return { ring, cells: count, r: plain(of("r")), rSquared: squareOf(onFisherScale(plain(cosine), cosine)) };
    });
  };
  return { level: WINSORISED, raw: estimates(maps.objective), winsorised: estimates(contributions) };
}

/**
 * A cosine whose interval is made of atanh c and turned back. Near ±1 a cosine's spread shrinks as it grows, so an interval on its own
 * scale is too short just where c is too large: simulated coverage of R² then falls to 79%, and with atanh to 87% (docs/metrics.md).
 * A cosine never passes ±1, so atanh is defined, unlike that of r∞.
 */
function onFisherScale(plain: Estimate, { value, without }: LeaveOneOut): Estimate {
  if (plain.value === null || plain.low === null) return plain;
  const fisher = (cosine: number | null): number | null =>
    cosine === null ? null : Math.atanh(Math.min(LARGEST_COSINE, Math.max(-LARGEST_COSINE, cosine)));
  const { low, high } = promptInterval(estimandOf({ value: fisher(value), without: without.map(fisher) }));
  if (low === null || high === null) return plain;
  return { ...plain, low: Math.tanh(low), high: Math.tanh(high) };
}

/** Where atanh is still a number, though rounding may bring a cosine to 1. */
const LARGEST_COSINE = 1 - 1e-12;

/** Undetermined if its interval contains every correlation. */
function determinedOnly(estimate: Estimate): Estimate {
  if (estimate.low === null || saysSomething(estimate)) return estimate;
  return { value: null, low: null, high: null, standardError: null };
}

/** The square of a cosine, with its interval: from 0 on, if the cosine's contains 0. */
export function squareOf({ value, low, high, standardError }: Estimate): Estimate {
  if (value === null) return { value, low: null, high: null, standardError: null };
  if (low === null || high === null || standardError === null)
    return { value: value ** 2, low: null, high: null, standardError: null };
  const [least, most] = [low ** 2, high ** 2].sort((a, b) => a - b);
  return {
    value: value ** 2,
    low: low <= 0 && high >= 0 ? 0 : Math.min(1, least),
    high: Math.min(1, most),
    standardError: 2 * Math.abs(value) * standardError,
  };
}

/** Winsorised J − J(0,0) of each prompt: prompts × cells, in the order of `maps.cells`. */
export function winsorisedMaps(
  cells: readonly CellSums[],
  { tokens }: ReferenceSet,
  maps: PromptMaps,
  centre: number,
): Float64Array[] {
  const at = new Map(cells.map(({ point: { i, j }, surrogates }) => [`${i},${j}`, surrogates]));
  const ordered = maps.cells.map(({ i, j }) => at.get(`${i},${j}`) ?? []);
  const groupTokens = tokens.map((of) =>
    Math.max(
      1,
      of.reduce((sum, count) => sum + count, 0),
    ),
  );
  const result = tokens.map(() => new Float64Array(ordered.length));
  const contributions = new Float64Array(tokens.reduce((sum, of) => sum + of.length, 0));
  for (const [cell, surrogates] of ordered.entries()) {
    let k = 0;
    for (const [p, of] of tokens.entries())
      for (let g = 0; g < of.length; g++, k++) contributions[k] = (surrogates[k] - ordered[centre][k]) / groupTokens[p];
    const sorted = contributions.slice().sort();
    const low = quantileOfSorted(sorted, WINSORISED);
    const high = quantileOfSorted(sorted, 1 - WINSORISED);
    k = 0;
    for (const [p, of] of tokens.entries())
      for (let g = 0; g < of.length; g++) result[p][cell] += Math.min(high, Math.max(low, contributions[k++]));
  }
  return result;
}
