// The checkpoints of a training in the plane of their first two principal components. Both axes have one scale, so distances in the
// picture are distances between the weights, as far as the plane holds them; the titles of the axes say how much it does.
import { scaleLinear } from "d3-scale";
import {
  bottomAxis,
  bottomMargin,
  type FigureOptions,
  type Frame,
  finishSheet,
  leftAxis,
  leftMargin,
  type Sheet,
  sheetOf,
} from "./axes.ts";
import { csv, extentOf, type Figure, type Study } from "./figure-data.ts";
import type { FigureKind } from "./figure-kind.ts";
import { element, join, type Markup, pathData, textElement, textWidth } from "./svg.ts";

type Trajectory = NonNullable<Study["trajectory"]>;

/** @throws RangeError with fewer than two checkpoints */
export function trajectoryFigure(
  { shares, checkpoints }: Trajectory,
  options: FigureOptions & { name?: string } = {},
): Figure {
  const { name = "trajectory" } = options;
  const [xs, ys] = [0, 1].map((c) => extentOf(checkpoints.map(({ coordinates }) => coordinates[c])));
  if (checkpoints.length < 2 || xs === null || ys === null)
    throw new RangeError(`${name}: expected at least two checkpoints, got ${checkpoints.length}`);
  const sheet = sheetOf(options, 84);
  const { em, line, theme } = sheet;
  const left = leftMargin(sheet, 5);
  const width = sheet.widthPt - left - 1.5 * em;
  // One scale for both axes; the picture is not flatter than a third of its width, and not higher than it is wide.
  const reach = Math.max(xs[1] - xs[0], ys[1] - ys[0]) || 1;
  const spanX = Math.max(xs[1] - xs[0], reach / 3) * 1.24;
  const spanY = Math.max(ys[1] - ys[0], reach / 3) * 1.24;
  const perPoint = Math.max(spanX / width, spanY / width);
  const frame: Frame = { left, top: 1.2 * em, width, height: Math.max(9 * em, spanY / perPoint) };
  const middle = ([low, high]: readonly [number, number]): number => (low + high) / 2;
  const around = (centre: number, length: number): [number, number] => [
    centre - (length * perPoint) / 2,
    centre + (length * perPoint) / 2,
  ];
  const across = scaleLinear(around(middle(xs), width), [frame.left, frame.left + width]);
  const up = scaleLinear(around(middle(ys), frame.height), [frame.top + frame.height, frame.top]);
  const points = checkpoints.map(({ step, coordinates: [x, y] }) => ({ step, x: across(x), y: up(y) }));
  const percent = (share: number | undefined): string => `${(100 * (share ?? 0)).toFixed(1)}%`;
  const title = "Training in the plane of its first two principal components";
  const last = points.length - 1;
  const content = [
    bottomAxis(sheet, frame, across, { label: `component 1 (${percent(shares[0])} of the variance)` }),
    leftAxis(sheet, frame, up, { label: `component 2 (${percent(shares[1])})` }),
    element("path", {
      d: pathData(points.map(({ x, y }): [number, number] => [x, y])),
      fill: "none",
      stroke: theme.muted,
      "stroke-width": line * 1.4,
      "stroke-linejoin": "round",
    }),
    ...points.map(({ x, y }, k) =>
      element("circle", {
        cx: x,
        cy: y,
        r: (k === 0 || k === last ? 0.36 : 0.24) * em,
        fill: k === 0 ? theme.paper : theme.ink,
        stroke: theme.ink,
        "stroke-width": line,
      }),
    ),
    stepLabels(sheet, frame, points),
  ];
  return {
    name,
    title,
    svg: finishSheet(
      sheet,
      frame.top + frame.height + bottomMargin(sheet),
      title,
      [
        "Numbers: training steps. Open circle: the first checkpoint; large dot: the last. Both axes have the same scale, in units of the weights, from " +
          "the mean of all checkpoints on.",
      ],
      content,
    ),
    csv: csv(
      ["step", "component_1", "component_2", "share_1", "share_2"],
      checkpoints.map(({ step, coordinates: [one, two] }) => [step, one, two, shares[0], shares[1] ?? 0]),
    ),
  };
}

/** Each step beside its point, where it covers no other label and no point; a label without room is left out, the ends first. */
function stepLabels(
  sheet: Sheet,
  frame: Frame,
  points: readonly { readonly step: number; readonly x: number; readonly y: number }[],
): Markup {
  const { em } = sheet;
  type Box = readonly [left: number, top: number, right: number, bottom: number];
  const around = (x: number, y: number, reach: number): Box => [x - reach, y - reach, x + reach, y + reach];
  const taken: Box[] = points.map(({ x, y }) => around(x, y, 0.3 * em));
  // The line between the points, piece by piece.
  for (const [k, to] of points.slice(1).entries()) {
    const { x, y } = points[k];
    const pieces = Math.ceil(Math.hypot(to.x - x, to.y - y) / (0.4 * em));
    for (let piece = 1; piece < pieces; piece++)
      taken.push(around(x + ((to.x - x) * piece) / pieces, y + ((to.y - y) * piece) / pieces, 0.1 * em));
  }
  const isFree = ([left, top, right, bottom]: Box, own: number): boolean =>
    left >= frame.left &&
    right <= frame.left + frame.width &&
    top >= frame.top &&
    bottom <= frame.top + frame.height - 0.1 * em &&
    taken.every(([l, t, r, b], k) => k === own || right <= l || left >= r || bottom <= t || top >= b);
  const order = [0, points.length - 1, ...points.keys()].filter((k, at, all) => all.indexOf(k) === at);
  const drawn = order.flatMap((k): Markup[] => {
    const { step, x, y } = points[k];
    const text = String(step);
    const width = textWidth(text, em);
    const gap = 0.5 * em;
    for (const [left, baseline] of [
      [x + gap, y + 0.33 * em],
      [x - gap - width, y + 0.33 * em],
      [x - width / 2, y - 0.6 * em],
      [x - width / 2, y + 1.3 * em],
    ]) {
      const box: Box = [left, baseline - 0.8 * em, left + width, baseline + 0.25 * em];
      if (!isFree(box, k)) continue;
      taken.push(box);
      return [textElement(text, left, baseline)];
    }
    return [];
  });
  return join(drawn);
}

export const trajectoryKind: FigureKind = {
  name: "trajectory",
  shows: "all checkpoints in the plane of the training's first two principal components, with explained shares",
  takes: [],
  isPerSlice: false,
  missing: ({ trajectory }) =>
    trajectory
      ? null
      : "the checkpoints' plane is not computed. node landscape/report.ts RUN --figure trajectory computes it, from at least three " +
        "checkpoints",
  draw: ({ trajectory }, options) => {
    if (!trajectory) throw new RangeError("trajectory: expected a run with its trajectory, got none");
    return trajectoryFigure(trajectory, options);
  },
};
