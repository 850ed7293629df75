// What a claim gives: what was claimed, what may be concluded from the numbers, what would have refuted it, tables, and
// the numbers of its figure. The conclusion is chosen by rule from intervals alone. An interval on one side of a value
// decides; one that contains it, or none, does not.

import { LEAST_PROMPTS } from "../estimands.ts";
import type { Estimate } from "../intervals.ts";
import type { MeasuredSlice } from "../summary.ts";
import type { SliceEvidence } from "./evidence.ts";

/** An Estimate with a value and no ends has no interval; null: not measured. */
export type ClaimCell = string | number | Estimate | null;

export interface ClaimTable {
  readonly caption: string;
  /** `digits`: after the point, for numbers and estimates. */
  readonly columns: readonly { readonly name: string; readonly digits?: number }[];
  readonly rows: readonly (readonly ClaimCell[])[];
}

/** A value of a figure, with its interval if there is one. */
export interface PlotPoint {
  readonly x: number;
  readonly value: number | null;
  readonly low: number | null;
  readonly high: number | null;
}

export interface PlotSeries {
  readonly name: string;
  readonly points: readonly PlotPoint[];
  /** "line": this run's. "points": the same without a line. "published": numbers from elsewhere, drawn as hollow marks. "expected": a dashed line. */
  readonly kind: "line" | "points" | "published" | "expected";
}

export interface PlotPanel {
  readonly title: string;
  /** If it is not the plot's. The axis is then linear, unless `xScale` says otherwise. */
  readonly xLabel?: string;
  readonly xScale?: "linear" | "log";
  readonly series: readonly PlotSeries[];
  /** The least range of the axis. */
  readonly range?: readonly [number, number];
  /** The axis itself, of a quantity that cannot pass it: an interval is drawn no farther. */
  readonly bounds?: readonly [number, number];
  /** A line across, for example at 0. */
  readonly level?: number;
}

export interface ClaimPlot {
  readonly xLabel: string;
  readonly xScale: "linear" | "log";
  readonly panels: readonly PlotPanel[];
  readonly notes: readonly string[];
}

export interface Claim {
  /** Of files: "t1". */
  readonly name: string;
  readonly title: string;
  /** What is claimed; null for a measurement without a claim. */
  readonly claimed: string | null;
  /** "cannot be decided at this budget" among others. */
  readonly concluded: string;
  readonly verdict: Verdict;
  /** What would have refuted it; null without a claim. */
  readonly refutedBy: string | null;
  /** What is not measured or has no interval, in sentences. */
  readonly limits: readonly string[];
  readonly tables: readonly ClaimTable[];
  /** Null if there is nothing to draw. */
  readonly plot: ClaimPlot | null;
}

export type Verdict = "shown" | "shown in part" | "contradicted" | "undecided" | "described";

/** A slice with what its claims need. */
export interface ClaimedSlice extends MeasuredSlice {
  readonly evidence: SliceEvidence;
}

/** Evaluation during training. */
export interface EvaluatedStep {
  readonly step: number;
  readonly reward: number;
  /** Half the width of its 95% interval over episodes; null if there is none. */
  readonly reach: number | null;
}

/** How many intervals lie on each side of a value; the others decide nothing. */
export interface Sides {
  readonly below: number;
  readonly above: number;
  readonly open: number;
  readonly of: number;
}

export function sidesOf(estimates: readonly Estimate[], value = 0): Sides {
  const below = estimates.filter(({ high }) => high !== null && high < value).length;
  const above = estimates.filter(({ low }) => low !== null && low > value).length;
  return { below, above, open: estimates.length - below - above, of: estimates.length };
}

/** The verdict on "every one of these lies on this side". */
export function verdictOn({ below, above, open, of }: Sides, claimed: "below" | "above"): Verdict {
  const [forIt, against] = claimed === "below" ? [below, above] : [above, below];
  if (of === 0 || open === of) return "undecided";
  if (forIt === 0) return against === 0 ? "undecided" : "contradicted";
  return forIt === of ? "shown" : "shown in part";
}

export const UNDECIDED = "cannot be decided at this budget";
/** "both maps", "all 9 maps", "3 of 9 maps", "1 of 1 maps". */
export const count = (number: number, of: number, noun: string): string =>
  number === of && of === 2
    ? `both ${noun}`
    : number === of && of > 2
      ? `all ${of} ${noun}`
      : `${number} of ${of} ${noun}`;

/** A sentence if a set of prompts is too small for intervals. */
export function tooFewPrompts(slices: readonly ClaimedSlice[]): string[] {
  const fewest = Math.min(...slices.map(({ summary: { prompts } }) => Math.min(prompts.rollouts, prompts.reference)));
  if (!(fewest < LEAST_PROMPTS)) return [];
  return [
    `There are ${fewest} prompts in the smaller of the two sets. Below ${LEAST_PROMPTS} no interval is made for r∞, ` +
      "within-ring r, overlaps, surrogate, bins and differences: the values stand alone and decide nothing.",
  ];
}

/** A sentence for maps with missing cells, which take no part in differences and trends. */
export function incompleteMaps(slices: readonly ClaimedSlice[]): string[] {
  const missing = slices.filter(({ summary }) => !summary.grid.isComplete);
  if (missing.length === 0) return [];
  const names = missing.map(({ step, slice }) => `step ${step}, slice ${slice}`).join("; ");
  return [`Maps with missing cells (${names}) take no part in differences and trends: they are over other cells.`];
}

export const inStepOrder = (slices: readonly ClaimedSlice[]): ClaimedSlice[] =>
  [...slices].sort((a, b) => a.step - b.step || a.slice - b.slice);

export const plotPoint = (x: number, { value, low, high }: Estimate): PlotPoint => ({ x, value, low, high });

export const UNDETERMINED: Estimate = { value: null, low: null, high: null, standardError: null };
