// The noise floor of each map: the mean rewards of the checkpoint with other rollout noise as ticks over a histogram of the map's
// cells, and the range that holds 95% of further draws as a band.
import { scaleLinear } from "d3-scale";
import {
  bottomAxis,
  bottomMargin,
  type FigureOptions,
  finishSheet,
  leftAxis,
  leftMargin,
  panelGrid,
  panelTitle,
  type Scale,
  type Sheet,
  sheetOf,
} from "./axes.ts";
import {
  checkpointPoint,
  csv,
  distinct,
  extentOf,
  type Figure,
  inOrder,
  type LandscapeMap,
  type MapNoiseFloor,
} from "./figure-data.ts";
import { type FigureKind, withoutMaps } from "./figure-kind.ts";
import { element, join, type Markup, pathData } from "./svg.ts";

type FlooredMap = LandscapeMap & { readonly noiseFloor: MapNoiseFloor };
const hasFloor = (map: LandscapeMap): map is FlooredMap => map.noiseFloor !== undefined;

/** Bars of a histogram. */
const BINS = 24;

/**
 * A panel per map; all have the same axes.
 * @throws RangeError when no map has a noise floor
 */
export function noiseFloorFigure(
  maps: readonly LandscapeMap[],
  options: FigureOptions & { name?: string; over?: readonly LandscapeMap[] } = {},
): Figure {
  const { name = "noise-floor" } = options;
  const drawn = inOrder(maps).filter(hasFloor);
  const all = (options.over ?? drawn).filter(hasFloor);
  const ends = extentOf(
    all.flatMap(({ points, noiseFloor: { draws, range } }) => [
      ...points.map(({ reward }) => reward),
      ...draws,
      ...(range === null ? [] : [range.low, range.high]),
    ]),
  );
  if (drawn.length === 0 || ends === null)
    throw new RangeError(`${name}: expected at least one map with a noise floor, got none`);
  const sheet = sheetOf(options, drawn.length > 1 ? 174 : 84);
  const { em } = sheet;
  const margins = { left: leftMargin(sheet, 3), right: em, top: 3 * em, bottom: bottomMargin(sheet), between: 2 * em };
  const { frames, columns, heightPt, isLastInColumn } = panelGrid(drawn.length, sheet, margins, 20 * em, 0.42);
  const [least, most] = ends[0] < ends[1] ? ends : [ends[0] - 0.5, ends[1] + 0.5];
  const width = (most - least) / BINS;
  const binsOf = ({ points }: LandscapeMap): number[] => {
    const counts = new Array<number>(BINS).fill(0);
    for (const { reward } of points) counts[Math.min(BINS - 1, Math.floor((reward - least) / width))]++;
    return counts;
  };
  const tallest = Math.max(1, ...all.flatMap(binsOf));
  const several = distinct(drawn.map(({ slice }) => slice)).length > 1;
  const panels = drawn.map((map, k) => {
    const frame = frames[k];
    const across = scaleLinear([least, most], [frame.left + 0.4 * em, frame.left + frame.width - 0.4 * em]);
    const up = scaleLinear([0, tallest], [frame.top + frame.height, frame.top + 1.8 * em]);
    const bars = binsOf(map).map((count, bin) =>
      count === 0
        ? null
        : element(
            "rect",
            {
              ...{ x: across(least + bin * width), y: up(count), width: across(width) - across(0) },
              ...{ height: up(0) - up(count), fill: sheet.theme.muted, "fill-opacity": "0.55" },
            },
            element("title", {}, `${count} cells`),
          ),
    );
    const title = several ? `step ${map.step}, slice ${map.slice}` : `step ${map.step}`;
    return join([
      panelTitle(sheet, frame, title, shareText(map.noiseFloor)),
      bandOf(sheet, map, across, frame.top, frame.height),
      ...bars,
      ticksOf(sheet, map, across, frame.top),
      bottomAxis(sheet, frame, across, { label: "mean reward R", isBare: !isLastInColumn(k) }),
      k % columns === 0
        ? leftAxis(sheet, frame, up, { label: "cells", ticks: up.ticks(3).filter(Number.isInteger) })
        : null,
    ]);
  });
  const title = "Reward of the cells, and of the checkpoint with other rollout noise";
  return {
    name,
    title,
    svg: finishSheet(
      sheet,
      heightPt,
      title,
      [
        "Bars: cells of the map. Ticks: the checkpoint with other noise seeds, the same prompts; the longer one is R(0, 0). Band: " +
          "95% of further draws lie in it, if rollout noise is all.",
        ...drawn.map((map) => map.mark),
      ],
      panels,
    ),
    csv: csv(
      ["step", "slice", "what", "reward"],
      drawn.flatMap(({ step, slice, points, noiseFloor: { draws, range } }) => [
        ...draws.map((reward) => [step, slice, "draw", reward]),
        ...(range === null
          ? []
          : [
              [step, slice, "range low", range.low],
              [step, slice, "range high", range.high],
            ]),
        ...points.map(({ reward, alpha, beta }) => [
          ...[step, slice, alpha === 0 && beta === 0 ? "checkpoint" : "cell"],
          reward,
        ]),
      ]),
    ),
  };
}

/** "57% outside" */
function shareText({ below, above, cells }: MapNoiseFloor): string {
  return cells === 0 ? "" : `${Math.round((100 * (below + above)) / cells)}% outside`;
}

function bandOf(
  { theme }: Sheet,
  { noiseFloor: { range } }: FlooredMap,
  across: Scale,
  y: number,
  height: number,
): Markup | null {
  if (range === null) return null;
  const [low, high] = [across(range.low), across(range.high)];
  return element("rect", { x: low, y, width: high - low, height, fill: theme.accent, "fill-opacity": "0.16" });
}

function ticksOf({ em, line, theme }: Sheet, map: FlooredMap, across: Scale, top: number): Markup {
  const stroke = (reward: number, length: number, width: number): Markup =>
    element("path", {
      d: pathData([
        [across(reward), top],
        [across(reward), top + length],
      ]),
      stroke: theme.accent,
      "stroke-width": width,
    });
  const own = checkpointPoint(map);
  return join([
    ...map.noiseFloor.draws.map((reward) => stroke(reward, 0.9 * em, line)),
    own === undefined ? null : stroke(own.reward, 1.6 * em, 2 * line),
  ]);
}

export const noiseFloorKind: FigureKind = {
  name: "noise-floor",
  shows: "the checkpoint's reward with other rollout noise, over a histogram of the map's cells",
  takes: ["step", "slice", "shared-colours"],
  isPerSlice: true,
  missing: (study) =>
    withoutMaps(study) ??
    (study.maps.some(hasFloor)
      ? null
      : "no noise floor is measured. The same command as for the run, with --landscape.noiseFloor 20, adds it"),
  draw: (study, options) => noiseFloorFigure(study.maps, options),
};
