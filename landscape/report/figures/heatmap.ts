// Maps of one quantity over (α, β): a square for each measured point, isolines on top, the checkpoint marked.
//
// Squares are not smoothed: each shows the measured value. Reward and KL carry the isolines of KL, so that the reader
// sees whether reward follows distance; J − J(0,0) carries its own, dashed below zero. All panels share one colour
// scale unless the caller asks for separate ones, and the levels of the isolines are the same in all of them.
import { scaleLinear } from "d3-scale";
import {
  bottomAxis,
  bottomMargin,
  colourBar,
  type FigureOptions,
  type Frame,
  finishSheet,
  leftAxis,
  leftMargin,
  panelGrid,
  panelTitle,
  type Sheet,
  sheetOf,
  trueMinus,
} from "./axes.ts";
import { cellImage } from "./cell-image.ts";
import { type ColourScale, colourOf, diverging, sequential } from "./colour.ts";
import {
  checkpointPoint,
  csv,
  distinct,
  extentOf,
  type Figure,
  gridValues,
  hasObjective,
  inOrder,
  type LandscapeMap,
  type MapPoint,
  type Quantity,
} from "./figure-data.ts";
import {
  evenLevels,
  growingLevels,
  type Isoline,
  isolines,
  labelIsolines,
  type Position,
  rootOfKl,
} from "./isolines.ts";
import { type Attributes, decimal, element, join, type Label, type Markup, pathData, textElement } from "./svg.ts";

/** How each quantity is named on colour bars and in prose. */
export const QUANTITY_LABELS: Record<Quantity, Label> = {
  reward: ["mean reward ", { italic: "R" }],
  kl: "KL per token, nats",
  objective: [{ italic: "J" }, " − ", { italic: "J" }, "(0, 0)"],
};

const BAR_LABELS: Record<Quantity, Label> = { ...QUANTITY_LABELS, reward: [{ italic: "R" }], kl: "KL" };

const NAMES: Record<Quantity, string> = { reward: "reward-map", kl: "kl-map", objective: "objective-map" };

/** Levels of the isolines that a map of `quantity` carries, the same for all maps. */
export function isolineLevels(maps: readonly LandscapeMap[], quantity: Quantity): number[] {
  if (quantity === "objective") {
    const extent = extentOf(...maps.map((map) => gridValues(map, "objective")));
    return extent === null ? [] : evenLevels(...extent);
  }
  const extent = extentOf(...maps.map((map) => gridValues(map, "kl").filter((kl) => kl > 0)));
  return extent === null ? [] : growingLevels(...extent);
}

/** The colour scale over all of the maps. */
export function colourScaleOf(maps: readonly LandscapeMap[], quantity: Quantity): ColourScale {
  const [low, high] = extentOf(...maps.map((map) => gridValues(map, quantity))) ?? [0, 1];
  return quantity === "objective" ? diverging(low, high) : sequential(low, high);
}

/** The labelled isolines of a map, in the units of the frame: alpha to the right, beta upwards. */
export function drawnIsolines(
  map: LandscapeMap,
  quantity: Quantity,
  levels: readonly number[],
  frame: Frame,
  fontPt: number,
): Isoline[] {
  const isObjective = quantity === "objective";
  const values = gridValues(map, isObjective ? "objective" : "kl");
  const transform = isObjective ? undefined : rootOfKl;
  const cell = frame.width / map.n;
  const toFrame = ([x, y]: Position): Position => [frame.left + (x + 0.5) * cell, frame.top + (map.n - 0.5 - y) * cell];
  const centre: Position = [frame.left + frame.width / 2, frame.top + frame.height / 2];
  const lines = levels.map((level) => ({
    level,
    lines: isolines(values, map.n, level, transform).map((line) => line.map(toFrame)),
  }));
  return labelIsolines(lines, frame, centre, fontPt);
}

