// What a report says of directions that are scaled to a KL at the edge of a grid: columns of its table, lines on the terminal.
import { fixedKlText, type SliceFacts } from "../files/slice-facts.ts";
import type { CorrelationTrend } from "../statistics/over-checkpoints.ts";
import type { MeasuredSlice } from "../statistics/summary.ts";
import { summaryText } from "./table.ts";

/** How directions were scaled to a KL at the edge; nothing where they keep their norms. */
export function scaleColumns(facts: SliceFacts | null): { name: string; value: number }[] {
  const { fixedKl } = facts ?? {};
  if (fixedKl === undefined) return [];
  return (["delta", "eta"] as const).flatMap((axis) => {
    const { scale, kl } = fixedKl[axis];
    const letter = axis === "delta" ? "δ" : "η";
    return [
      { name: `scale of ${letter}`, value: scale ?? Number.NaN },
      { name: `KL at the edge of ${letter}`, value: kl ?? Number.NaN },
    ];
  });
}

/** What the terminal shows of a run. */
interface ShownRun {
  readonly slices: readonly MeasuredSlice[];
  /** Of each slice; null if it has none. */
  readonly directions: readonly (SliceFacts | null)[];
  readonly trends: readonly CorrelationTrend[];
}

/** Lines under the terminal's table: how each map's directions were scaled to a KL at the edge. */
const scaleLines = ({ slices, directions }: ShownRun): string[] =>
  slices.flatMap(({ step, slice }, k) => {
    const facts = directions.at(k);
    const text = facts == null ? null : fixedKlText(facts);
    return text === null ? [] : [`Step ${step}, slice ${slice}: ${text}.`];
  });

/** The table for the terminal; empty without measured maps. */
export const runText = (run: ShownRun): string =>
  run.slices.length === 0 ? "" : `${[summaryText(run.slices, run.trends), ...scaleLines(run)].join("\n")}\n`;
