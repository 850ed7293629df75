// A map as a surface over (α, β): one quantity is the height, another the colour, seen from above at a slant.
//
// The projection is parallel: equal lengths along an axis stay equal, so heights can be compared. Every patch lies
// between four measured points and has the mean colour of its corners; a patch with a missing corner is left out.
import { type ScaleLinear, scaleLinear } from "d3-scale";
import {
  colourBar,
  type FigureOptions,
  type Frame,
  finishSheet,
  panelGrid,
  panelTitle,
  type Sheet,
  sheetOf,
  trueMinus,
} from "./axes.ts";
import { type ColourScale, colourOf } from "./colour.ts";
import {
  checkpointPoint,
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
import { type FigureKind, measuredMaps, withoutMaps } from "./figure-kind.ts";
import { axisNumber, BAR_LABELS, colourScaleOf, edgeNote, QUANTITY_LABELS, withoutObjective } from "./heatmap.ts";
import { checkpointMark } from "./map-marks.ts";
import { mapsCsv } from "./map-table.ts";
import { element, join, type Label, type LabelPart, type Markup, pathData, textElement } from "./svg.ts";

/** Turn of the ground about the vertical, and the height of the eye above it. */
const [TURN, EYE] = [(35 * Math.PI) / 180, (30 * Math.PI) / 180];
/** Height of the box, in halves of its side. */
const RISE = 1.15;
/** Half of the picture's width, in halves of the box's side. */
const REACH = Math.cos(TURN) + Math.sin(TURN);

type Place = readonly [number, number];

/** From u, v in [−1, 1] (α and β by the radius) and height in [0, 1] to the drawing. */
type Projection = (u: number, v: number, height: number) => Place;

export interface SurfaceOptions extends FigureOptions {
  name?: string;
  /** What the height shows. Default: reward. The colour shows KL, and reward if the height is KL. */
  quantity?: Quantity;
  /** Maps that determine heights and colours. Default: the maps that are drawn. */
  over?: readonly LandscapeMap[];
}

/**
 * @throws RangeError without a map, or for the objective if a map has no J at its origin
 */
export function surfaceFigure(maps: readonly LandscapeMap[], options: SurfaceOptions = {}): Figure {
  const { quantity = "reward", name = "surface" } = options;
  const ordered = inOrder(maps);
  const over = options.over ?? ordered;
  const heights = extentOf(...over.map((map) => gridValues(map, quantity)));
  if (ordered.length === 0 || heights === null)
    throw new RangeError(`${name}: expected at least one measured point, got none`);
  const coloured: Quantity = quantity === "kl" ? "reward" : "kl";
  const colours = colourScaleOf(over, coloured);
  const sheet = sheetOf(options, ordered.length > 2 ? 174 : 84);
  const { em } = sheet;
  const margins = { left: 0.5 * em, right: 5.2 * em, top: 2.4 * em, bottom: 0.4 * em, between: 0.8 * em };
  const grid = panelGrid(ordered.length, sheet, margins, 14 * em, 0.86);
  const hasSlices = distinct(ordered.map((map) => map.slice)).length > 1;
  const axis = heightAxis(sheet, heights, sideOf(sheet, grid.frames[0]));
  const panels = ordered.map((map, k) =>
    join([
      panelTitle(sheet, grid.frames[k], hasSlices ? `step ${map.step}, slice ${map.slice}` : `step ${map.step}`),
      drawSurface(sheet, grid.frames[k], map, { quantity, coloured, colours, ...axis }),
    ]),
  );
  const [first] = grid.frames;
  const last = grid.frames[Math.min(grid.columns, ordered.length) - 1];
  const bar = { left: last.left + last.width + 0.9 * em, top: first.top, width: 0.9 * em, height: 0.8 * first.height };
  const words = (of: Quantity): readonly LabelPart[] => {
    const label = QUANTITY_LABELS[of];
    return typeof label === "string" ? [label] : label;
  };
  const title = `${TITLES[quantity]} as a surface around the checkpoint`;
  const isPartial = ordered.some((map) => map.points.length < map.n * map.n);
  return {
    name,
    title,
    svg: finishSheet(
      sheet,
      grid.heightPt,
      title,
      [
        ["Height: ", ...words(quantity), ". Colour: ", ...words(coloured), "."],
        "Ring: the checkpoint, drawn on top. Parallel projection.",
        edgeNote(ordered),
        isPartial ? "Gaps: not measured." : undefined,
        ...ordered.map((map) => map.mark),
      ],
      [...panels, colourBar(sheet, bar, colours, BAR_LABELS[coloured])],
    ),
    csv: surfaceCsv(ordered, quantity, coloured, { heights: axis.ends, colours }),
  };
}

const TITLES: Record<Quantity, string> = { reward: "Reward", kl: "KL", objective: "Surrogate J" };

/** The vertical axis: from its ends to [0, 1], and the ticks that stand clear of each other. */
interface HeightAxis {
  ends: readonly [number, number];
  scale: ScaleLinear<number, number>;
  ticks: readonly number[];
}

interface Look extends HeightAxis {
  quantity: Quantity;
  coloured: Quantity;
  colours: ColourScale;
}

/** Half of the side of the box, in points: the labels at its left and right take 6 em. */
function sideOf({ em }: Sheet, { width }: Frame): number {
  return (width - 6 * em) / (2 * REACH);
}

function heightAxis({ em }: Sheet, [low, high]: readonly [number, number], side: number): HeightAxis {
  const scale = scaleLinear(low < high ? [low, high] : [low - 0.5, low + 0.5], [0, 1]);
  const rise = side * RISE * Math.cos(EYE);
  const endsOf = (): readonly [number, number] => [scale.domain()[0], scale.domain()[1]];
  for (let count = 4; count > 1; count--) {
    const ticks = scale.ticks(count);
    if (ticks.length > 1 && rise * (scale(ticks[1]) - scale(ticks[0])) >= 1.15 * em)
      return { ends: endsOf(), scale, ticks };
  }
  // A low box: round ends, which are then the ticks.
  scale.nice(2);
  return { ends: endsOf(), scale, ticks: endsOf() };
}

function drawSurface(sheet: Sheet, frame: Frame, map: LandscapeMap, look: Look): Markup {
  const { em, line, theme } = sheet;
  const { n } = map;
  const [values, tints] = [gridValues(map, look.quantity), gridValues(map, look.coloured)];
  const side = sideOf(sheet, frame);
  // The lowest corner of the ground stands above the labels of α and β.
  const centre = [
    frame.left + 3.3 * em + side * REACH,
    frame.top + frame.height - 2.4 * em - side * REACH * Math.sin(EYE),
  ];
  const place: Projection = (u, v, height) => {
    const depth = v * Math.cos(TURN) - u * Math.sin(TURN);
    const across = u * Math.cos(TURN) + v * Math.sin(TURN);
    return [centre[0] + side * across, centre[1] - side * (depth * Math.sin(EYE) + RISE * height * Math.cos(EYE))];
  };
  const at = (k: number) => (2 * k - (n - 1)) / (n - 1);
  const corner = (i: number, j: number): Place => place(at(i), at(j), look.scale(values[j * n + i]));
  // From the back to the front: depth grows with β and falls with α.
  const patches = Array.from({ length: (n - 1) ** 2 }, (_, k) => [k % (n - 1), Math.floor(k / (n - 1))] as const)
    .map(([i, j]) => ({ i, j, depth: at(j) * Math.cos(TURN) - at(i) * Math.sin(TURN) }))
    .sort((a, b) => b.depth - a.depth)
    .map(({ i, j }) => {
      const corners = [[i, j] as const, [i + 1, j] as const, [i + 1, j + 1] as const, [i, j + 1] as const];
      const tint = corners.reduce((sum, [x, y]) => sum + tints[y * n + x], 0) / 4;
      const outline = corners.map(([x, y]) => ({ x, y, height: values[y * n + x] }));
      if (Number.isNaN(tint) || outline.some(({ height }) => Number.isNaN(height))) return null;
      return element("path", {
        d: `${pathData(outline.map(({ x, y }) => corner(x, y)))}Z`,
        fill: colourOf(look.colours, tint),
      });
    });
  const origin = checkpointPoint(map);
  const centreOf = origin === undefined ? null : corner(origin.i, origin.j);
  return join([
    walls(sheet, place, look),
    element(
      "g",
      { stroke: theme.ink, "stroke-width": 0.45 * line, "stroke-opacity": "0.55", "stroke-linejoin": "round" },
      ...patches,
    ),
    boxAxes(sheet, place, look, map.radius),
    centreOf === null ? null : checkpointMark(centreOf[0], centreOf[1], 0.36 * em),
  ]);
}

/** Ground, and lines at the heights of the ticks along the two walls at the back. */
function walls({ line, theme }: Sheet, place: Projection, { scale, ticks }: HeightAxis): Markup {
  const ground = [place(-1, -1, 0), place(1, -1, 0), place(1, 1, 0), place(-1, 1, 0)];
  const levels = ticks.map((tick) => {
    const height = scale(tick);
    return pathData([place(-1, -1, height), place(-1, 1, height), place(1, 1, height)]);
  });
  const edges = [pathData([place(-1, 1, 0), place(-1, 1, 1)]), pathData([place(1, 1, 0), place(1, 1, 1)])];
  return element("path", {
    d: [`${pathData(ground)}Z`, ...levels, ...edges].join(""),
    fill: "none",
    stroke: theme.faint,
    "stroke-width": line,
  });
}

/** α along the front left edge of the ground, β along the front right one, the height at the left corner. */
function boxAxes(sheet: Sheet, place: Projection, look: Look, radius: number): Markup {
  const { em, line, theme } = sheet;
  const tickAt = ([x, y]: Place, dx: number, dy: number): string =>
    pathData([
      [x, y],
      [x + dx, y + dy],
    ]);
  const shift = ([x, y]: Place, dx: number, dy: number): Place => [x + dx * em, y + dy * em];
  const label = (text: Label, [x, y]: Place, anchor: string): Markup =>
    textElement(text, x, y, { "text-anchor": anchor });
  const ends = [-1, 0, 1];
  const heights = look.ticks;
  const writeHeight = trueMinus(look.scale.tickFormat(Math.max(2, heights.length)));
  const strokes = [
    pathData([place(-1, -1, 1), place(-1, -1, 0), place(1, -1, 0), place(1, 1, 0)]),
    ...ends.map((u) => tickAt(place(u, -1, 0), -0.2 * em, 0.3 * em)),
    ...ends.map((v) => tickAt(place(1, v, 0), 0.25 * em, 0.25 * em)),
    ...heights.map((tick) => tickAt(place(-1, -1, look.scale(tick)), -0.3 * em, 0)),
  ];
  return join([
    element("path", { d: strokes.join(""), fill: "none", stroke: theme.ink, "stroke-width": line }),
    // The end at the front corner is said once for each axis, on its own side.
    ...ends.map((u) => label(axisNumber(u * radius), shift(place(u, -1, 0), u === 1 ? -0.5 : -0.3, 1.3), "end")),
    ...ends.map((v) => label(axisNumber(v * radius), shift(place(1, v, 0), v === -1 ? 0.5 : 0.35, 1), "start")),
    label("α", shift(place(0.1, -1, 0), -1.6, 2.3), "end"),
    label("β", shift(place(1, 0.1, 0), 1.9, 2.1), "start"),
    ...heights.map((tick) => label(writeHeight(tick), shift(place(-1, -1, look.scale(tick)), -0.5, 0.33), "end")),
    label(BAR_LABELS[look.quantity], shift(place(-1, -1, 1), -0.3, -0.7), "middle"),
  ]);
}

function surfaceCsv(
  maps: readonly LandscapeMap[],
  quantity: Quantity,
  coloured: Quantity,
  { heights, colours }: { heights: readonly [number, number]; colours: ColourScale },
): string {
  const column = (of: Quantity): string =>
    of === "reward" ? "reward" : of === "kl" ? "kl_token" : "objective_minus_origin";
  const value = (map: LandscapeMap, point: MapPoint, of: Quantity): number =>
    gridValuesOf(map, of)[point.j * map.n + point.i];
  const cache = new Map<string, Float64Array>();
  const gridValuesOf = (map: LandscapeMap, of: Quantity): Float64Array => {
    const key = `${map.step} ${map.slice} ${of}`;
    const found = cache.get(key) ?? gridValues(map, of);
    cache.set(key, found);
    return found;
  };
  const columns = [column(quantity), column(coloured), "height_low", "height_high", "colour_low", "colour_high"];
  return mapsCsv(maps, columns, (map, point) => [
    value(map, point, quantity),
    value(map, point, coloured),
    ...heights,
    ...colours.domain,
  ]);
}

export const surfaceKind: FigureKind = {
  name: "surface",
  shows: "a quantity as height over (α, β), KL as colour, one panel per checkpoint",
  takes: ["step", "slice", "quantity", "shared-colours"],
  isPerSlice: true,
  missing: (study, quantity) => withoutMaps(study) ?? (quantity === "objective" ? withoutObjective(study) : null),
  draw: (study, options) => {
    const isDrawn = (map: LandscapeMap): boolean => options.quantity !== "objective" || hasObjective(map);
    return surfaceFigure(measuredMaps(study).filter(isDrawn), {
      ...options,
      ...(options.over && { over: options.over.filter(isDrawn) }),
    });
  },
};
