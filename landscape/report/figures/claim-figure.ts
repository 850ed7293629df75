// The figure of a claim: panels of estimates with their intervals, from the numbers that the claim gives
// (landscape/statistics/claims/claim.ts). A value without an interval is a dot without a bar; an undetermined one is not
// drawn, and the CSV says so.
import { scaleLinear, scaleLog } from "d3-scale";
import type { Claim, ClaimPlot, PlotPanel, PlotPoint, PlotSeries } from "../../statistics/claims/claim.ts";
import {
  bottomAxis,
  bottomMargin,
  type FigureOptions,
  type Frame,
  finishSheet,
  leftAxis,
  leftMargin,
  panelTitle,
  type Scale,
  type Sheet,
  sheetOf,
} from "./axes.ts";
import { csv, extentOf, type Figure, type Study } from "./figure-data.ts";
import { type FigureKind, withoutMaps } from "./figure-kind.ts";
import { decimal, element, join, type Markup, pathData, textElement, textWidth } from "./svg.ts";

/** What distinguishes the series of a panel: never the colour alone. */
interface Look {
  readonly colour: string;
  readonly dash: string | null;
  readonly mark: "dot" | "square" | "triangle" | "diamond";
  readonly isHollow: boolean;
  readonly width: number;
}

/** @throws RangeError for a claim without a plot */
export function claimFigure(claim: Claim, options: FigureOptions & { name?: string } = {}): Figure {
  const { name = `claim-${claim.name}` } = options;
  if (claim.plot === null) throw new RangeError(`${name}: expected a claim with numbers to draw, got none`);
  return plotFigure(claim.plot, name, claim.title, options);
}

/** Panels one below another. */
export function plotFigure(plot: ClaimPlot, name: string, title: string, options: FigureOptions = {}): Figure {
  const sheet = sheetOf(options, 84);
  const { em } = sheet;
  const left = leftMargin(sheet, 4) - 1.2 * em;
  const width = sheet.widthPt - left - em;
  const height = Math.max(9 * em, Math.min(0.42 * width, 15 * em));
  let top = 0;
  const axisOf = (panel: PlotPanel): Pick<Across, "label" | "scale"> => ({
    label: panel.xLabel ?? plot.xLabel,
    scale: panel.xScale ?? (panel.xLabel === undefined ? plot.xScale : "linear"),
  });
  const isSameAxis = (one: PlotPanel, other: PlotPanel): boolean =>
    axisOf(one).label === axisOf(other).label && axisOf(one).scale === axisOf(other).scale;
  const drawn = plot.panels.map((panel, k) => {
    const legend = panel.series.length > 1 ? legendOf(sheet, panel, left, top + 2.5 * em, width) : null;
    top += 2.2 * em + (legend?.heightPt ?? 0);
    const frame = { left, top, width, height };
    const next = plot.panels.at(k + 1);
    const isLast = next === undefined || !isSameAxis(panel, next);
    // Panels above one labelled axis have its ends.
    const xs = plot.panels.filter((other) => isSameAxis(panel, other)).flatMap(xsOf);
    const content = drawPanel(sheet, frame, panel, { ...axisOf(panel), ends: extentOf(xs) ?? [0, 1], isBare: !isLast });
    top += height + (isLast ? bottomMargin(sheet) : 1.2 * em);
    return join([legend?.markup ?? null, content]);
  });
  return {
    name,
    title,
    svg: finishSheet(sheet, top, title, plot.notes, drawn),
    csv: claimCsv(plot.panels),
  };
}

/** A horizontal axis; without labels if `isBare`. */
interface Across {
  readonly label: string;
  readonly scale: "linear" | "log";
  /** The least and the largest value. */
  readonly ends: readonly [number, number];
  readonly isBare: boolean;
}

const xsOf = ({ series }: PlotPanel): number[] => series.flatMap(({ points }) => points.map(({ x }) => x));

