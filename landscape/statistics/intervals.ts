// Intervals: delete-one-prompt jackknives on the raw scale, and Student's t over slices.
//
// A prompt is deleted from every set, slice and checkpoint that has it, so differences and trends between them are
// paired. (On Fisher's z coverage falls to 40–90%; a percentile bootstrap of r leans towards 0 and misses.)
import { studentQuantile } from "../../rl/index.ts";
import { type Estimand, LEAST_PROMPTS_OF_MEANS } from "./estimands.ts";
import { NONE } from "./prompt-maps.ts";
import { spread } from "./statistics.ts";

/**
 * An estimate with its interval; null: undetermined. Values are not clipped, so a correlation may pass ±1: clip when
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
 * with n − 1 degrees of freedom, on the raw scale. There is no interval if any deletion makes the value undetermined.
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

/** Every value that a correlation can have. */
const CORRELATIONS: Range = { least: -1, most: 1 };
/** Every value that the difference of two correlations can have. */
export const CORRELATION_CHANGES: Range = { least: -2, most: 2 };

interface Range {
  least: number;
  most: number;
}

/**
 * The jackknife estimate of a correlation, or undetermined. It is determined when
 *   1. it has a value: neither map is constant, and for r∞ and within rings C_KK > 0 and C_RR > 0;
 *   2. it keeps a value when any one prompt is deleted (otherwise there is no interval);
 *   3. the interval excludes at least one number between −1 and 1.
 * Why: an interval that contains every correlation carries no information, nor does a value without an interval. r has
 * such an interval if its few prompts disagree. r∞ divides by √(C_KK · C_RR): if noise brings one of the two close to 0,
 * the value and the interval grow without bound. Rule 3 has no constant to choose, and leaves no gap to rule 2: if the denominator comes close to 0 when one prompt is
 * deleted, the interval grows until it contains [−1, 1] before the denominator reaches 0.
 *
 * A determined value of too few prompts stands without its interval (`leastPrompts` of the estimand): such intervals contain the
 * truth too seldom (docs/metrics.md).
 * @param range  the values that the estimand can have in the limit of many prompts; for a change, CORRELATION_CHANGES
 */
export function jackknifeCorrelation(estimand: Estimand, range: Range = CORRELATIONS): Estimate {
  const estimate = jackknife(estimand);
  if (!saysSomething(estimate, range)) return undetermined;
  const { prompts, fewest = prompts, leastPrompts = LEAST_PROMPTS_OF_MEANS } = estimand;
  return fewest < leastPrompts ? { ...undetermined, value: estimate.value } : estimate;
}

/** Rules 2 and 3: there is an interval, and it excludes some value of the range. */
export function saysSomething({ low, high }: Estimate, range: Range = CORRELATIONS): boolean {
  return low !== null && high !== null && (low > range.least || high < range.most);
}

/**
 * Mean over slices (or other independent units): with fewer than five determined values there is no interval and each
 * value is shown; with five or more, Student's t on their mean, raw scale.
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
