// Small drawings of the report: a map without axes, for the overview of all checkpoints and for the panels beside the
// map; the histogram of where conversations first differ; and reward against KL with one curve per checkpoint.
import { scaleLinear, scaleSqrt } from "d3-scale";
import { bottomAxis, bottomMargin, colourBar, finishSheet, leftAxis, leftMargin, sheetOf } from "../axes.ts";
import { cellImage } from "../cell-image.ts";
import { type ColourScale, PAGE, sequential } from "../colour.ts";
import {
  type CommonStarts,
  checkpointPoint,
  distanceInRadii,
  distinct,
  extentOf,
  type LandscapeMap,
} from "../figure-data.ts";
import { drawnIsolines } from "../heatmap.ts";
import { checkpointMark } from "../map-marks.ts";
import { rootTicks } from "../reward-kl.ts";
import { element, type Label, type Markup, pathData, textElement } from "../svg.ts";

export interface SmallMap {
  readonly title: string;
  readonly map: LandscapeMap;
  /** Entry j·n + i; NaN where nothing is known. */
  readonly values: Float64Array;
  readonly colours: ColourScale;
  /** Levels of the isolines of KL; none by default. */
  readonly levels?: readonly number[];
  /** What the colours mean; no colour bar without it. */
  readonly bar?: Label;
}

/** A map without axes, as SVG. Cells without a value stay in the background's colour. */
export function smallMap({ title, map, values, colours, levels = [], bar }: SmallMap): string {
  const sheet = sheetOf(
    { ...(bar === undefined ? { widthMm: 40, fontPt: 5 } : { widthMm: 63, fontPt: 8 }), theme: PAGE },
    40,
  );
  const { em } = sheet;
  const top = bar === undefined ? 0 : 1.4 * em;
  const side = sheet.widthPt - (bar === undefined ? 0 : 4.2 * em);
  const frame = { left: 0, top, width: side, height: side };
  const area = { x: 0, y: top, width: side, height: side };
  const lines = drawnIsolines(map, "kl", levels, frame, 5).map(({ lines }) =>
    element("path", { d: lines.map(pathData).join(""), stroke: "#ffffff", "stroke-width": 0.5, fill: "none" }),
  );
  return finishSheet(
    sheet,
    top + side,
    title,
    [],
    [
      element("rect", { ...area, fill: PAGE.faint }),
      element("image", {
        ...area,
        href: cellImage(values, map.n, colours),
        preserveAspectRatio: "none",
        "image-rendering": "pixelated",
      }),
      ...lines,
      checkpointMark(side / 2, top + side / 2, 2.4),
      bar === undefined
        ? null
        : colourBar(sheet, { left: side + 0.8 * em, top, width: 0.8 * em, height: side }, colours, ""),
      bar === undefined ? null : textElement(bar, 0, 0.9 * em, { fill: PAGE.muted }),
    ],
  );
}

/** Standard errors of reward over prompts, entry j·n + i; null if the map has none. */
export function rewardErrors(map: LandscapeMap): Float64Array | null {
  const values = new Float64Array(map.n * map.n).fill(Number.NaN);
  for (const { i, j, rewardError } of map.points) values[j * map.n + i] = rewardError ?? Number.NaN;
  return extentOf(values) === null ? null : values;
}

/** Tokens in common with the checkpoint's conversation, the mean of each cell, entry j·n + i. */
export function meanCommonStart(map: LandscapeMap, { cells }: CommonStarts): Float64Array {
  const values = new Float64Array(map.n * map.n).fill(Number.NaN);
  for (const { i, j, starts } of cells)
    values[j * map.n + i] = starts.reduce((sum, { tokens }) => sum + tokens, 0) / starts.length;
  return values;
}