export interface HeatmapOptions extends FigureOptions {
  /** One colour scale per panel. */
  hasOwnColours?: boolean;
  /** Maps that determine the common colour scale and isoline levels. Default: the maps that are drawn. */
  over?: readonly LandscapeMap[];
  name?: string;
}

/**
 * Heat maps of one quantity, one panel per map, in the order of steps and slices.
 * @throws RangeError without a map, or for the objective if a map has no J at its origin
 */
export function heatmapFigure(maps: readonly LandscapeMap[], quantity: Quantity, options: HeatmapOptions = {}): Figure {
  const ordered = inOrder(maps);
  if (ordered.length === 0) throw new RangeError(`${NAMES[quantity]}: expected at least one map, got none`);
  const without = quantity === "objective" ? ordered.find((map) => !hasObjective(map)) : undefined;
  if (without !== undefined)
    throw new RangeError(
      `${NAMES[quantity]}: expected J at the origin, step ${without.step}, slice ${without.slice} has none`,
    );

  const sheet = sheetOf(options, ordered.length > 2 ? 174 : 84);
  const { em } = sheet;
  const over = options.over ?? ordered;
  const levels = isolineLevels(over, quantity);
  const isPerPanel = options.hasOwnColours === true && ordered.length > 1;
  const barRoom = 4.4 * em;
  const margins = {
    left: leftMargin(sheet, 5),
    right: barRoom + (isPerPanel ? 0 : 1.2 * em),
    top: 2.4 * em,
    bottom: bottomMargin(sheet),
    between: isPerPanel ? barRoom + 1.4 * em : 1.3 * em,
  };
  const grid = panelGrid(ordered.length, sheet, margins, 14 * em, 1);
  const isOneRadius = distinct(ordered.map((map) => map.radius)).length === 1;
  const hasSlices = distinct(ordered.map((map) => map.slice)).length > 1;
  const shared = colourScaleOf(over, quantity);
  const panels = ordered.map((map, k) => {
    const frame = grid.frames[k];
    const colours = isPerPanel ? colourScaleOf([map], quantity) : shared;
    const bar = { left: frame.left + frame.width + 0.7 * em, top: frame.top, width: 0.8 * em, height: frame.height };
    return join([
      panelTitle(sheet, frame, hasSlices ? `step ${map.step}, slice ${map.slice}` : `step ${map.step}`),
      drawMap(sheet, frame, map, quantity, colours, levels),
      mapAxes(sheet, frame, map, isOneRadius && k % grid.columns > 0, isOneRadius && !grid.isLastInColumn(k)),
      isPerPanel ? colourBar(sheet, bar, colours, "") : null,
    ]);
  });
  const lastColumn = grid.frames[Math.min(grid.columns, ordered.length) - 1];
  const barFrame = { ...lastColumn, left: lastColumn.left + lastColumn.width + 1.1 * em, width: 0.9 * em };
  const label = QUANTITY_LABELS[quantity];
  const lines =
    quantity === "objective"
      ? "Lines: the same, dashed below zero. Ring: the checkpoint."
      : "Lines: KL per token, nats. Ring: the checkpoint.";
  const shown: Label = ["Colour: ", ...(typeof label === "string" ? [label] : label), `. ${lines}`];
  const title = `${quantity === "reward" ? "Reward" : quantity === "kl" ? "KL" : "Surrogate J"} around the checkpoint`;
  return {
    name: options.name ?? NAMES[quantity],
    title,
    svg: finishSheet(
      sheet,
      grid.heightPt,
      title,
      [shown, ordered.some(isPartial) ? "Hatched: not measured." : undefined, ...ordered.map((map) => map.mark)],
      [...panels, isPerPanel ? null : colourBar(sheet, barFrame, shared, BAR_LABELS[quantity])],
    ),
    csv: heatmapCsv(ordered, quantity, (map) => (isPerPanel ? colourScaleOf([map], quantity) : shared)),
  };
}

const isPartial = (map: LandscapeMap): boolean => map.points.length < map.n * map.n;

