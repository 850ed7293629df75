// The short table that a study ends with.
import type { Estimate } from "../statistics/intervals.ts";
import type { MeasuredSlice } from "../statistics/summary.ts";

const columns: readonly (readonly [title: string, cell: (slice: MeasuredSlice) => string])[] = [
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

/** One row a swept slice. Undetermined estimates say so. */
export function summaryTable(slices: readonly MeasuredSlice[]): string {
  const rows = slices.map((slice) => columns.map(([, cell]) => cell(slice)));
  const header = columns.map(([title]) => title);
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, column) => cell.padStart(widths[column])).join("  ");
  return [
    line(header),
    ...rows.map(line),
    "r: correlation of the two maps at this budget; r∞: free of rollout noise. ±: jackknife over prompts.",
    "KL: nats a token, mean over the mid-edges and the corners. A ≠ 0: groups whose rewards differ.",
    ...slices
      .filter(({ summary }) => !summary.grid.isComplete)
      .map(
        ({ step, slice, summary: { grid } }) =>
          `Not whole: step ${step}, slice ${slice} has ${grid.cells} of ${grid.total} cells.`,
      ),
    ...(slices.some(({ summary }) => summary.floor.isFlagged)
      ? ["* More than half of all rollouts have reward 0: r then shows where the task fails altogether."]
      : []),
  ].join("\n");
}

function number(value: number | null, digits: number): string {
  return value === null ? "–" : value.toFixed(digits).replace("-", "−");
}

/** An interval lies evenly around its value (landscape/statistics/estimands.ts). */
function estimate(of: Estimate | null): string {
  if (of === null || of.value === null) return "undetermined";
  return `${number(of.value, 2)}${of.high === null ? "" : ` ± ${number(of.high - of.value, 2)}`}`;
}