export interface Bin {
  /** From this number of common tokens up to, and without, `to`. */
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

/** Conversations that differ, in bins of a round width, at most 14; the rest is the same to its end. */
export function binsOf({ cells }: CommonStarts): { bins: Bin[]; same: number; total: number } {
  const all = cells.flatMap(({ starts }) => starts);
  const places = all.filter(({ isSame }) => !isSame).map(({ tokens }) => tokens);
  const most = Math.max(0, ...places) + 1;
  const width = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((size) => most / size <= 14) ?? Math.ceil(most / 14);
  const bins = Array.from({ length: Math.ceil(most / width) }, (_, k) => ({ from: k * width, to: (k + 1) * width }));
  return {
    bins: bins.map(({ from, to }) => ({ from, to, count: places.filter((at) => at >= from && at < to).length })),
    same: all.length - places.length,
    total: all.length,
  };
}

/** Share of conversations by the number of tokens that they have in common with the checkpoint's. */
export function firstDifferenceFigure(starts: CommonStarts): string {
  const { bins, same, total } = binsOf(starts);
  const sheet = sheetOf({ widthMm: 120, fontPt: 8, theme: PAGE }, 120);
  const { em } = sheet;
  const left = leftMargin(sheet, 3);
  const room = sheet.widthPt - left - em;
  const slot = room / (bins.length + 2);
  const frame = { left, top: 0.8 * em, width: room, height: 11 * em };
  const shares = [...bins.map(({ count }) => count / total), same / total];
  const up = scaleLinear([0, Math.max(0.01, ...shares)], [frame.top + frame.height, frame.top]).nice(4);
  const last = bins.at(-1)?.to ?? 1;
  const across = scaleLinear([0, last], [left, left + slot * bins.length]);
  const bar = (x: number, share: number, title: string, fill: string): Markup =>
    element(
      "rect",
      { x: x + 0.8, y: up(share), width: slot - 1.6, height: frame.top + frame.height - up(share), fill },
      element("title", {}, title),
    );
  const percent = (count: number): string => `${((100 * count) / total).toFixed(1)}% (${count} of ${total})`;
  const sameAt = left + slot * (bins.length + 1);
  return finishSheet(
    sheet,
    frame.top + frame.height + bottomMargin(sheet),
    `Where conversations first differ: ${bins.map(({ from, to, count }) => `${from} to ${to - 1} ${starts.unit} ${percent(count)}`).join(", ")}, the same ${percent(same)}`,
    [],
    [
      ...bins.map(({ from, to, count }, k) =>
        bar(left + slot * k, count / total, `${from} to ${to - 1} ${starts.unit}: ${percent(count)}`, PAGE.accent),
      ),
      bar(sameAt, same / total, `the same to the end: ${percent(same)}`, PAGE.muted),
      element(
        "text",
        { x: sameAt + slot / 2, y: frame.top + frame.height + 1.35 * em, "text-anchor": "middle" },
        "same",
      ),
      bottomAxis(sheet, { ...frame, width: slot * bins.length }, across, {
        label: `${starts.unit} before the first difference`,
        ticks: across.ticks(Math.min(6, bins.length + 1)).filter(Number.isInteger),
      }),
      leftAxis(sheet, frame, up, {
        ticks: up.ticks(4),
        format: (share) => `${Math.round(100 * share)}%`,
      }),
    ],
  );
}

/** Mean reward against mean KL of each ring, one curve per map; those of a step are linked to the slider. */
export function ringCurvesFigure(maps: readonly LandscapeMap[]): string {
  const curves = maps.map((map) => {
    const rings = new Map<number, { kl: number; reward: number; cells: number }>();
    for (const point of map.points) {
      const ring = Math.round(2 * (map.n - 1) * distanceInRadii(map, point)) / (2 * (map.n - 1));
      const sum = rings.get(ring) ?? { kl: 0, reward: 0, cells: 0 };
      rings.set(ring, { kl: sum.kl + point.klToken, reward: sum.reward + point.reward, cells: sum.cells + 1 });
    }
    return {
      step: map.step,
      slice: map.slice,
      origin: checkpointPoint(map),
      means: [...rings]
        .sort(([a], [b]) => a - b)
        .map(([, { kl, reward, cells }]) => [kl / cells, reward / cells] as const),
    };
  });
  const kl = extentOf(curves.flatMap(({ means }) => means.map(([x]) => x))) ?? [0, 1];
  const reward = extentOf(curves.flatMap(({ means }) => means.map(([, y]) => y))) ?? [0, 1];
  const sheet = sheetOf({ widthMm: 104, fontPt: 8, theme: PAGE }, 104);
  const { em, line } = sheet;
  const left = leftMargin(sheet, 4);
  const frame = { left, top: 0.8 * em, width: sheet.widthPt - left - em, height: 18 * em };
  const across = scaleSqrt([0, kl[1] || 1], [left + 0.6 * em, left + frame.width - 0.6 * em]);
  const up = scaleLinear(
    [reward[0], reward[1] + (reward[0] === reward[1] ? 1 : 0)],
    [frame.top + frame.height - 0.5 * em, frame.top + 0.5 * em],
  );
  const drawn = curves.map(({ step, slice, means }) => {
    const d = pathData(means.map(([x, y]) => [across(x), up(y)]));
    return element(
      "g",
      { class: "step-target kl-curve", "data-step": String(step), "data-slice": String(slice) },
      element(
        "title",
        {},
        distinct(maps.map((map) => map.slice)).length > 1 ? `step ${step}, slice ${slice}` : `step ${step}`,
      ),
      element("path", { d, stroke: "transparent", "stroke-width": 1.4 * em, fill: "none" }),
      element("path", {
        d,
        class: "kl-line",
        stroke: "currentColor",
        "stroke-width": line * 1.5,
        fill: "none",
        "stroke-linejoin": "round",
      }),
    );
  });
  return finishSheet(
    sheet,
    frame.top + frame.height + bottomMargin(sheet),
    "Reward against KL, one curve per map",
    [],
    [
      bottomAxis(sheet, frame, across, {
        label: "KL per token, nats",
        ticks: rootTicks(across, frame.width / (4.5 * em)),
      }),
      leftAxis(sheet, frame, up, { label: ["mean reward ", { italic: "R" }] }),
      ...drawn,
    ],
  );
}

/** The colour scale of values that begin at 0. */
export const fromZero = (...lists: readonly ArrayLike<number>[]): ColourScale =>
  sequential(0, extentOf(...lists)?.[1] ?? 1);
