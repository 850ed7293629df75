// Differences and trends over the checkpoints of one slice, paired over prompts. They need tables alone (evidence.ts).
import { difference, trend } from "../estimands.ts";
import { CORRELATION_CHANGES, type Estimate, saysSomething } from "../intervals.ts";
import { estimandOf, type LeaveOneOut, promptInterval } from "../leave-one-out.ts";
import { mean } from "../statistics.ts";
import { combineSubsampled, type Subsampled, subsampleInterval } from "../subsamples.ts";
import { type ClaimedSlice, UNDETERMINED } from "./claim.ts";
import type { PairedTables } from "./evidence.ts";

const CORRELATIONS = ["r", "rInfinity", "withinRing"] as const;
type Correlation = (typeof CORRELATIONS)[number];
export type PairedName = keyof PairedTables;

const isCorrelation = (name: PairedName): name is Correlation => (CORRELATIONS as readonly string[]).includes(name);

/** A correlation counts only where its own map determines it. */
function tableOf({ evidence, summary }: ClaimedSlice, name: PairedName): LeaveOneOut | null {
  if (isCorrelation(name) && summary[name].value === null) return null;
  return evidence.tables[name];
}

const fewestPrompts = (slices: readonly ClaimedSlice[]): number =>
  Math.min(...slices.map(({ summary: { prompts } }) => Math.min(prompts.rollouts, prompts.reference)));

/** later − earlier, each prompt deleted from both at once. Undetermined if either is. */
export function changeOf(later: ClaimedSlice, earlier: ClaimedSlice, name: PairedName): Estimate {
  const tables = [tableOf(later, name), tableOf(earlier, name)];
  const [a, b] = tables;
  if (a === null || b === null || a.without.length !== b.without.length) return UNDETERMINED;
  const estimate = promptInterval(difference(estimandOf(a), estimandOf(b)), fewestPrompts([later, earlier]));
  return withinRange(estimate, isCorrelation(name) ? CORRELATION_CHANGES : null);
}

/** Slope per step of a straight line through a slice's checkpoints. Undetermined if any of them is. */
export function slopeOf(slices: readonly ClaimedSlice[], name: PairedName): Estimate {
  const steps = slices.map(({ step }) => step);
  const tables = slices.map((of) => tableOf(of, name)).filter((table) => table !== null);
  if (tables.length < slices.length || slices.length < 2) return UNDETERMINED;
  const span = Math.max(...steps) - Math.min(...steps);
  const { least, most } = CORRELATION_CHANGES;
  const estimate = promptInterval(trend(steps, tables.map(estimandOf)), fewestPrompts(slices));
  return withinRange(estimate, isCorrelation(name) ? { least: least / span, most: most / span } : null);
}

/** The same for statistics with random draws of prompts. */
export function subsampledSlope(steps: readonly number[], of: readonly (Subsampled | null)[]): Estimate {
  const known = of.filter((one) => one !== null);
  if (known.length < of.length || of.length < 2) return UNDETERMINED;
  const centre = mean(steps);
  const squares = steps.reduce((sum, step) => sum + (step - centre) ** 2, 0);
  return subsampleInterval(
    combineSubsampled(
      known,
      steps.map((step) => (step - centre) / squares),
    ),
  );
}

/** An interval that contains every possible value is withheld, with its value (intervals.ts). */
function withinRange(estimate: Estimate, range: { least: number; most: number } | null): Estimate {
  if (range === null || estimate.low === null) return estimate;
  return saysSomething(estimate, range) ? estimate : UNDETERMINED;
}

export const perTenSteps = ({ value, low, high, standardError }: Estimate): Estimate => {
  const tenfold = (number: number | null): number | null => (number === null ? null : 10 * number);
  return { value: tenfold(value), low: tenfold(low), high: tenfold(high), standardError: tenfold(standardError) };
};
