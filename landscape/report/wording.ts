// The wording of estimates and their terms, shared by the terminal, the report and the comparison of runs.
//
// ± always means half the width of a 95% interval. Tables say so in a line under them.
import { LEAST_PROMPTS, LEAST_PROMPTS_OF_MEANS } from "../statistics/estimands.ts";
import type { Estimate } from "../statistics/intervals.ts";
import type { Determination, PromptNeed } from "../statistics/signal.ts";
import type { MeasuredSlice, Summary } from "../statistics/summary.ts";

/** A number with a true minus sign. */
export const fixed = (value: number, digits: number): string => value.toFixed(digits).replace("-", "−");

/**
 * Half the width of an interval; null if there is none. The interval is made on the raw scale, so it is symmetric about
 * its value.
 */
export function reachOf({ value, high }: { value: number | null; high: number | null }): number | null {
  return value === null || high === null ? null : high - value;
}

/** A number as a table shows it: whole, or with these digits after the point. */
export const numberText = (value: number, digits: number | undefined): string =>
  digits === undefined ? String(value).replace("-", "−") : fixed(value, digits);

/** An estimate's value, and "[low, high]" beside it; "no interval" if there is none. */
export function estimateText({ value, low, high }: Estimate, digits: number): { value: string; range: string | null } {
  if (value === null) return { value: "undetermined", range: null };
  const range = low === null || high === null ? NO_INTERVAL : `[${fixed(low, digits)}, ${fixed(high, digits)}]`;
  return { value: fixed(value, digits), range };
}

/** Below this simulated coverage an interval is called a nominal 95% interval, with its coverage. */
const LEAST_COVERAGE = 0.9;

/**
 * The name of the intervals of these slices. It states the lowest simulated coverage if that is below 90% or unknown.
 */
export function intervalName(slices: readonly { summary: Pick<Summary, "coverage" | CorrelationKey> }[]): string {
  const all = slices.flatMap(({ summary }) =>
    CORRELATION_KEYS.flatMap((name) =>
      lacksInterval(summary[name]) ? [] : [summary.coverage?.[name].coverage ?? null],
    ),
  );
  const known = all.filter((coverage) => coverage !== null);
  const least = Math.min(...known);
  if (known.length === 0) return "nominal 95% interval (jackknife over prompts; coverage not simulated)";
  return least >= LEAST_COVERAGE
    ? "95% interval (jackknife over prompts)"
    : `nominal 95% interval (jackknife over prompts; simulated coverage from ${(100 * least).toFixed(0)}%)`;
}

const CORRELATION_KEYS = ["r", "rInfinity", "withinRing"] as const;
type CorrelationKey = (typeof CORRELATION_KEYS)[number];

/** Whether there is a value alone: of a single map, because it has too few prompts (intervals.ts). */
export const lacksInterval = ({ value, low }: { value: number | null; low: number | null }): boolean =>
  value !== null && low === null;

/** Beside a value without an interval. */
export const NO_INTERVAL = "(no interval)";

/** Why values stand without intervals, and in how many maps they do; nothing if all have one. */
export function noIntervalSentences(
  slices: readonly { summary: Pick<Summary, "prompts" | CorrelationKey> }[],
): string[] {
  const without = slices.filter(({ summary }) => CORRELATION_KEYS.some((name) => lacksInterval(summary[name])));
  if (without.length === 0) return [];
  const fewest = without.map(({ summary: { prompts } }) => Math.min(prompts.rollouts, prompts.reference));
  const [least, most] = [Math.min(...fewest), Math.max(...fewest)];
  return [
    `No interval: r∞ and within ring have one from ${LEAST_PROMPTS} prompts on, r from ${LEAST_PROMPTS_OF_MEANS} on, in the smaller of the two sets ` +
      `(prompts for R, reference prompts for KL); here it has ${least === most ? least : `${least} to ${most}`}. Intervals from fewer ` +
      "contain the truth too seldom. Such a value decides nothing.",
  ];
}

/** "undetermined", with the prompts needed if they are known: "undetermined: needs at least 86 prompts (64 used)". */
export const undeterminedText = (determination: Determination | undefined): string =>
  determination === undefined ? "undetermined" : `undetermined: ${needText(determination)}`;

/** The prompts that an undetermined estimate needs: "needs at least 86 prompts (64 used)". */
export function needText(determination: Determination): string {
  const { rollouts, reference } = determination;
  const need = ({ used, needed, isLowerBound }: PromptNeed, name: string): string[] =>
    needed === null || needed <= used
      ? []
      : [`${isLowerBound ? "at least" : "about"} ${needed} ${name} (${used} used)`];
  const needs = [...need(rollouts, "prompts"), ...need(reference, "reference prompts")];
  return needs.length > 0
    ? `needs ${needs.join(" and ")}`
    : `the number of prompts that it needs is unknown (${rollouts.used} prompts and ${reference.used} reference prompts used)`;
}

/** The terms of every table, in plain text; a report sets the symbols itself. */
export const TERMS = {
  r: "correlation of KL and reward over the grid points of one map, at this number of prompts. Rollout noise pulls it towards 0",
  rInfinity:
    "the same without rollout noise. It is a ratio of estimates, so it can pass −1 or 1 if too much noise was subtracted; such a value does not mean a correlation beyond 1",
  withinRing:
    "r∞ after the mean of every ring of equal distance is subtracted from KL and reward: the correlation that distance from the checkpoint alone does not explain",
  undetermined:
    "the interval would contain every correlation from −1 to 1, or the prompts do not separate the map from noise. Undetermined does not mean zero",
  referencePrompts: "Reference prompts are those on whose completions KL and J are measured",
  advantages:
    "reference groups whose rewards differ, so that their advantages are not all 0; the other groups contribute nothing to J",
  floor: "share of all rollouts with reward 0",
  landmarks:
    "KL in nats per token, averaged over the midpoints of the four edges, and over the four corners of the map",
} as const;

/** Slices with missing cells, a sentence each. */
export function gapSentences(slices: readonly MeasuredSlice[]): string[] {
  return slices
    .filter(({ summary }) => !summary.grid.isComplete)
    .map(
      ({ step, slice, summary: { grid } }) =>
        `Step ${step}, slice ${slice}: ${grid.cells} of ${grid.total} cells are measured.`,
    );
}
