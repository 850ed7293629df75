// Where conversations first differ from the checkpoint's, over the slices of a run: no claim, a description
// (claims/first-differences.ts has the estimates).
import {
  type Claim,
  type ClaimedSlice,
  type ClaimPlot,
  type ClaimTable,
  inStepOrder,
  type PlotSeries,
  plotPoint,
  tooFewPrompts,
} from "./claim.ts";
import { PARTS, type RingDifferences } from "./first-differences.ts";

/** Null if no map has the places. */
export function conversationsClaim(slices: readonly ClaimedSlice[]): Claim | null {
  const ordered = inStepOrder(slices).filter(({ evidence }) => evidence.firstDifferences !== null);
  if (ordered.length === 0) return null;
  const without = slices.length - ordered.length;
  return {
    name: "first-difference",
    title: "Where conversations first differ from the checkpoint’s",
    claimed: null,
    concluded: conclusion(ordered),
    verdict: "described",
    refutedBy: null,
    limits: [
      ...tooFewPrompts(ordered),
      "Counted are the rollouts whose prompt and number the checkpoint’s reference completions have too.",
      ...(without > 0 ? [`${without} maps were measured before the place was stored.`] : []),
    ],
    tables: [table(ordered)],
    plot: plotOf(ordered),
  };
}

const wholeOf = ({ evidence }: ClaimedSlice): RingDifferences | undefined => evidence.firstDifferences?.[0];

function conclusion(slices: readonly ClaimedSlice[]): string {
  const shares = slices.flatMap((of) => wholeOf(of)?.never.value ?? []);
  const percent = (share: number): string => `${Math.round(100 * share)}%`;
  const [least, most] = [Math.min(...shares), Math.max(...shares)].map(percent);
  return `${least === most ? least : `Between ${least} and ${most}`} of the conversations at the other grid points of a map are the checkpoint’s own to their end.`;
}

function table(slices: readonly ClaimedSlice[]): ClaimTable {
  return {
    caption:
      "By ring: share of conversations that never differ, and among the others the mean number of assistant tokens before the " +
      `first that differs. First and last tenth: share of conversations that first differ there, of ${PARTS} parts of the checkpoint’s conversation.`,
    columns: [
      { name: "step" },
      { name: "slice" },
      { name: "ring" },
      { name: "cells" },
      { name: "never differs", digits: 3 },
      { name: "tokens before", digits: 1 },
      { name: "first tenth", digits: 3 },
      { name: "last tenth", digits: 3 },
    ],
    rows: slices.flatMap(({ step, slice, evidence }) =>
      (evidence.firstDifferences ?? []).map(({ ring, cells, never, meanPlace, parts }) => [
        ...[step, slice, ring ?? "all", cells, never, meanPlace, parts[0], parts[PARTS - 1]],
      ]),
    ),
  };
}

function plotOf(slices: readonly ClaimedSlice[]): ClaimPlot {
  const steps = [...new Set(slices.map(({ step }) => step))];
  const drawn = new Set([steps[0], steps[Math.floor((steps.length - 1) / 2)], steps[steps.length - 1]]);
  const chosen = slices.filter(({ step, slice }) => drawn.has(step) && slice === slices[0].slice);
  const series = (points: (rings: readonly RingDifferences[]) => PlotSeries["points"]): PlotSeries[] =>
    chosen.map(({ step, evidence }) => ({
      name: `step ${step}`,
      kind: "line",
      points: points(evidence.firstDifferences ?? []),
    }));
  return {
    xLabel: "ring, grid steps",
    xScale: "linear",
    panels: [
      {
        title: "share that never differs",
        range: [0, 1],
        series: series(([, ...rings]) => rings.map(({ ring, never }) => plotPoint(ring ?? 0, never))),
      },
      {
        title: "histogram of the first difference",
        xLabel: "tenth of the checkpoint’s conversation",
        range: [0, 0],
        series: series(([whole]) => whole.parts.map((value, k) => ({ x: k + 1, value, low: null, high: null }))),
      },
    ],
    notes: [
      "Bars: nominal 95% intervals over prompts. The histogram is over all cells but the checkpoint’s." +
        (slices.length > chosen.length
          ? ` Drawn: slice ${slices[0].slice} of the first, middle and last checkpoint.`
          : ""),
    ],
  };
}
