// The correlation of reward and KL per checkpoint: r, and r∞ free of rollout noise, against the training step.
//
// One slice is a line with a band, its intervals. Of several slices each has its own line with bars, and a mean over
// slices is drawn with a band if one is given (landscape/statistics/over-checkpoints.ts: from five slices on). r∞ can pass ±1: the drawing clips it and marks it by
// a triangle at the edge, the CSV has the number. An undetermined estimate is a cross in a separate strip below the
// axis, never a zero.
import { scaleLinear } from "d3-scale";
import {
  bottomAxis,
  bottomMargin,
  type FigureOptions,
  type Frame,
  finishSheet,
  hasRoomForRemark,
  leftAxis,
  leftMargin,
  panelTitle,
  type Scale,
  type Sheet,
  sheetOf,
  stepTargets,
} from "./axes.ts";
import {
  csv,
  type DrawnEstimate,
  type DrawnInterval,
  distinct,
  type Figure,
  inOrder,
  type LandscapeMap,
  type Study,
} from "./figure-data.ts";
import { type FigureKind, withoutMaps } from "./figure-kind.ts";
import { type Attributes, decimal, element, join, type Label, type Markup, pathData, textElement } from "./svg.ts";

export type CorrelationName = "r" | "rInfinity" | "withinRing";

export const CORRELATION_LABELS: Record<CorrelationName, { symbol: Label; meaning: string }> = {
  r: { symbol: [{ italic: "r" }], meaning: "KL and reward over the map, at this budget" },
  rInfinity: { symbol: [{ italic: "r" }, { sub: "∞" }], meaning: "free of rollout noise" },
  withinRing: { symbol: [{ italic: "r" }, { sub: "ring" }], meaning: "free of noise, within rings of equal distance" },
};

const COLUMN_NAMES: Record<CorrelationName, string> = { r: "r", rInfinity: "r_infinity", withinRing: "within_ring_r" };

/** One line of a panel: a slice, or the mean over slices. */
interface Series {
  name: string;
  points: { step: number; estimate: DrawnEstimate }[];
  isMean: boolean;
}

/** The position of one estimand's panel. */
interface Panel {
  frame: Frame;
  across: Scale;
  up: Scale;
  /** Height below −1, in which undetermined estimates are marked. */
  strip: number;
  hasGap: boolean;
}

/**
 * r and r∞ against the training step, one panel per estimand.
 * @throws RangeError without a map
 */
