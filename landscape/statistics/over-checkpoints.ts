// Combines the correlations of a study's slices: means over the slices of one checkpoint, and trends over the
// checkpoints of one slice.
//
// Slices are independent draws of directions, so their mean has an interval by Student's t over slices, from five on.
// Checkpoints share prompts and noise, so a trend has a jackknife interval over prompts: each prompt is deleted from all
// checkpoints at once.
import { groupBy } from "../../engine/host/index.ts";
import { rAtBudget, rInfinity, trend } from "./estimands.ts";
import { acrossSlices, CORRELATION_CHANGES, type Estimate, jackknifeCorrelation } from "./intervals.ts";
import type { PromptMaps } from "./prompt-maps.ts";
import type { MeasuredSlice } from "./summary.ts";

/** Fewer slices than this get no mean. */
export const LEAST_SLICES = 5;

/** A mean over the slices in which the estimate is determined, and their number. */
export type EstimateOverSlices = Estimate & { slices: number };

/** Means over the slices of one checkpoint. */
export interface MeanOverSlices {
  step: number;
  /** Slices measured. */
  slices: number;
  r: EstimateOverSlices;
  rInfinity: EstimateOverSlices;
  withinRing: EstimateOverSlices;
}

/** A mean for every checkpoint that has five slices or more, by step. Fewer slices are shown singly and have no mean. */
export function meansOverSlices(measured: readonly MeasuredSlice[]): MeanOverSlices[] {
  const bySteps = [...groupBy(measured, ({ step }) => step)].sort(([a], [b]) => a - b);
  return bySteps
    .filter(([, slices]) => slices.length >= LEAST_SLICES)
    .map(([step, slices]) => {
      const over = (of: "r" | "rInfinity" | "withinRing"): EstimateOverSlices =>
        acrossSlices(slices.map(({ summary }) => summary[of].value));
      return {
        step,
        slices: slices.length,
        r: over("r"),
        rInfinity: over("rInfinity"),
        withinRing: over("withinRing"),
      };
    });
}

/** Slopes per training step of the least-squares line through one slice's checkpoints. */
export interface CorrelationTrend {
  slice: number;
  /** Checkpoints that the line goes through. */
  steps: readonly number[];
  r: Estimate;
  rInfinity: Estimate;
}

/**
 * The trend of every slice with at least two checkpoints whose maps are whole. Maps with missing cells are left out: a
 * correlation over other cells is another quantity.
 */
export function trendsOf(slices: readonly (MeasuredSlice & { maps: PromptMaps })[]): CorrelationTrend[] {
  const whole = slices.filter(({ summary }) => summary.grid.isComplete);
  return [...groupBy(whole, ({ slice }) => slice)]
    .sort(([a], [b]) => a - b)
    .flatMap(([slice, found]): CorrelationTrend[] => {
      const members = [...found].sort((a, b) => a.step - b.step);
      if (members.length < 2) return [];
      const steps = members.map(({ step }) => step);
      const line = (of: typeof rInfinity) =>
        trend(
          steps,
          members.map(({ maps }) => of(maps)),
        );
      const isDetermined = (name: "r" | "rInfinity"): boolean =>
        members.every(({ summary }) => summary[name].value !== null);
      const undetermined: Estimate = { value: null, low: null, high: null, standardError: null };
      // A slope times the span is a difference of two correlations along the line.
      const span = steps[steps.length - 1] - steps[0];
      const range = { least: CORRELATION_CHANGES.least / span, most: CORRELATION_CHANGES.most / span };
      return [
        {
          slice,
          steps,
          r: isDetermined("r") ? jackknifeCorrelation(line(rAtBudget), range) : undetermined,
          rInfinity: isDetermined("rInfinity") ? jackknifeCorrelation(line(rInfinity), range) : undetermined,
        },
      ];
    });
}
