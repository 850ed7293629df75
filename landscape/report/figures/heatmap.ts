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
  distinct,
  edgeKlOf,
  extentOf,
  type Figure,
  gridValues,
  hasObjective,
  inOrder,
  type LandscapeMap,
  type MapPoint,
  type Quantity,
  type Study,
} from "./figure-data.ts";
import { type FigureKind, measuredMaps, withoutMaps } from "./figure-kind.ts";
import {
  evenLevels,
  growingLevels,
  type Isoline,
  isolines,
  labelIsolines,
  type Position,
  rootOfKl,
} from "./isolines.ts";
import { checkpointMark, crosses, FLOOR_NOTE, floorHatching, isFloor, isolineMarkup } from "./map-marks.ts";
import { type Field, mapsCsv } from "./map-table.ts";
import { element, join, type Label, type Markup, textWidth } from "./svg.ts";

/** How each quantity is named on colour bars and in prose. */
export const QUANTITY_LABELS: Record<Quantity, Label> = {
  reward: ["mean reward ", { italic: "R" }],
  kl: "KL per token, nats",
  objective: [{ italic: "J" }, " − ", { italic: "J" }, "(0, 0)"],
};

export const BAR_LABELS: Record<Quantity, Label> = { ...QUANTITY_LABELS, reward: [{ italic: "R" }], kl: "KL" };

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
  /** Of a panel. Default: step, and slice if there are several. */
  titleOf?: (map: LandscapeMap) => string;
  /** Cells as one image per panel, which a page needs less room for, instead of squares. */
  areImages?: boolean;
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
  // Small multiples are narrower, so that several stand side by side in one column of a paper.
  const leastWidth = (ordered.length > 2 ? 8.5 : 14) * em;
  // The labels of α at the ends of neighbouring panels, side by side.
  const endsApart = 0.5 * em + Math.max(...ordered.map(({ radius }) => textWidth(axisNumber(-radius), em)));
  const margins = {
    left: leftMargin(sheet, 5),
    right: barRoom + (isPerPanel ? 0 : 1.2 * em),
    top: 2.4 * em,
    bottom: bottomMargin(sheet),
    between: isPerPanel
      ? barRoom + 1.4 * em
      : Math.max(1.3 * em, endsApart - leastWidth / Math.max(...ordered.map(({ n }) => n))),
  };
  const grid = panelGrid(ordered.length, sheet, margins, leastWidth, 1);
  const isOneRadius = distinct(ordered.map((map) => map.radius)).length === 1;
  const hasSlices = distinct(ordered.map((map) => map.slice)).length > 1;
  const usualTitle = ({ step, slice }: LandscapeMap): string =>
    hasSlices ? `step ${step}, slice ${slice}` : `step ${step}`;
  const { titleOf = usualTitle } = options;
  const shared = colourScaleOf(over, quantity);
  const panels = ordered.map((map, k) => {
    const frame = grid.frames[k];
    const colours = isPerPanel ? colourScaleOf([map], quantity) : shared;
    const bar = { left: frame.left + frame.width + 0.7 * em, top: frame.top, width: 0.8 * em, height: frame.height };
    return join([
      panelTitle(sheet, frame, titleOf(map)),
      drawMap(sheet, frame, map, quantity, colours, levels, options.areImages),
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
      [
        shown,
        quantity === "reward" && ordered.some(({ points }) => points.some(isFloor)) ? FLOOR_NOTE : undefined,
        edgeNote(ordered),
        ordered.some(isPartial) ? "Empty cells with a cross: not measured." : undefined,
        ...ordered.map((map) => map.mark),
      ],
      [...panels, isPerPanel ? null : colourBar(sheet, barFrame, shared, BAR_LABELS[quantity])],
    ),
    csv: heatmapCsv(ordered, quantity, (map) => (isPerPanel ? colourScaleOf([map], quantity) : shared)),
  };
}

const mapKind = (quantity: Quantity, shows: string): FigureKind => ({
  name: NAMES[quantity],
  shows,
  takes: ["step", "slice", "shared-colours"],
  isPerSlice: true,
  missing: withoutMaps,
  draw: (study, options) => heatmapFigure(measuredMaps(study), quantity, options),
});

/** Maps of each quantity; the objective's are those whose checkpoint has a J. */
export const mapKinds: readonly FigureKind[] = [
  mapKind("reward", "reward over (α, β) with isolines of KL, one panel per checkpoint"),
  {
    ...mapKind("reward", "the same, each panel with its own colour scale"),
    name: "reward-map-own-colours",
    takes: ["step", "slice"],
    missing: (study) =>
      withoutMaps(study) ??
      // With one map, this would be the same drawing as reward-map.
      (measuredMaps(study).length > 1 ? null : "one map has its own colours in reward-map, too; draw that figure"),
    draw: (study, options) => heatmapFigure(measuredMaps(study), "reward", { ...options, hasOwnColours: true }),
  },
  mapKind("kl", "KL over (α, β) with its isolines, one panel per checkpoint"),
  {
    ...mapKind("objective", "surrogate J − J(0, 0) over (α, β) with its isolines, one panel per checkpoint"),
    missing: (study) => withoutMaps(study) ?? withoutObjective(study),
    draw: (study, options) =>
      heatmapFigure(measuredMaps(study).filter(hasObjective), "objective", {
        ...options,
        ...(options.over && { over: options.over.filter(hasObjective) }),
      }),
  },
];

/** Why no map has J − J(0, 0); null if one has. */
export function withoutObjective(study: Pick<Study, "maps">): string | null {
  return measuredMaps(study).some(hasObjective)
    ? null
    : "no map has a J at its centre. The grid needs a centre (an odd landscape.points) that is measured, and the groups two " +
        "rollouts or more (landscape.reference.rollouts)";
}

const isPartial = (map: LandscapeMap): boolean => map.points.length < map.n * map.n;

function drawMap(
  sheet: Sheet,
  frame: Frame,
  map: LandscapeMap,
  quantity: Quantity,
  colours: ColourScale,
  levels: readonly number[],
  areImages = sheet.isLinked,
): Markup {
  const { theme } = sheet;
  const values = gridValues(map, quantity);
  const area = { x: frame.left, y: frame.top, width: frame.width, height: frame.height };
  return join([
    // An empty cell shows the paper. The frame keeps the map's extent visible.
    element("rect", {
      ...area,
      fill: theme.paper,
      stroke: theme.faint,
      "stroke-width": sheet.line,
      class: sheet.isLinked ? "map-area" : null,
    }),
    crosses(sheet, frame, map),
    areImages
      ? element("image", {
          ...area,
          href: cellImage(values, map.n, colours),
          preserveAspectRatio: "none",
          "image-rendering": "pixelated",
        })
      : element("g", { "shape-rendering": "crispEdges" }, ...squares(frame, map, values, colours)),
    quantity === "reward" ? floorHatching(sheet, frame, map, colours) : null,
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

/** A coordinate as it is written at an axis. */
export const axisNumber = trueMinus((value) => String(Number(value.toPrecision(4))));

/** "α, KL 0.1 at the edge", as far as there is room; the remark under the figure says it too. */
function axisLabel(name: string, map: LandscapeMap, room: number, em: number): string {
  const target = edgeKlOf([map]);
  if (target === null) return name;
  const texts = [`${name}, KL ${target} at the edge`, `${name}, edge: KL ${target}`];
  return texts.find((text) => textWidth(text, em) <= room) ?? name;
}

/** What the edge is where directions are scaled to a KL; undefined where they keep their norms. */
export function edgeNote(maps: readonly LandscapeMap[]): string | undefined {
  const target = edgeKlOf(maps);
  return target === null
    ? undefined
    : `Edge: δ and η are each scaled so that KL is ${target} nats per token (within 5%) at α = ${axisNumber(maps[0].radius)}, β = 0 and at β = ${axisNumber(maps[0].radius)}, α = 0.`;
}

/** Ticks at −radius, 0 and radius, which are the middles of the outer squares and of the map. */
function mapAxes(sheet: Sheet, frame: Frame, map: LandscapeMap, isBareLeft: boolean, isBareBottom: boolean): Markup {
  const half = frame.width / map.n / 2;
  const ends: [number, number] = [-map.radius, map.radius];
  const ticks = [-map.radius, 0, map.radius];
  const format = axisNumber;
  const across = scaleLinear(ends, [frame.left + half, frame.left + frame.width - half]);
  const up = scaleLinear(ends, [frame.top + frame.height - half, frame.top + half]);
  return join([
    bottomAxis(sheet, frame, across, {
      ticks,
      format,
      label: axisLabel("α", map, frame.width, sheet.em),
      isBare: isBareBottom,
    }),
    leftAxis(sheet, frame, up, {
      ticks,
      format,
      label: axisLabel("β", map, frame.height, sheet.em),
      isBare: isBareLeft,
    }),
  ]);
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