export function correlationFigure(
  study: Pick<Study, "maps" | "sliceMeans" | "intervalName">,
  options: FigureOptions & { estimands?: readonly CorrelationName[]; name?: string } = {},
): Figure {
  const { estimands = ["r", "rInfinity"], name = "correlation" } = options;
  const maps = inOrder(study.maps);
  if (maps.length === 0) throw new RangeError(`${name}: expected at least one map, got none`);
  const sheet = sheetOf(options, 84);
  const { em, widthPt } = sheet;
  const steps = distinct(maps.map((map) => map.step));
  const allSeries = estimands.map((estimand) => seriesOf(maps, study.sliceMeans ?? [], estimand));
  const hasSlices = distinct(maps.map((map) => map.slice)).length > 1;

  const gaps = allSeries.map((group) => group.some(({ points }) => points.some(({ estimate }) => estimate === null)));
  const left = leftMargin(sheet, gaps.includes(true) ? 8 : 4);
  const width = widthPt - left - (hasSlices ? 3.2 : 1) * em;
  const height = Math.max(9 * em, Math.min(0.45 * width, 16 * em));
  const [first, last] = [steps[0], steps[steps.length - 1]];
  const pad = first === last ? 1 : 0;
  const across = scaleLinear([first - pad, last + pad], [left + 1.2 * em, left + width - 1.2 * em]);
  let top = 2.2 * em;
  const panels = gaps.map((hasGap): Panel => {
    const frame = { left, top, width, height };
    const strip = (hasGap ? 1.9 : 0.7) * em;
    top += height + strip + 2.6 * em;
    return { frame, across, up: scaleLinear([-1, 1], [frame.top + height, frame.top]), strip, hasGap };
  });
  // In a narrow figure the meanings stand below.
  const hasRemark = estimands.every((estimand) => {
    const { symbol, meaning } = CORRELATION_LABELS[estimand];
    return hasRoomForRemark(sheet, width, symbol, meaning);
  });
  const meanings = estimands.map((estimand): Label => {
    const { symbol, meaning } = CORRELATION_LABELS[estimand];
    return [...(typeof symbol === "string" ? [symbol] : symbol), `: ${meaning}.`];
  });
  const drawn = estimands.map((estimand, k) =>
    join([
      panelFurniture(sheet, panels[k], estimand, { isLowest: k + 1 === estimands.length, hasRemark }),
      ...allSeries[k].map((series, order) => drawSeries(sheet, panels[k], series, order, allSeries[k].length)),
      hasSlices ? endLabels(sheet, panels[k], allSeries[k]) : null,
    ]),
  );
  const area = { left, top: 2.2 * em, width, height: top - 4.8 * em };
  const hasHollow = allSeries.some((group) =>
    group.some(({ points }) => points.some(({ estimate }) => estimate !== null && estimate.low === null)),
  );
  const isBeyond = allSeries.some((group) =>
    group.some(({ points }) => points.some(({ estimate }) => estimate !== null && Math.abs(estimate.value) > 1)),
  );
  const bars = study.intervalName ?? "interval over prompts";
  const what = [
    hasSlices ? "Thin lines: slices." : "",
    `${hasSlices ? "Bars" : steps.length > 1 ? "Band" : "Bar"}: ${bars}.`,
    hasHollow ? "Hollow: no interval, because the prompts are too few." : "",
    isBeyond ? "Triangle: a value beyond ±1; the CSV has it." : "",
    (study.sliceMeans ?? []).length > 0 ? "Heavy line and band: mean over slices, 95% interval by Student's t." : "",
  ];
  const title = "Correlation of KL and reward against the training step";
  const notes = [
    ...(hasRemark ? [] : meanings),
    what.filter((sentence) => sentence !== "").join(" "),
    ...maps.map((map) => map.mark),
  ];
  const targets = sheet.isLinked ? stepTargets(distinct(maps.map((map) => map.step)), across, area) : null;
  return {
    name,
    title,
    svg: finishSheet(sheet, top - 2.6 * em + bottomMargin(sheet), title, notes, [...drawn, targets]),
    csv: correlationCsv(estimands, allSeries),
  };
}

export const correlationKind: FigureKind = {
  name: "correlation",
  shows: "correlation of KL and reward against the training step: r and r∞, with intervals",
  takes: ["step", "slice"],
  isPerSlice: false,
  missing: withoutMaps,
  draw: (study, options) => correlationFigure(study, { ...options, name: options.name ?? "correlation" }),
};

export const correlationAllKind: FigureKind = {
  ...correlationKind,
  name: "correlation-all",
  shows: "the same, with the correlation within rings",
  draw: (study, options) =>
    correlationFigure(study, { name: "correlation-all", ...options, estimands: ["r", "rInfinity", "withinRing"] }),
};

function seriesOf(
  maps: readonly LandscapeMap[],
  means: NonNullable<Study["sliceMeans"]>,
  estimand: CorrelationName,
): Series[] {
  const slices = distinct(maps.map((map) => map.slice)).map((slice) => ({
    name: `slice ${slice}`,
    isMean: false,
    points: maps
      .filter((map) => map.slice === slice)
      .map((map) => ({ step: map.step, estimate: map.summary[estimand] })),
  }));
  if (means.length === 0) return slices;
  const points = [...means]
    .sort((a, b) => a.step - b.step)
    .map((mean) => ({ step: mean.step, estimate: mean[estimand] }));
  return [...slices, { name: "mean", isMean: true, points }];
}

