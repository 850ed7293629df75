// The short table that a study ends with.
import { join } from "node:path";
import type { Estimate } from "./estimands.ts";
import type { MeasuredSlice } from "./report.ts";

/** One row a swept slice. Undetermined estimates say so. */
export function summaryTable(folder: string, slices: readonly MeasuredSlice[]): string {
  const header = [
    "step",
    "slice",
    "R(0,0)",
    "r(KL, R)",
    "r∞",
    "within ring",
    "KL mid-edge",
    "KL corner",
    "groups with A ≠ 0",
    "floor",
  ];
  const rows = slices.map(({ step, slice, summary }) => [
    String(step),
    String(slice),
    estimate(summary.originReward),
    estimate(summary.r),
    estimate(summary.rInfinity),
    estimate(summary.withinRing),
    number(summary.klAtMidEdges, 4),
    number(summary.klAtCorners, 4),
    `${summary.advantages.nonZero}/${summary.advantages.groups}`,
    `${(100 * summary.floor.share).toFixed(0)}%`,
  ]);
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, column) => cell.padStart(widths[column])).join("  ");
  return [
    line(header),
    ...rows.map(line),
    "Brackets: delete-one-prompt jackknife. r is the correlation of the two maps at this budget, r∞ what is left of it without rollout noise.",
    `Maps and curves: ${join(folder, "figures")}; the whole: ${join(folder, "report.html")}`,
  ].join("\n");
}

function number(value: number | null, digits: number): string {
  return value === null ? "–" : value.toFixed(digits).replace("-", "−");
}

function estimate(of: Estimate | null): string {
  if (of === null || of.value === null) return "undetermined";
  const interval = of.low === null || of.high === null ? "" : ` [${number(of.low, 2)}, ${number(of.high, 2)}]`;
  return `${number(of.value, 2)}${interval}`;
}
