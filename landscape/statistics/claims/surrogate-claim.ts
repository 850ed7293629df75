// The surrogate as a predictor of the reward: whether J on the checkpoint's own completions is higher where fresh rollouts
// earn more (claims/surrogate.ts has the estimates).
import type { Estimate } from "../intervals.ts";
import {
  type Claim,
  type ClaimedSlice,
  type ClaimPlot,
  type ClaimTable,
  count,
  inStepOrder,
  type PlotSeries,
  plotPoint,
  type Sides,
  sidesOf,
  tooFewPrompts,
  UNDECIDED,
  verdictOn,
} from "./claim.ts";
import { type SurrogateEstimates, WINSORISED } from "./surrogate.ts";

const KINDS = ["raw", "winsorised"] as const;
type Kind = (typeof KINDS)[number];

/** Null if no map has its centre. */
export function surrogateClaim(slices: readonly ClaimedSlice[]): Claim | null {
  const ordered = inStepOrder(slices).filter(({ evidence }) => evidence.surrogate !== null);
  if (ordered.length === 0) return null;
  const whole = (kind: Kind): Estimate[] => ordered.flatMap(({ evidence }) => evidence.surrogate?.[kind][0].r ?? []);
  const raw = sidesOf(whole("raw"));
  const winsorised = sidesOf(whole("winsorised"));
  return {
    name: "surrogate",
    title: "The surrogate J as a predictor of R",
    claimed: "Where the surrogate J is above its value at the checkpoint, so is the reward.",
    concluded: conclusion(raw, winsorised),
    verdict: verdictOn(winsorised, "above"),
    refutedBy:
      "Intervals of r(J, R) at or below 0, raw and winsorised, would have refuted it; an R² close to 0 with a narrow " +
      "interval would have made it useless.",
    limits: [
      ...tooFewPrompts(ordered),
      `Winsorised: the contributions of completions to J are cut to their ${percent(WINSORISED)} and ${percent(1 - WINSORISED)} quantiles ` +
        "at every cell, because a single ratio can dominate the raw J. The verdict is on the winsorised J.",
    ],
    tables: [wholeTable(ordered), ringTable(ordered)],
    plot: plotOf(ordered),
  };
}

const percent = (share: number): string => `${Number((100 * share).toPrecision(3))}%`;

function conclusion(raw: Sides, winsorised: Sides): string {
  if (raw.below + raw.above + winsorised.below + winsorised.above === 0)
    return `Whether J foretells R ${UNDECIDED}, raw or winsorised.`;
  const text = ({ above, below, of }: Sides): string =>
    `above 0 in ${count(above, of, "maps")} and below 0 in ${below}`;
  return `The interval of r(J, R) lies ${text(winsorised)} with the winsorised J, and ${text(raw)} with the raw J; the others cannot be decided at this budget.`;
}

function wholeTable(slices: readonly ClaimedSlice[]): ClaimTable {
  return {
    caption: "J − J(0, 0) against R − R(0, 0) over all cells but the checkpoint’s.",
    columns: [
      { name: "step" },
      { name: "slice" },
      ...KINDS.flatMap((kind) => [
        { name: `r, ${kind}`, digits: 2 },
        { name: `R², ${kind}`, digits: 2 },
      ]),
    ],
    rows: slices.map(({ step, slice, evidence }) => [
      ...[step, slice],
      ...KINDS.flatMap((kind) => {
        const whole = evidence.surrogate?.[kind][0];
        return [whole?.r ?? null, whole?.rSquared ?? null];
      }),
    ]),
  };
}

function ringTable(slices: readonly ClaimedSlice[]): ClaimTable {
  return {
    caption: "The same by ring: distance from the checkpoint in grid steps.",
    columns: [
      { name: "step" },
      { name: "slice" },
      { name: "ring" },
      { name: "cells" },
      ...KINDS.flatMap((kind) => [
        { name: `r, ${kind}`, digits: 2 },
        { name: `R², ${kind}`, digits: 2 },
      ]),
    ],
    rows: slices.flatMap(({ step, slice, evidence: { surrogate } }) =>
      (surrogate?.raw.slice(1) ?? []).map(({ ring, cells, r, rSquared }, k) => {
        const winsorised = surrogate?.winsorised[k + 1];
        return [step, slice, ring, cells, r, rSquared, winsorised?.r ?? null, winsorised?.rSquared ?? null];
      }),
    ),
  };
}

function plotOf(slices: readonly ClaimedSlice[]): ClaimPlot {
  const slice = slices[0].slice;
  const one = slices.filter((of) => of.slice === slice);
  const many = slices.some((of) => of.slice !== slice);
  const series = (value: (of: SurrogateEstimates) => Estimate): PlotSeries[] =>
    KINDS.map((kind) => ({
      name: kind,
      kind: kind === "raw" ? "expected" : "line",
      points: one.flatMap(({ step, evidence }) => {
        const whole = evidence.surrogate?.[kind][0];
        return whole === undefined ? [] : [plotPoint(step, value(whole))];
      }),
    }));
  return {
    xLabel: "training step",
    xScale: "linear",
    panels: [
      { title: "r of J and R", range: [-1, 1], level: 0, series: series(({ r }) => r) },
      { title: "R²", range: [0, 1], series: series(({ rSquared }) => rSquared) },
    ],
    notes: [
      `Line: winsorised J. Dashed: raw J. Bars: nominal 95% intervals over prompts.${many ? ` Slice ${slice}; the table has all.` : ""}`,
    ],
  };
}