function drawPanel(
  sheet: Sheet,
  frame: Frame,
  panel: PlotPanel,
  { label, scale, ends: [least, most], isBare }: Across,
): Markup {
  const { em, line, theme } = sheet;
  const points = panel.series.flatMap((series) => series.points);
  const ends: [number, number] = [frame.left + 1.2 * em, frame.left + frame.width - 1.2 * em];
  const isLog = scale === "log" && least > 0;
  const across = isLog
    ? scaleLog(least < most ? [least, most] : [least / 2, most * 2], ends)
    : scaleLinear(least < most ? [least, most] : [least - 1, most + 1], ends);
  const values = points.flatMap(({ value, low, high }) => [value, low, high].filter((number) => number !== null));
  // Intervals can be much wider than the values: the axis ends at the values' range, widened by its size.
  const [low, high] = axisRange(points, values, panel);
  const up = scaleLinear([low, high], [frame.top + frame.height, frame.top]).nice(4);
  const ticks = isLog
    ? logTicks(across.domain()[0], across.domain()[1], (tick) => across(tick), em)
    : across
        .ticks(Math.max(2, Math.floor(frame.width / (5 * em))))
        .filter((tick) => Number.isInteger(tick) || !points.every(({ x }) => Number.isInteger(x)));
  return join([
    panelTitle(
      sheet,
      { ...frame, top: frame.top - (panel.series.length > 1 ? legendHeight(sheet, panel, frame.width) : 0) },
      panel.title,
    ),
    panel.level === undefined
      ? null
      : element("path", {
          d: pathData([
            [frame.left, up(panel.level)],
            [frame.left + frame.width, up(panel.level)],
          ]),
          stroke: theme.muted,
          "stroke-width": line * 0.8,
          "stroke-dasharray": `${decimal(line * 2)} ${decimal(line * 3)}`,
        }),
    leftAxis(sheet, frame, up, { ticks: up.ticks(4) }),
    bottomAxis(sheet, frame, across, { label, ticks, isBare, format: String }),
    ...panel.series.map((series, k) => drawSeries(sheet, frame, series, lookOf(sheet, series, k), across, up)),
  ]);
}

/** 1, 2 and 5 times powers of ten, as far as their labels stand apart: powers of ten first, then the others. */
function logTicks(least: number, most: number, at: (tick: number) => number, em: number): number[] {
  const powers = Array.from(
    { length: Math.floor(Math.log10(most)) - Math.floor(Math.log10(least)) + 1 },
    (_, k) => Math.floor(Math.log10(least)) + k,
  );
  const taken: number[] = [];
  for (const factor of [1, 2, 5])
    for (const power of powers) {
      const tick = Number(`${factor}e${power}`);
      const apart = (other: number): boolean =>
        Math.abs(at(tick) - at(other)) > (textWidth(String(tick), em) + textWidth(String(other), em)) / 2 + 0.6 * em;
      if (tick >= least && tick <= most && taken.every(apart)) taken.push(tick);
    }
  return taken.sort((a, b) => a - b);
}

/** The values and their intervals, as far as these reach no farther than the values' own range to either side. */
function axisRange(
  points: readonly PlotPoint[],
  values: readonly number[],
  { range, level, bounds }: PlotPanel,
): [number, number] {
  if (bounds !== undefined) return [...bounds];
  const levels = level === undefined ? [] : [level];
  const core = extentOf(
    points.flatMap(({ value }) => value ?? []),
    range ?? [],
    levels,
  ) ?? [0, 1];
  const size = core[1] - core[0] || Math.abs(core[0]) || 1;
  const all = extentOf(values, core) ?? core;
  if (all[0] === all[1]) return [all[0] - size / 2, all[1] + size / 2];
  return [Math.max(all[0], core[0] - size), Math.min(all[1], core[1] + size)];
}

/** No two of the first 18 series of a panel look the same, and in grey no two of the first six. */
function lookOf({ theme, line }: Sheet, { kind }: PlotSeries, k: number): Look {
  if (kind === "published") return { colour: theme.ink, dash: null, mark: "diamond", isHollow: true, width: 0 };
  const colours = [theme.accent, theme.ink, theme.muted];
  const marks = ["dot", "square", "triangle"] as const;
  const dash = kind === "expected" ? `${decimal(line * 3)} ${decimal(line * 2)}` : null;
  const round = Math.floor(k / 3);
  return {
    ...{ colour: colours[(k + round) % 3], dash, mark: marks[k % 3], isHollow: round % 2 === 1 },
    width: kind === "points" ? 0 : line * 1.4,
  };
}

function drawSeries(
  sheet: Sheet,
  frame: Frame,
  { points, kind }: PlotSeries,
  look: Look,
  across: Scale,
  up: Scale,
): Markup {
  const { em, line } = sheet;
  const [bottom, top] = [frame.top + frame.height, frame.top];
  const y = (value: number): number => Math.min(bottom, Math.max(top, up(value)));
  const sorted = [...points].sort((a, b) => a.x - b.x);
  const known = sorted.flatMap(({ x, value, low, high }) => (value === null ? [] : [{ x, value, low, high }]));
  const path = pathData(known.map(({ x, value }) => [across(x), y(value)]));
  return join([
    look.width === 0 || known.length < 2
      ? null
      : element("path", {
          d: path,
          fill: "none",
          stroke: look.colour,
          "stroke-width": look.width,
          "stroke-dasharray": look.dash,
          "stroke-linejoin": "round",
        }),
    ...known.map(({ x, low, high }) =>
      low === null || high === null
        ? null
        : element("path", {
            d: pathData([
              [across(x), y(low)],
              [across(x), y(high)],
            ]),
            stroke: look.colour,
            "stroke-width": line * 1.2,
            "stroke-opacity": "0.7",
          }),
    ),
    ...known.map(({ x, value }) => markOf(look, across(x), y(value), (kind === "published" ? 0.34 : 0.24) * em, line)),
  ]);
}

