// The health of a training: one small panel per metric, all over the same steps. docs/metrics.md defines each.
import { scaleLinear } from "d3-scale";
import {
  bottomAxis,
  bottomMargin,
  type FigureOptions,
  finishSheet,
  leftAxis,
  panelGrid,
  panelTitle,
  sheetOf,
  TITLE_SIZE,
} from "./axes.ts";
import { csv, extentOf, type Figure, type Study } from "./figure-data.ts";
import type { FigureKind } from "./figure-kind.ts";
import { element, pathData, textWidth } from "./svg.ts";

/** The metrics that are drawn, and their titles. */
export const healthMetrics = {
  entropy: "entropy, nats per token",
  frac_reward_zero_std: "equal-reward groups, share",
  "completions/truncated_share": "rollouts cut off, share",
  "completions/mean_length": "tokens per rollout",
  grad_norm: "gradient norm",
  "ratio/max": "largest ratio",
} as const;
export type HealthMetric = keyof typeof healthMetrics;

const names = Object.keys(healthMetrics) as HealthMetric[];

/** Whether any row has one of these metrics. */
export function hasHealth({ training }: Pick<Study, "training">): boolean {
  return training.some(({ health = {} }) => names.some((name) => typeof health[name] === "number"));
}

/** @throws RangeError when no row has any of the metrics */
export function trainingHealthFigure(
  study: Pick<Study, "training">,
  options: FigureOptions & { name?: string } = {},
): Figure {
  const { name = "training-health" } = options;
  const rows = [...study.training].sort((a, b) => a.step - b.step);
  const drawn = names.flatMap((metric) => {
    const points = rows.flatMap(({ step, health }): [number, number][] => {
      const value = health?.[metric];
      return typeof value === "number" ? [[step, value]] : [];
    });
    return points.length === 0 ? [] : [{ metric, points }];
  });
  const steps = extentOf(drawn.flatMap(({ points }) => points.map(([step]) => step)));
  if (steps === null) throw new RangeError(`${name}: expected at least one row with a metric, got none`);
  const sheet = sheetOf(options, 174);
  const { em, line, theme } = sheet;
  const margins = { left: 3.6 * em, right: em, top: 2.2 * em, bottom: bottomMargin(sheet), between: 4.2 * em };
  // A title may reach over the gap at its right.
  const widest = Math.max(...drawn.map(({ metric }) => textWidth(healthMetrics[metric], TITLE_SIZE * em)));
  const grid = panelGrid(drawn.length, sheet, margins, Math.max(9 * em, widest + 0.8 * em - margins.between), 0.55);
  const title = "Health of the training against the training step";
  const pad = steps[0] === steps[1] ? 1 : 0;
  const content = drawn.flatMap(({ metric, points }, k) => {
    const frame = grid.frames[k];
    const most = points.reduce((high, [, value]) => Math.max(high, value), 0);
    const across = scaleLinear([steps[0] - pad, steps[1] + pad], [frame.left, frame.left + frame.width]);
    const up = scaleLinear([0, most > 0 ? most : 1], [frame.top + frame.height, frame.top]).nice(4);
    const isLast = grid.isLastInColumn(k);
    return [
      panelTitle(sheet, frame, healthMetrics[metric]),
      bottomAxis(sheet, frame, across, {
        ...(isLast && { label: "training step" }),
        ticks: across.ticks(Math.floor(frame.width / (5 * em))).filter(Number.isInteger),
        isBare: !isLast,
      }),
      leftAxis(sheet, frame, up, { ticks: up.ticks(3) }),
      element("path", {
        d: pathData(points.map(([step, value]) => [across(step), up(value)])),
        fill: "none",
        stroke: theme.ink,
        "stroke-width": line * 1.6,
        "stroke-linejoin": "round",
      }),
      ...(points.length === 1
        ? points.map(([step, value]) => element("circle", { cx: across(step), cy: up(value), r: 0.2 * em }))
        : []),
    ];
  });
  const notes = ["Each axis begins at 0. docs/metrics.md has the formula of each metric."];
  return {
    name,
    title,
    svg: finishSheet(sheet, grid.heightPt, title, notes, content),
    csv: csv(
      ["step", ...names],
      rows.map(({ step, health = {} }) => [step, ...names.map((metric) => health[metric])]),
    ),
  };
}

export const trainingHealthKind: FigureKind = {
  name: "training-health",
  shows: "entropy, equal groups, length, gradient norm and ratios against the training step",
  takes: [],
  isPerSlice: false,
  missing: (study) =>
    hasHealth(study)
      ? null
      : `metrics.jsonl has none of ${names.join(", ")}. A training writes them: node landscape/run.ts or node rl/train.ts, ` +
        "with train.steps above 0",
  draw: trainingHealthFigure,
};
