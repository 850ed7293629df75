// The training curve: mean reward of each step's rollouts, and of the evaluation if there was one.
import { scaleLinear } from "d3-scale";
import {
  bottomAxis,
  bottomMargin,
  type FigureOptions,
  finishSheet,
  leftAxis,
  leftMargin,
  sheetOf,
  stepTargets,
} from "./axes.ts";
import { csv, distinct, extentOf, type Figure, type Study } from "./figure-data.ts";
import type { FigureKind } from "./figure-kind.ts";
import { element, join, pathData } from "./svg.ts";

/**
 * @throws RangeError when no row has a reward
 */
export function trainingFigure(
  study: Pick<Study, "training" | "maps">,
  options: FigureOptions & { name?: string } = {},
): Figure {
  const { name = "training" } = options;
  const rows = [...study.training].sort((a, b) => a.step - b.step);
  const steps = extentOf(
    rows.map((row) => row.step),
    study.maps.map((map) => map.step),
  );
  const reward = rows.flatMap((row): [number, number][] => (row.reward === null ? [] : [[row.step, row.reward]]));
  const evaluated = rows.flatMap(({ step, evalReward, evalRewardReach }) =>
    evalReward === null || evalReward === undefined ? [] : [{ step, value: evalReward, reach: evalRewardReach ?? 0 }],
  );
  const values = extentOf(
    reward.map(([, value]) => value),
    evaluated.flatMap(({ value, reach }) => [value - reach, value + reach]),
  );
  if (values === null || steps === null)
    throw new RangeError(`${name}: expected at least one row with a reward, got none`);

  const sheet = sheetOf(options, 84);
  const { em, line, theme } = sheet;
  const left = leftMargin(sheet, 4);
  const width = sheet.widthPt - left - em;
  const frame = { left, top: 0.8 * em, width, height: Math.max(10 * em, Math.min(0.55 * width, 18 * em)) };
  const pad = steps[0] === steps[1] ? 1 : 0;
  const across = scaleLinear([steps[0] - pad, steps[1] + pad], [left + 1.2 * em, left + width - 1.2 * em]);
  const up = scaleLinear(
    [Math.min(0, values[0]), values[1] > 0 ? values[1] : 1],
    [frame.top + frame.height, frame.top],
  ).nice(5);
  const measured = distinct(study.maps.map((map) => map.step));
  const title = "Mean reward against the training step";
  const legend =
    evaluated.length > 0
      ? "Line: rollouts of each step. Dots: evaluation, with 95% interval over its episodes (Student's t)."
      : "Line: rollouts of each step.";
  const content = [
    // Checkpoints whose landscape was measured: marks on the axis.
    ...measured.map((step) =>
      element("path", {
        d: pathData([
          [across(step), frame.top + frame.height],
          [across(step), frame.top + frame.height - 0.5 * em],
        ]),
        stroke: theme.muted,
        "stroke-width": line * 2.5,
      }),
    ),
    bottomAxis(sheet, frame, across, {
      label: "training step",
      ticks: across.ticks(Math.floor(width / (5 * em))).filter(Number.isInteger),
    }),
    leftAxis(sheet, frame, up, { label: ["mean reward ", { italic: "R" }] }),
    element("path", {
      d: pathData(reward.map(([step, value]) => [across(step), up(value)])),
      fill: "none",
      stroke: theme.ink,
      "stroke-width": line * 1.6,
      "stroke-linejoin": "round",
    }),
    ...(reward.length === 1
      ? reward.map(([step, value]) => element("circle", { cx: across(step), cy: up(value), r: 0.2 * em }))
      : []),
    ...evaluated.map(({ step, value, reach }) =>
      join([
        reach > 0
          ? element("path", {
              d: pathData([
                [across(step), up(value - reach)],
                [across(step), up(value + reach)],
              ]),
              stroke: theme.accent,
              "stroke-width": line * 1.6,
            })
          : null,
        element("circle", { cx: across(step), cy: up(value), r: 0.26 * em, fill: theme.accent }),
      ]),
    ),
    sheet.isLinked ? stepTargets(measured, across, frame) : null,
  ];
  const notes = [`${legend}${measured.length > 0 ? " Thick ticks: checkpoints with a landscape." : ""}`];
  return {
    name,
    title,
    svg: finishSheet(sheet, frame.top + frame.height + bottomMargin(sheet), title, notes, content),
    csv: csv(
      ["step", "reward", "eval_reward", "eval_reward_error", "eval_reward_low", "eval_reward_high"],
      rows.map(({ step, reward: mean, evalReward, evalRewardError, evalRewardReach }) => [
        step,
        mean,
        evalReward,
        evalRewardError,
        (evalReward ?? Number.NaN) - (evalRewardReach ?? Number.NaN),
        (evalReward ?? Number.NaN) + (evalRewardReach ?? Number.NaN),
      ]),
    ),
  };
}

export const trainingKind: FigureKind = {
  name: "training",
  shows: "mean reward against the training step: rollouts and evaluation",
  takes: [],
  isPerSlice: false,
  missing: ({ training }) =>
    training.some((row) => row.reward !== null || typeof row.evalReward === "number")
      ? null
      : "metrics.jsonl has no reward of a training step or an evaluation. A training writes them: node landscape/run.ts or " +
        "node rl/train.ts, with train.steps above 0",
  draw: trainingFigure,
};