function markOf({ mark, colour, isHollow }: Look, x: number, y: number, radius: number, line: number): Markup {
  const paint = isHollow ? { fill: "none", stroke: colour, "stroke-width": line * 1.2 } : { fill: colour };
  const polygon = (points: [number, number][]): Markup => element("path", { d: `${pathData(points)}Z`, ...paint });
  switch (mark) {
    case "dot":
      return element("circle", { cx: x, cy: y, r: radius, ...paint });
    case "square":
      return element("rect", { x: x - radius, y: y - radius, width: 2 * radius, height: 2 * radius, ...paint });
    case "triangle":
      return polygon([
        [x - 1.2 * radius, y + radius],
        [x + 1.2 * radius, y + radius],
        [x, y - 1.2 * radius],
      ]);
    case "diamond":
      return polygon([
        [x - radius, y],
        [x, y - radius],
        [x + radius, y],
        [x, y + radius],
      ]);
  }
}

const legendGap = 2.6;

/** The names of the series in rows, each with its mark. */
function legendRows(
  sheet: Sheet,
  { series }: PlotPanel,
  width: number,
): { name: string; k: number; x: number; row: number }[] {
  const { em } = sheet;
  let x = 0;
  let row = 0;
  return series.map(({ name }, k) => {
    const wide = textWidth(name, em) + legendGap * em;
    if (x > 0 && x + wide > width) {
      x = 0;
      row++;
    }
    const place = { name, k, x, row };
    x += wide;
    return place;
  });
}

function legendHeight(sheet: Sheet, panel: PlotPanel, width: number): number {
  const rows = legendRows(sheet, panel, width);
  return (rows[rows.length - 1].row + 1) * 1.3 * sheet.em;
}

function legendOf(
  sheet: Sheet,
  panel: PlotPanel,
  left: number,
  top: number,
  width: number,
): { markup: Markup; heightPt: number } {
  const { em, line, theme } = sheet;
  const items = legendRows(sheet, panel, width).map(({ name, k, x, row }) => {
    const y = top + (row + 0.45) * 1.3 * em;
    return join([
      markOf(lookOf(sheet, panel.series[k], k), left + x + 0.5 * em, y - 0.3 * em, 0.26 * em, line),
      textElement(name, left + x + 1.2 * em, y, { fill: theme.muted }),
    ]);
  });
  return { markup: join(items), heightPt: legendHeight(sheet, panel, width) };
}

function claimCsv(panels: readonly PlotPanel[]): string {
  return csv(
    ["panel", "series", "x", "value", "low", "high", "remark"],
    panels.flatMap(({ title, series }) =>
      series.flatMap(({ name, kind, points }) =>
        points.map(({ x, value, low, high }) => [
          ...[title, name, x, value, low, high],
          kind === "published" ? "published by the original study" : value === null ? "undetermined" : "",
        ]),
      ),
    ),
  );
}

/** Per claim: its name, and what its figure shows. */
const shown: readonly (readonly [name: string, shows: string])[] = [
  ["t1", "does reward concentrate where KL is low: correlations and overlap against the training step"],
  ["t2", "when does that begin: changes of r from step to step, reward and floor share"],
  ["t3", "what rollouts do as KL grows: entropy, pass@k and Cover@tau by KL"],
  ["surrogate", "does the surrogate J predict the reward R: r and R² over all cells and by ring"],
  ["first-difference", "where conversations first differ from the checkpoint's"],
];

export const claimKinds: readonly FigureKind[] = shown.map(([claim, shows]) => {
  const found = ({ claims = [] }: Pick<Study, "claims">) =>
    claims.find(({ name, plot }) => name === claim && plot !== null);
  return {
    name: `claim-${claim}`,
    shows,
    takes: [],
    isPerSlice: false,
    missing: (study) =>
      found(study) !== undefined
        ? null
        : (withoutMaps(study) ??
          `the run lacks the data of this claim (landscape/claims.json, "${claim}"), or has too few maps for it`),
    draw: (study, options) => {
      const claim = found(study);
      if (claim === undefined) throw new RangeError(`expected a claim with numbers to draw, got none`);
      return claimFigure(claim, options);
    },
  };
});
