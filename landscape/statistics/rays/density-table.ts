// Table, figure's numbers and sentence about the density of improving neighbours, from its statistics alone.
import { type ClaimPlot, type ClaimTable, type PlotPoint, plotPoint } from "../claims/claim.ts";
import type { Estimate } from "../intervals.ts";
import type { DensityRow, ShareOfDirections } from "./density.ts";

/** A checkpoint with its rows. */
interface DensityCheckpoint {
  readonly step: number;
  readonly density: readonly DensityRow[];
}

export interface DensityShown {
  readonly sentences: readonly string[];
  readonly table: ClaimTable;
  readonly plot: ClaimPlot;
}

/** Null without a radius. @param drawn  the checkpoints of the figure */
export function densityShown(
  all: readonly DensityCheckpoint[],
  drawn: readonly DensityCheckpoint[],
): DensityShown | null {
  if (all.every(({ density }) => density.length === 0)) return null;
  const isFresh = all.some(({ density }) => density.some(({ fresh }) => fresh !== null));
  return {
    sentences: isFresh
      ? []
      : [
          "The directions with more reward than the checkpoint are selected on the noise of these prompts and rollouts, and none was evaluated " +
            "again: their density is an upper estimate. --landscape.rays.freshPrompts 64 evaluates them on fresh prompts.",
        ],
    table: densityTable(all),
    plot: densityPlot(drawn, isFresh),
  };
}

const countOf = ({ count, of }: ShareOfDirections): string => `${count} of ${of}`;

function densityTable(checkpoints: readonly DensityCheckpoint[]): ClaimTable {
  return {
    caption:
      "Density of improving neighbours: random directions with more reward than the checkpoint on the same prompts and noise. Still better: " +
      "of these, the ones that are better on fresh prompts too; about half would be by chance. Density on both: better on both sets, of all " +
      "directions. Lead: mean reward of the selected directions less the checkpoint’s, on the prompts that selected them and on fresh ones " +
      "(interval over fresh prompts). Intervals of shares: Wilson, 95%, with as many units as rays.",
    columns: [
      { name: "step" },
      { name: "radius" },
      { name: "better" },
      { name: "density", digits: 2 },
      { name: "still better" },
      { name: "share of these", digits: 2 },
      { name: "density on both", digits: 2 },
      { name: "lead", digits: 4 },
      { name: "lead on fresh prompts", digits: 4 },
    ],
    rows: checkpoints.flatMap(({ step, density }) =>
      density.map(({ radius, better, fresh }) => [
        ...[step, Number(radius.toPrecision(6)), countOf(better), better.share],
        ...(fresh === null
          ? [null, null, null, null, null]
          : [
              ...[countOf(fresh.still), fresh.still.share, fresh.onBoth?.share ?? null],
              ...[fresh.selectedGain, fresh.freshGain],
            ]),
      ]),
    ),
  };
}

function densityPlot(checkpoints: readonly DensityCheckpoint[], isFresh: boolean): ClaimPlot {
  const series = (of: (row: DensityRow) => Estimate | null) =>
    checkpoints.map(({ step, density }) => ({
      name: `step ${step}`,
      kind: "line" as const,
      points: density.flatMap((row): PlotPoint[] => {
        const estimate = of(row);
        return estimate === null ? [] : [plotPoint(row.radius, estimate)];
      }),
    }));
  const bounds = [0, 1] as const;
  return {
    xLabel: "radius, in units of the norm",
    xScale: "linear",
    panels: [
      { title: "share of directions that improve", series: series(({ better }) => better.share), bounds },
      ...(isFresh
        ? [
            {
              title: "of these, still better on fresh prompts",
              series: series(({ fresh }) => fresh?.still.share ?? null),
              bounds,
              level: 0.5,
            },
          ]
        : []),
    ],
    notes: [
      "Bars: 95% intervals (Wilson), with as many units as rays." +
        (isFresh
          ? " Dashed: what chance alone would give."
          : " The directions are selected on noise, and were not evaluated again."),
    ],
  };
}
