// Reward against KL, one dot per grid point, coloured by its ring (distance from the checkpoint).
//
// The KL axis has a square-root scale: KL grows with the square of the distance, so rings are spread evenly, and the
// checkpoint is at zero, which a logarithmic axis cannot show. If dots of one ring differ in reward as much as rings
// do, «reward falls with KL» says little more than «reward falls with distance».
import { type ScaleLinear, type ScalePower, scaleLinear, scaleSqrt } from "d3-scale";
import {
  bottomAxis,
  bottomMargin,
  colourBar,
  type FigureOptions,
  finishSheet,
  leftAxis,
  leftMargin,
  panelGrid,
  panelTitle,
  type Scale,
  sheetOf,
} from "./axes.ts";
import { type ColourScale, colourOf, sequential } from "./colour.ts";
import {
  checkpointPoint,
  distanceInRadii,
  distinct,
  extentOf,
  type Figure,
  inOrder,
  type LandscapeMap,
  type MapPoint,
} from "./figure-data.ts";
import { type FigureKind, measuredMaps, withoutMaps } from "./figure-kind.ts";
import { checkpointMark } from "./map-marks.ts";
import { mapsCsv } from "./map-table.ts";
import { decimal, element, join, type Markup } from "./svg.ts";

/**
 * @param options  `over`: maps that determine the common axes. Default: the maps that are drawn
 * @throws RangeError without a map
 */
export function rewardKlFigure(
  maps: readonly LandscapeMap[],
  options: FigureOptions & { name?: string; over?: readonly LandscapeMap[] } = {},
): Figure {
  const { name = "reward-kl" } = options;
  const ordered = inOrder(maps);
  const points = (options.over ?? ordered).flatMap((map) => map.points);
  const [rewards, kls] = [extentOf(points.map((p) => p.reward)), extentOf(points.map((p) => p.klToken))];
  if (rewards === null || kls === null) throw new RangeError(`${name}: expected at least one measured point, got none`);
  const sheet = sheetOf(options, ordered.length > 2 ? 174 : 84);
  const { em, theme } = sheet;
  const margins = {
    left: leftMargin(sheet, 4),
    right: 5 * em,
    top: 2.4 * em,
    bottom: bottomMargin(sheet),
    between: 1.6 * em,
  };
  const isMany = ordered.length > 2;
  const grid = panelGrid(ordered.length, sheet, margins, (isMany ? 9 : 16) * em, isMany ? 1 : 0.8);
  const hasSlices = distinct(ordered.map((map) => map.slice)).length > 1;
  const colours = sequential(0, Math.SQRT2);
  const panels = ordered.map((map, k) => {
    const frame = grid.frames[k];
    const across = scaleSqrt([0, kls[1] || 1], [frame.left + 0.8 * em, frame.left + frame.width - 0.5 * em]);
    const up = scaleLinear(rewards, [frame.top + frame.height - 0.5 * em, frame.top + 0.5 * em]);
    const origin = checkpointPoint(map);
    const radius = Math.min((isMany ? 0.22 : 0.3) * em, (2.2 * em) / map.n);
    // Outer rings are drawn first, so the few inner dots stay visible.
    const dots = [...map.points].sort((a, b) => distanceInRadii(map, b) - distanceInRadii(map, a));
    return join([
      panelTitle(sheet, frame, hasSlices ? `step ${map.step}, slice ${map.slice}` : `step ${map.step}`),
      bottomAxis(sheet, frame, across, {
        label: "KL per token, nats",
        ticks: rootTicks(across, frame.width / (4.5 * em)),
        isBare: !grid.isLastInColumn(k),
      }),
      leftAxis(sheet, frame, up, { label: ["mean reward ", { italic: "R" }], isBare: k % grid.columns > 0 }),
      ...(sheet.isLinked
        ? [dotArea(across, up, kls[1] || 1, rewards, radius), ...dotPaths(map, dots, across, up, radius, colours)]
        : dots.map((p) =>
            element("circle", {
              cx: across(p.klToken),
              cy: up(p.reward),
              r: radius,
              fill: colourOf(colours, Math.SQRT2 - distanceInRadii(map, p)),
              stroke: theme.ink,
              "stroke-width": sheet.line * 0.35,
            }),
          )),
      origin === undefined ? null : checkpointMark(across(origin.klToken), up(origin.reward), 0.36 * em),
    ]);
  });
  const last = grid.frames[Math.min(grid.columns, ordered.length) - 1];
  const bar = { ...last, left: last.left + last.width + 1.1 * em, width: 0.9 * em };
  const title = "Reward against KL";
  return {
    name,
    title,
    svg: finishSheet(
      sheet,
      grid.heightPt,
      title,
      [
        "Colour: distance from the checkpoint, in units of the radius. KL on a square-root scale. Ring: the checkpoint.",
        ...ordered.map((map) => map.mark),
      ],
      [...panels, colourBar(sheet, bar, { ...colours, table: colours.table.toReversed() }, "ring")],
    ),
    csv: mapsCsv(ordered, ["ring", "kl_token", "reward", "reward_error"], (map, point) => [
      distanceInRadii(map, point),
      point.klToken,
      point.reward,
      point.rewardError,
    ]),
  };
}

