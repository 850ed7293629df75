// How estimates and their terms are written, the same in the terminal, the report and the comparison of runs.
//
// ± always means half the width of a 95% interval. Tables say so in a line under them.
import { studentQuantile } from "../statistics/distributions.ts";
import type { Determination, PromptNeed } from "../statistics/signal.ts";
import type { MeasuredSlice, Summary } from "../statistics/summary.ts";

/** A number with a true minus sign. */
export const fixed = (value: number, digits: number): string => value.toFixed(digits).replace("-", "−");

/** The range of an interval, which is made on the raw scale and lies evenly around its value; null where there is none. */
export function reachOf({ value, high }: { value: number | null; high: number | null }): number | null {
  return value === null || high === null ? null : high - value;
}

/** Half the width of the 95% interval of a mean of so many values, from its standard error: Student's t. */
export function reachOfMean(standardError: number, count: number): number | null {
  return count < 2 || Number.isNaN(standardError) ? null : studentQuantile(0.975, count - 1) * standardError;
}

/** Below this simulated coverage an interval is not called a 95% interval without saying more. */
const LEAST_COVERAGE = 0.9;

/** What the intervals of these slices are, with the least simulated coverage where it is below 90% or unknown. */
export function intervalName(slices: readonly { summary: Pick<Summary, "coverage"> }[]): string {
  const all = slices.flatMap(({ summary: { coverage } }) =>
    coverage === null ? [null] : [coverage.r.coverage, coverage.rInfinity.coverage, coverage.withinRing.coverage],
  );
  const known = all.filter((coverage) => coverage !== null);
  const least = Math.min(...known);
  if (known.length === 0) return "nominal 95% interval (jackknife over prompts; coverage not simulated)";
  return least >= LEAST_COVERAGE
    ? "95% interval (jackknife over prompts)"
    : `nominal 95% interval (jackknife over prompts; simulated coverage from ${(100 * least).toFixed(0)}%)`;
}

/** "undetermined", with what it would need where that is known: "undetermined: needs at least 86 prompts (64 used)". */
export const undeterminedText = (determination: Determination | undefined): string =>
  determination === undefined ? "undetermined" : `undetermined: ${needText(determination)}`;

/** What an undetermined estimate needs: "needs at least 86 prompts (64 used)". */
export function needText(determination: Determination): string {
  const { rollouts, reference } = determination;
  const need = ({ used, needed, isLowerBound }: PromptNeed, name: string): string[] =>
    needed === null || needed <= used
      ? []
      : [`${isLowerBound ? "at least" : "about"} ${needed} ${name} (${used} used)`];
  const needs = [...need(rollouts, "prompts"), ...need(reference, "reference prompts")];
  return needs.length > 0
    ? `needs ${needs.join(" and ")}`
    : `how many prompts would do cannot be said (${rollouts.used} prompts and ${reference.used} reference prompts used)`;
}

/** The terms of every table, in plain text; a report sets the symbols itself. */
export const TERMS = {
  r: "correlation of KL and reward over the grid points of one map, at this number of prompts. Rollout noise pulls it towards 0",
  rInfinity:
    "the same without rollout noise. It is a ratio of estimates and can pass −1 or 1 when too much noise was taken off; that is no correlation beyond 1",
  withinRing:
    "what is left of r∞ after the mean of every ring of equal distance is subtracted from KL and reward: what distance from the checkpoint alone does not explain",
  undetermined:
    "the interval would hold every correlation from −1 to 1, or the prompts do not separate the map from noise. It is not zero",
  advantages: "reference groups whose rewards differ, so that they have advantages; the others teach nothing",
  floor: "share of all rollouts with reward 0",
  landmarks: "nats per token, mean over the middles of the four edges and over the four corners of the map",
} as const;

/** What an environment asks for, in one sentence; null for one that is not known here. */
export function taskSentence(environment: string): string | null {
  return environment === "alphabet-sort"
    ? "Alphabet-sort: the model sorts a few names by first or last name, inside tags; each later turn adds names, and all of them are sorted again with the new ones marked. Reward, from 0 to 1: how similar the lists are to the right ones."
    : null;
}

/** Slices with missing cells, a sentence each. */
export function gapSentences(slices: readonly MeasuredSlice[]): string[] {
  return slices
    .filter(({ summary }) => !summary.grid.isComplete)
    .map(
      ({ step, slice, summary: { grid } }) => `step ${step}, slice ${slice} has ${grid.cells} of ${grid.total} cells.`,
    );
}
