// The table that a study prints at its end, and the lines below it that explain its terms.
import type { Estimate } from "../statistics/intervals.ts";
import {
  type CorrelationTrend,
  type EstimateOverSlices,
  type MeanOverSlices,
  meansOverSlices,
} from "../statistics/over-checkpoints.ts";
import type { MeasuredSlice } from "../statistics/summary.ts";
import {
  fixed,
  gapSentences,
  intervalName,
  NO_INTERVAL,
  needText,
  noIntervalSentences,
  reachOf,
  TERMS,
} from "./wording.ts";

type Column = readonly [title: string, cell: (slice: MeasuredSlice) => string];

const COLUMNS: readonly Column[] = [
  ["step", ({ step }) => String(step)],
  ["slice", ({ slice }) => String(slice)],
  ["R(0,0)", ({ summary }) => estimate(summary.originReward)],
  ["r(KL, R)", ({ summary }) => estimate(summary.r)],
  ["r∞", ({ summary }) => estimate(summary.rInfinity)],
  ["within ring", ({ summary }) => estimate(summary.withinRing)],
  ["KL edge", ({ summary }) => number(summary.klAtMidEdges, 4)],
  ["KL corner", ({ summary }) => number(summary.klAtCorners, 4)],
  ["A ≠ 0", ({ summary: { advantages } }) => `${advantages.nonZero}/${advantages.groups}`],
  ["floor", ({ summary: { floor } }) => `${(100 * floor.share).toFixed(0)}%${floor.isFlagged ? "*" : ""}`],
];

/** Shown if any slice is incomplete. */
const CELLS: Column = ["cells", ({ summary: { grid } }) => `${grid.cells} of ${grid.total}`];

/**
 * One row per swept slice, one for the mean of each checkpoint with five slices or more, and the meanings of the terms.
 * @param trends  from over-checkpoints.ts; one line for each
 */
export function summaryText(slices: readonly MeasuredSlice[], trends: readonly CorrelationTrend[]): string {
  const means = meansOverSlices(slices);
  const isWhole = slices.every(({ summary }) => summary.grid.isComplete);
  const columns = isWhole ? COLUMNS : [...COLUMNS, CELLS];
  const header = columns.map(([title]) => title);
  const rows = [
    ...slices.map((slice) => columns.map(([, cell]) => cell(slice))),
    ...means.map((mean) => meanRow(mean, columns.length)),
  ];
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padStart(widths[column]))
      .join("  ")
      .trimEnd();
  return [
    line(header),
    ...rows.map(line),
    ...gapSentences(slices).map((sentence) => `Incomplete: ${sentence}`),
    `±: half the width of the ${intervalName(slices)}.`,
    `r(KL, R): ${TERMS.r}.`,
    `r∞: ${TERMS.rInfinity}.`,
    `within ring: ${TERMS.withinRing}.`,
    `KL edge, KL corner: ${TERMS.landmarks}.`,
    `R(0,0): mean reward at the checkpoint. A ≠ 0: ${TERMS.advantages}. floor: ${TERMS.floor}.`,
    ...noIntervalSentences(slices),
    ...undeterminedLines(slices),
    ...(means.length > 0 ? ["mean: over the slices of a checkpoint; its ± is Student's t over slices."] : []),
    ...trends.map(trendLine),
    ...(slices.some(({ summary }) => summary.floor.isFlagged)
      ? ["* More than half of all rollouts have reward 0: r then mainly shows where the task fails completely."]
      : []),
  ].join("\n");
}

function meanRow({ step, slices, r, rInfinity, withinRing }: MeanOverSlices, width: number): string[] {
  const cell = (of: EstimateOverSlices): string =>
    of.low === null
      ? `${of.slices} of ${slices} known`
      : `${estimate(of)}${of.slices < slices ? ` (${of.slices} slices)` : ""}`;
  const cells = [String(step), "mean", "", cell(r), cell(rInfinity), cell(withinRing)];
  return [...cells, ...new Array<string>(width - cells.length).fill("")];
}

/** The meaning of "undetermined", and the number of prompts that each undetermined estimate needs. */
function undeterminedLines(slices: readonly MeasuredSlice[]): string[] {
  const lines = slices.flatMap(({ step, slice, summary: { determined } }) =>
    (
      [
        ["r", determined.r],
        ["r∞", determined.rInfinity],
        ["within ring", determined.withinRing],
      ] as const
    ).flatMap(([name, of]) => (of.isDetermined ? [] : [`  step ${step}, slice ${slice}, ${name}: ${needText(of)}`])),
  );
  return lines.length === 0 ? [] : [`undetermined: ${TERMS.undetermined}. ${TERMS.referencePrompts}.`, ...lines];
}

/** Slopes are written per ten steps, which suits the size of a study. */
function trendLine({ slice, steps, r, rInfinity }: CorrelationTrend): string {
  const perTen = (of: Estimate): string =>
    estimate({ ...of, value: tenfold(of.value), low: tenfold(of.low), high: tenfold(of.high) });
  return (
    `Trend over steps ${steps.join(", ")}, slice ${slice}, per 10 steps: r ${perTen(r)}, r∞ ${perTen(rInfinity)} ` +
    "(slope of a straight line, paired over prompts)."
  );
}

const tenfold = (value: number | null): number | null => (value === null ? null : 10 * value);

function number(value: number | null, digits: number): string {
  return value === null ? "–" : fixed(value, digits);
}

function estimate(of: Estimate | null): string {
  if (of === null || of.value === null) return "undetermined";
  const reach = reachOf(of);
  return `${fixed(of.value, 2)}${reach === null ? ` ${NO_INTERVAL}` : ` ± ${fixed(reach, 2)}`}`;
}
