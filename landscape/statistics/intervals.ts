// Intervals: delete-one-prompt jackknives on the raw scale, and Student's t over slices.
//
// A prompt is deleted from every set, slice and checkpoint that has it, so differences and trends between them are
// paired. (On Fisher's z coverage falls to 40–90%; a percentile bootstrap of r leans towards 0 and misses.)
import { studentQuantile } from "./distributions.ts";
import type { Estimand } from "./estimands.ts";
import { NONE } from "./prompt-maps.ts";
import { spread } from "./statistics.ts";

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
