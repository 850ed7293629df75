// Reward against KL as curves: one line per checkpoint through the means of its rings, with a band of intervals.
//
// The KL axis has a square-root scale, as in reward-kl.ts. Checkpoints differ in colour, dashes and markers, so the
// curves can be told apart in grey print and by the colour-blind.
import { scaleLinear, scaleSqrt } from "d3-scale";
import { bottomAxis, bottomMargin, type FigureOptions, finishSheet, leftAxis, leftMargin, sheetOf } from "./axes.ts";
import { curveStyles } from "./colour.ts";
import { csv, extentOf, type Figure, inOrder, type LandscapeMap } from "./figure-data.ts";
import { type FigureKind, withoutMaps } from "./figure-kind.ts";
import { curve, curveMarker, legend } from "./legend.ts";
import { rootTicks } from "./reward-kl.ts";
import { element, pathData } from "./svg.ts";

const hasRings = ({ rings = [] }: LandscapeMap): boolean => rings.length > 0;

/**
 * @param options  `over`: maps that determine the axes. Default: the maps that are drawn
 * @throws RangeError when no map has rings
 */
export function rewardCurvesFigure(
  maps: readonly LandscapeMap[],
  options: FigureOptions & { name?: string; over?: readonly LandscapeMap[] } = {},
): Figure {
  const { name = "reward-curves" } = options;
  const ordered = inOrder(maps).filter(hasRings);
  const measured = (options.over ?? ordered).flatMap(({ rings = [] }) => rings);
  const kls = extentOf(measured.map(({ klToken }) => klToken));
  const rewards = extentOf(measured.flatMap(({ reward, rewardReach: r }) => [reward - (r ?? 0), reward + (r ?? 0)]));
  if (ordered.length === 0 || kls === null || rewards === null)
    throw new RangeError(`${name}: expected at least one map with rings, got none`);
  const sheet = sheetOf(options, 84);
  const { em } = sheet;
  const left = leftMargin(sheet, 4);
  const width = sheet.widthPt - left - em;
  const styles = curveStyles(ordered.length);
  const slices = new Set(ordered.map(({ slice }) => slice)).size;
  const entries = ordered.map(({ step, slice }, k) => ({
    name: slices > 1 ? `step ${step}, slice ${slice}` : `step ${step}`,
    style: styles[k],
  }));
  const names = legend(sheet, { left, top: 0.3 * em, width }, entries);
  const frame = {
    left,
    top: names.heightPt + 0.9 * em,
    width,
    height: Math.max(11 * em, Math.min(0.62 * width, 22 * em)),
  };
  const across = scaleSqrt([0, kls[1] || 1], [left + 0.8 * em, left + width - 0.8 * em]);
  const up = scaleLinear(rewards, [frame.top + frame.height - 0.5 * em, frame.top + 0.5 * em]).nice(5);
  const bands = ordered.map(({ rings = [] }, k) => {
    const ends = rings.flatMap(({ klToken, reward, rewardReach }) =>
      rewardReach === null
        ? []
        : [{ x: across(klToken), low: up(reward - rewardReach), high: up(reward + rewardReach) }],
    );
    if (ends.length < 2) return null;
    const outline = [
      ...ends.map(({ x, high }): [number, number] => [x, high]),
      ...ends.toReversed().map(({ x, low }): [number, number] => [x, low]),
    ];
    return element("path", { d: `${pathData(outline)}Z`, fill: styles[k].colour, "fill-opacity": "0.16" });
  });
  const lines = ordered.flatMap(({ rings = [] }, k) => {
    const points = rings.map(({ klToken, reward }): [number, number] => [across(klToken), up(reward)]);
    return [curve(sheet, styles[k], points), ...points.map(([x, y]) => curveMarker(sheet, styles[k], x, y))];
  });
  const hasBands = ordered.some(({ rings = [] }) => rings.some(({ rewardReach }) => rewardReach !== null));
  const title = "Reward against KL, a curve per checkpoint";
  const notes = [
    "Points: means over the cells of a ring, from the checkpoint (KL 0) outwards. KL on a square-root scale.",
    hasBands
      ? "Bands: 95% interval of each ring's reward over prompts (Student's t)."
      : "No bands: one prompt gives no interval.",
    ...ordered.map((map) => map.mark),
  ];
  return {
    name,
    title,
    svg: finishSheet(sheet, frame.top + frame.height + bottomMargin(sheet), title, notes, [
      names.markup,
      bottomAxis(sheet, frame, across, {
        label: "KL per token, nats",
        ticks: rootTicks(across, frame.width / (4.5 * em)),
      }),
      leftAxis(sheet, frame, up, { label: ["mean reward ", { italic: "R" }] }),
      ...bands,
      ...lines,
    ]),
    csv: csv(
      ["step", "slice", "ring", "cells", "kl_token", "reward", "low", "high"],
      ordered.flatMap(({ step, slice, rings = [] }) =>
        rings.map(({ ring, cells, klToken, reward, rewardReach }) => [
          ...[step, slice, ring, cells, klToken, reward],
          reward - (rewardReach ?? Number.NaN),
          reward + (rewardReach ?? Number.NaN),
        ]),
      ),
    ),
  };
}

export const rewardCurvesKind: FigureKind = {
  name: "reward-curves",
  shows: "reward against KL by ring, one curve per checkpoint, with bands",
  takes: ["step", "slice", "shared-colours"],
  isPerSlice: true,
  missing: (study) =>
    withoutMaps(study) ??
    (study.maps.some(hasRings) ? null : "no map has means over rings; draw the run again from its cells"),
  draw: (study, options) => rewardCurvesFigure(study.maps, options),
};