function panelFurniture(
  sheet: Sheet,
  panel: Panel,
  estimand: CorrelationName,
  { isLowest, hasRemark }: { isLowest: boolean; hasRemark: boolean },
): Markup {
  const { em, line, theme } = sheet;
  const { frame, across, up, strip } = panel;
  const { symbol, meaning } = CORRELATION_LABELS[estimand];
  const level = (value: number, attributes: Attributes) => {
    const d = pathData([
      [frame.left, up(value)],
      [frame.left + frame.width, up(value)],
    ]);
    return element("path", { d, "stroke-width": line * 0.8, ...attributes });
  };
  const label = { "text-anchor": "end", fill: theme.muted, "font-size": 0.9 * em };
  return join([
    panelTitle(sheet, frame, symbol, hasRemark ? meaning : undefined),
    level(0, { stroke: theme.muted, "stroke-dasharray": `${decimal(line * 2)} ${decimal(line * 3)}` }),
    panel.hasGap ? level(-1, { stroke: theme.faint }) : null,
    panel.hasGap ? textElement("undetermined", frame.left - 0.55 * em, up(-1) + strip / 2 + 0.3 * em, label) : null,
    leftAxis(sheet, frame, up, { ticks: [-1, -0.5, 0, 0.5, 1] }),
    bottomAxis(sheet, { ...frame, height: frame.height + strip }, across, {
      label: "training step",
      isBare: !isLowest,
      ticks: wholeTicks(across, frame.width / (4 * em)),
    }),
  ]);
}

/** Steps are whole numbers, so their ticks are too. */
function wholeTicks(scale: Scale, most: number): number[] {
  return scale.ticks(Math.max(2, Math.floor(most))).filter(Number.isInteger);
}

function drawSeries(sheet: Sheet, panel: Panel, series: Series, order: number, count: number): Markup {
  const { em, line, theme } = sheet;
  const { across, up, strip } = panel;
  const isHeavy = series.isMean || count === 1;
  const colour = isHeavy ? theme.accent : theme.muted;
  // Every slice is drawn exactly at its step: a point moved sideways would look like another step. Overlapping bars are
  // distinguished by their end strokes, which are wider for each further slice.
  const x = (step: number) => across(step);
  const cap = isHeavy ? 0 : (0.2 + 0.15 * order) * em;
  const y = (value: number) => up(clip(value));
  const determined = runsOf(series.points);
  const parts: (Markup | null)[] = [];
  for (const run of determined) {
    const ends = run.filter(hasEnds);
    // Several slices would cover each other's bands, so they have bars.
    if (isHeavy && ends.length > 1)
      parts.push(
        element("path", {
          d: `${pathData([...ends.map((p): [number, number] => [x(p.step), y(p.high)]), ...[...ends].reverse().map((p): [number, number] => [x(p.step), y(p.low)])])}Z`,
          fill: colour,
          "fill-opacity": "0.15",
        }),
      );
    else
      for (const { step, low, high } of ends)
        parts.push(
          element("path", {
            d: bar(x(step), y(low), y(high), cap),
            stroke: colour,
            "stroke-width": line * (isHeavy ? 1.6 : 1),
            "stroke-opacity": isHeavy ? null : "0.6",
          }),
        );
    if (run.length > 1)
      parts.push(
        element("path", {
          d: pathData(run.map((p) => [x(p.step), y(p.value)])),
          fill: "none",
          stroke: colour,
          "stroke-width": line * (isHeavy ? 2.2 : 1),
          "stroke-linejoin": "round",
        }),
      );
    for (const point of run) {
      const { step, value } = point;
      const beyond = Math.abs(value) > 1 ? Math.sign(value) : 0;
      const paint: Attributes = hasEnds(point)
        ? { fill: colour }
        : { fill: theme.paper, stroke: colour, "stroke-width": line };
      parts.push(marker(x(step), y(value), beyond, (isHeavy ? 0.26 : 0.17) * em, paint));
    }
  }
  for (const { step, estimate } of series.points)
    if (estimate === null) parts.push(cross(x(step), up(-1) + strip / 2, 0.24 * em, line * 1.4, colour));
  return join(parts);
}