function drawMap(
  sheet: Sheet,
  frame: Frame,
  map: LandscapeMap,
  quantity: Quantity,
  colours: ColourScale,
  levels: readonly number[],
): Markup {
  const { theme } = sheet;
  const values = gridValues(map, quantity);
  const area = { x: frame.left, y: frame.top, width: frame.width, height: frame.height };
  return join([
    element("rect", { ...area, fill: theme.faint, class: sheet.isLinked ? "map-area" : null }),
    hatching(sheet, frame, map),
    sheet.isLinked
      ? element("image", { ...area, href: cellImage(values, map.n, colours), preserveAspectRatio: "none" })
      : element("g", { "shape-rendering": "crispEdges" }, ...squares(frame, map, values, colours)),
    isolineMarkup(drawnIsolines(map, quantity, levels, frame, 0.85 * sheet.em), 0.85 * sheet.em, colours.kind),
    checkpointMark(frame.left + frame.width / 2, frame.top + frame.height / 2, 0.36 * sheet.em),
  ]);
}

function squares(frame: Frame, map: LandscapeMap, values: Float64Array, colours: ColourScale): (Markup | null)[] {
  const cell = frame.width / map.n;
  return Array.from(values, (value, k) => {
    if (Number.isNaN(value)) return null;
    const [i, j] = [k % map.n, Math.floor(k / map.n)];
    // A square reaches a little under its neighbours to the right and above, which are drawn later: no seam shows.
    const isFilled = (x: number, y: number) => x < map.n && y < map.n && !Number.isNaN(values[y * map.n + x]);
    const width = isFilled(i + 1, j) ? cell * 1.1 : cell;
    const height = isFilled(i, j + 1) ? cell * 1.1 : cell;
    const y = frame.top + (map.n - j) * cell - height;
    return element("rect", { x: frame.left + i * cell, y, width, height, fill: colourOf(colours, value) });
  });
}

/** Strokes from corner to corner in every cell that was not measured. */
function hatching(sheet: Sheet, frame: Frame, map: LandscapeMap): Markup | null {
  const measured = new Set(map.points.map(({ i, j }) => j * map.n + i));
  const cell = frame.width / map.n;
  const strokes = Array.from({ length: map.n * map.n }, (_, k) => k)
    .filter((k) => !measured.has(k))
    .flatMap((k) => {
      const [x, y] = [frame.left + (k % map.n) * cell, frame.top + (map.n - 1 - Math.floor(k / map.n)) * cell];
      return [0.5, 1, 1.5].map((at) => {
        const [from, to] = [Math.max(0, at - 1) * cell, Math.min(1, at) * cell];
        return pathData([
          [x + from, y + to],
          [x + to, y + from],
        ]);
      });
    });
  if (strokes.length === 0) return null;
  return element("path", {
    d: strokes.join(""),
    stroke: sheet.theme.muted,
    "stroke-width": sheet.line,
    class: "unmeasured",
  });
}

/** White lines with a dark edge over viridis, dark lines over the pale middle of a diverging map, dashed below zero. */
function isolineMarkup(drawn: readonly Isoline[], fontPt: number, kind: ColourScale["kind"]): Markup {
  const isDark = kind === "diverging";
  const width = fontPt * 0.11;
  const strokes = (attributes: Attributes) =>
    drawn.map(({ level, lines }) =>
      element("path", {
        d: lines.map(pathData).join(""),
        "stroke-dasharray": level < 0 ? `${decimal(fontPt * 0.4)} ${decimal(fontPt * 0.3)}` : null,
        ...attributes,
      }),
    );
  return element(
    "g",
    { fill: "none", "stroke-linejoin": "round", class: "isolines" },
    ...(isDark ? [] : strokes({ stroke: "#10131c", "stroke-opacity": "0.45", "stroke-width": width * 2.4 })),
    ...strokes({ stroke: isDark ? "#1d1f24" : "#ffffff", "stroke-width": width }),
    ...drawn.map(({ label: { text: written, x, y, angle } }) =>
      textElement(written, x, y + 0.33 * fontPt, {
        transform: `rotate(${decimal(angle)} ${decimal(x)} ${decimal(y)})`,
        "text-anchor": "middle",
        "font-size": fontPt,
        fill: isDark ? "#1d1f24" : "#ffffff",
        stroke: isDark ? "#ffffff" : "#10131c",
        "stroke-opacity": isDark ? "0.7" : "0.5",
        "stroke-width": fontPt * 0.32,
        "stroke-linejoin": "round",
        "paint-order": "stroke",
      }),
    ),
  );
}