export const rewardKlKind: FigureKind = {
  name: "reward-kl",
  shows: "reward against KL, one dot per grid point, one panel per checkpoint",
  takes: ["step", "slice", "shared-colours"],
  isPerSlice: true,
  missing: withoutMaps,
  draw: (study, options) => rewardKlFigure(measuredMaps(study), options),
};

/**
 * For linked figures: an invisible rectangle whose edges are the ends of the axes, with the numbers that are there. A
 * script finds from it where a point is drawn: KL on a square-root scale from 0, reward on a straight one.
 */
function dotArea(
  across: ScalePower<number, number>,
  up: ScaleLinear<number, number>,
  mostKl: number,
  rewards: readonly [number, number],
  radius: number,
): Markup {
  const [left, right] = across.range();
  const [bottom, top] = up.range();
  return element("rect", {
    class: "dot-area",
    x: left,
    y: top,
    width: right - left,
    height: bottom - top,
    fill: "none",
    "data-most-kl": String(mostKl),
    "data-rewards": rewards.join(" "),
    "data-dot": decimal(radius),
  });
}

/** For linked figures: the dots of a ring as one path of round line ends. */
function dotPaths(
  map: LandscapeMap,
  dots: readonly MapPoint[],
  across: Scale,
  up: Scale,
  radius: number,
  colours: ColourScale,
): Markup[] {
  const rings = new Map<string, string>();
  for (const p of dots) {
    const colour = colourOf(colours, Math.SQRT2 - distanceInRadii(map, p));
    rings.set(colour, `${rings.get(colour) ?? ""}M${decimal(across(p.klToken))} ${decimal(up(p.reward))}h0`);
  }
  return [...rings].map(([stroke, d]) =>
    element("path", { d, stroke, "stroke-width": 2 * radius, "stroke-linecap": "round" }),
  );
}

/**
 * Round values of KL that do not overlap on a square-root axis: 0, then 1, 2, 5 times powers of ten, thinned from
 * above.
 */
export function rootTicks(scale: ScalePower<number, number>, most: number): number[] {
  const [low, high] = scale.domain();
  const [left, right] = scale.range();
  const least = Math.abs(right - left) / Math.max(2, most);
  const ticks: number[] = [];
  for (let power = Math.ceil(Math.log10(high)); power > Math.log10(high) - 4; power--)
    for (const mantissa of [5, 2, 1]) {
      const tick = Number(`${mantissa}e${power}`);
      const previous = ticks.length === 0 ? Number.POSITIVE_INFINITY : scale(ticks[ticks.length - 1]);
      if (tick <= high && Math.abs(previous - scale(tick)) >= least && Math.abs(scale(tick) - scale(low)) >= least)
        ticks.push(tick);
    }
  return [low, ...ticks.reverse()];
}