/** An upright bar from one end of an interval to the other, with end strokes where `cap` is above 0. */
function bar(x: number, low: number, high: number, cap: number): string {
  const across = (y: number) =>
    pathData([
      [x - cap, y],
      [x + cap, y],
    ]);
  const upright = pathData([
    [x, low],
    [x, high],
  ]);
  return cap > 0 ? `${upright}${across(low)}${across(high)}` : upright;
}

const clip = (value: number) => Math.min(1, Math.max(-1, value));

interface Drawn extends DrawnInterval {
  step: number;
}

function hasEnds(point: Drawn): point is Drawn & { low: number; high: number } {
  return point.low !== null && point.high !== null;
}

/** Runs of neighbouring determined steps: a line does not cross an undetermined step. */
function runsOf(points: Series["points"]): Drawn[][] {
  const runs: Drawn[][] = [[]];
  for (const { step, estimate } of points)
    if (estimate === null) runs.push([]);
    else runs[runs.length - 1].push({ step, ...estimate });
  return runs.filter((run) => run.length > 0);
}

/** A dot, hollow without an interval, or a triangle that points out of the panel if the value lies beyond it. */
function marker(x: number, y: number, beyond: number, radius: number, paint: Attributes): Markup {
  if (beyond === 0) return element("circle", { cx: x, cy: y, r: radius, ...paint });
  const tip = y - beyond * 1.5 * radius;
  return element("path", {
    d: `${pathData([
      [x - 1.4 * radius, y + beyond * radius],
      [x + 1.4 * radius, y + beyond * radius],
      [x, tip],
    ])}Z`,
    ...paint,
  });
}

function cross(x: number, y: number, reach: number, width: number, colour: string): Markup {
  return element("path", {
    d:
      pathData([
        [x - reach, y - reach],
        [x + reach, y + reach],
      ]) +
      pathData([
        [x - reach, y + reach],
        [x + reach, y - reach],
      ]),
    stroke: colour,
    "stroke-width": width,
  });
}

/** Names of the lines at their right ends, moved apart if they would overlap. */
function endLabels(sheet: Sheet, { frame, up, strip }: Panel, series: readonly Series[]): Markup {
  const { em, theme } = sheet;
  const pitch = 0.95 * em;
  const labels = series
    .flatMap(({ name, isMean, points }) => {
      const last = points.findLast((point) => point.estimate !== null)?.estimate;
      return last ? [{ name: name.replace("slice ", ""), isMean, y: up(clip(last.value)) }] : [];
    })
    .sort((a, b) => a.y - b.y);
  for (let k = 1; k < labels.length; k++) labels[k].y = Math.max(labels[k].y, labels[k - 1].y + pitch);
  const overflow = Math.max(0, (labels.at(-1)?.y ?? 0) - (frame.top + frame.height + strip / 2));
  return join(
    labels.map(({ name, isMean, y }) =>
      textElement(name, frame.left + frame.width + 0.2 * em, y - overflow + 0.3 * em, {
        "font-size": 0.85 * em,
        fill: isMean ? theme.accent : theme.muted,
      }),
    ),
  );
}

function correlationCsv(estimands: readonly CorrelationName[], allSeries: readonly (readonly Series[])[]): string {
  const rows = estimands.flatMap((estimand, k) =>
    allSeries[k].flatMap(({ name, points }) =>
      points.map(({ step, estimate }) => [
        COLUMN_NAMES[estimand],
        name,
        step,
        estimate?.value,
        estimate?.low,
        estimate?.high,
        estimate === null ? "undetermined" : estimate.low === null ? "no interval" : "",
      ]),
    ),
  );
  return csv(["estimand", "series", "step", "value", "low", "high", "remark"], rows);
}