/** The checkpoint: a white ring inside a dark one, visible on any colour. */
export function checkpointMark(x: number, y: number, radius: number): Markup {
  return join([
    element("circle", { cx: x, cy: y, r: radius, fill: "none", stroke: "#10131c", "stroke-width": radius * 0.85 }),
    element("circle", { cx: x, cy: y, r: radius, fill: "none", stroke: "#ffffff", "stroke-width": radius * 0.4 }),
  ]);
}

/** Ticks at −radius, 0 and radius, which are the middles of the outer squares and of the map. */
function mapAxes(sheet: Sheet, frame: Frame, map: LandscapeMap, isBareLeft: boolean, isBareBottom: boolean): Markup {
  const half = frame.width / map.n / 2;
  const ends: [number, number] = [-map.radius, map.radius];
  const ticks = [-map.radius, 0, map.radius];
  const format = trueMinus((value) => String(Number(value.toPrecision(4))));
  const across = scaleLinear(ends, [frame.left + half, frame.left + frame.width - half]);
  const up = scaleLinear(ends, [frame.top + frame.height - half, frame.top + half]);
  return join([
    bottomAxis(sheet, frame, across, { ticks, format, label: "α", isBare: isBareBottom }),
    leftAxis(sheet, frame, up, { ticks, format, label: "β", isBare: isBareLeft }),
  ]);
}

type Field = number | null | undefined;

/** The coordinates of every measured point: the first columns of every table of maps. */
const PLACE = ["step", "slice", "i", "j", "alpha", "beta"] as const;

/** A table of maps: every measured point, by step, slice, i, j, with these further columns. */
export function mapsCsv(
  maps: readonly LandscapeMap[],
  columns: readonly string[],
  fields: (map: LandscapeMap, point: MapPoint) => readonly Field[],
): string {
  const rows = inOrder(maps).flatMap((map) =>
    [...map.points]
      .sort((a, b) => a.i - b.i || a.j - b.j)
      .map((point) => [map.step, map.slice, point.i, point.j, point.alpha, point.beta, ...fields(map, point)]),
  );
  return csv([...PLACE, ...columns], rows);
}

/** The numbers in a heat map: its quantity, the KL of its isolines, and the ends of each panel's colour scale. */
function heatmapCsv(
  maps: readonly LandscapeMap[],
  quantity: Quantity,
  coloursOf: (map: LandscapeMap) => ColourScale,
): string {
  const columns = {
    reward: ["reward", "reward_error", "kl_token"],
    kl: ["kl_token"],
    objective: ["objective", "objective_minus_origin"],
  }[quantity];
  const fields = (map: LandscapeMap, point: MapPoint): Field[] => {
    switch (quantity) {
      case "reward":
        return [point.reward, point.rewardError, point.klToken];
      case "kl":
        return [point.klToken];
      case "objective":
        return [point.objective, (point.objective ?? Number.NaN) - (checkpointPoint(map)?.objective ?? Number.NaN)];
    }
  };
  const scales = new Map(maps.map((map) => [map, coloursOf(map).domain]));
  return mapsCsv(maps, [...columns, "colour_low", "colour_high"], (map, point) => [
    ...fields(map, point),
    ...(scales.get(map) ?? []),
  ]);
}
