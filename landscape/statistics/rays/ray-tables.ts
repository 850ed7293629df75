// Tables, the figure's numbers and sentences about rays, from their statistics alone; and what lines add to T3.
import {
  type ClaimPlot,
  type ClaimTable,
  count,
  type PlotPoint,
  plotPoint,
  sidesOf,
  UNDECIDED,
} from "../claims/claim.ts";
import type { ExplorationPart } from "../claims/exploration.ts";
import { type DensityShown, densityShown } from "./density-table.ts";
import type { LineStatistics } from "./line-statistics.ts";
import { LEAST_RAYS, type RayEstimate } from "./ray-field.ts";
import type { RayCheckpoint } from "./summarise-rays.ts";
import { type WorstShown, worstShown } from "./worst-table.ts";

/** What the report shows of rays. */
export interface RaysShown {
  readonly sentences: readonly string[];
  readonly tables: readonly ClaimTable[];
  readonly plot: ClaimPlot;
  /** Density of improving neighbours; null without a measured radius. */
  readonly density: DensityShown | null;
  /** Worst-case rays; null if there are none. */
  readonly worst: WorstShown | null;
}

const INTERVALS =
  "Two nominal 95% intervals: over rays (other directions, same prompts) and over prompts (same directions).";

/** Null if no checkpoint has rays. */
export function raysShown(all: readonly RayCheckpoint[]): RaysShown | null {
  const checkpoints = all.filter(({ radii }) => radii !== null);
  if (checkpoints.length === 0) return null;
  const atKl = checkpoints.filter(({ fixedKl }) => fixedKl !== null);
  return {
    sentences: [...notReached(checkpoints), ...fewRays(checkpoints)],
    tables: [scalarTable(checkpoints), radiusTable(checkpoints), ...(atKl.length > 0 ? [klTable(atKl)] : [])],
    plot: plotOf(checkpoints),
    density: densityShown(checkpoints, chosen(checkpoints)),
    worst: worstShown(checkpoints),
  };
}

/** Each ray that no scale brings to a KL, and each r50 beyond the rays. */
function notReached(checkpoints: readonly RayCheckpoint[]): string[] {
  return checkpoints.flatMap(({ step, radii, fixedKl }) => [
    ...(radii !== null && radii.r50.value === null
      ? [
          (radii.originReward.value ?? 0) > 0
            ? `Step ${step}: mean reward does not fall to half of R(0) within the largest radius, so r50 is not known.`
            : `Step ${step}: R(0) is 0, so there is no r50.`,
        ]
      : []),
    ...(fixedKl?.unreached ?? []).map(
      ({ ray, sign, target, kl }) =>
        `Step ${step}, ray ${ray}, ${sign < 0 ? "opposite half" : "first half"}: no scale was found that reaches KL ${target}` +
        `${kl === null ? "" : ` (nearest: ${kl.toPrecision(3)})`}; the ray is left out at this KL.`,
    ),
  ]);
}

function fewRays(checkpoints: readonly RayCheckpoint[]): string[] {
  const fewest = Math.min(...checkpoints.map(({ rays }) => rays));
  return fewest < LEAST_RAYS ? [`With fewer than ${LEAST_RAYS} rays there is no interval over rays.`] : [];
}

/** A statistic in two columns: with its interval over rays, and over prompts. */
const both = ({ overRays, overPrompts }: RayEstimate) => [overRays, overPrompts];
const twice = (name: string, digits: number) => [
  { name: `${name}, over rays`, digits },
  { name: "over prompts", digits },
];

function scalarTable(checkpoints: readonly RayCheckpoint[]): ClaimTable {
  return {
    caption:
      "r50: the radius where mean reward over rays has fallen to half of R(0); KL there. Kept: mean of R/R(0) over radii from 0 to the " +
      `largest. KL50: KL where mean reward at equal KL has fallen to half of R(0). ${INTERVALS}`,
    columns: [
      { name: "step" },
      { name: "rays" },
      { name: "R(0)", digits: 3 },
      ...twice("r50", 4),
      ...twice("KL at r50", 3),
      ...twice("kept", 3),
      ...twice("KL50", 3),
    ],
    rows: checkpoints.flatMap(({ step, rays, radii, fixedKl }) =>
      radii === null
        ? []
        : [
            [
              ...[step, rays, radii.originReward.overPrompts],
              ...[radii.r50, radii.klAtR50, radii.kept].flatMap(both),
              ...(fixedKl === null ? [null, null] : both(fixedKl.kl50)),
            ],
          ],
    ),
  };
}

function radiusTable(checkpoints: readonly RayCheckpoint[]): ClaimTable {
  return {
    caption: `Means over rays at each radius, in units of the norm. r(KL, R): correlation over the halves of all rays at this radius, so that distance plays no part in it; rollout noise pulls it towards 0. ${INTERVALS}`,
    columns: [
      { name: "step" },
      { name: "radius" },
      { name: "rays" },
      ...twice("reward", 3),
      ...twice("KL", 4),
      { name: "r(KL, R), over rays", digits: 2 },
    ],
    rows: checkpoints.flatMap(({ step, radii }) =>
      (radii?.rows ?? []).map(({ radius, rays, reward, kl, r }) => [
        ...[step, Number(radius.toPrecision(6)), rays],
        ...[...both(reward), ...both(kl), r],
      ]),
    ),
  };
}

function klTable(checkpoints: readonly RayCheckpoint[]): ClaimTable {
  const passes = checkpoints.flatMap(({ fixedKl }) => fixedKl?.passes ?? []);
  const mean = passes.reduce((sum, one) => sum + one.mean, 0) / passes.length;
  return {
    caption:
      `Each half of each ray is scaled until KL per token is within 5% of the target (on average ${mean.toFixed(1)} scoring passes, at most ` +
      `${Math.max(...passes.map(({ most }) => most))}). A ray of which a half does not reach it is left out. ${INTERVALS}`,
    columns: [
      { name: "step" },
      { name: "KL" },
      { name: "rays that reach it" },
      { name: "mean scale", digits: 4 },
      ...twice("reward", 3),
    ],
    rows: checkpoints.flatMap(({ step, fixedKl }) =>
      (fixedKl?.rows ?? []).map(({ target, rays, of, reward, scale }) => [
        ...[step, target, `${rays} of ${of}`, scale],
        ...both(reward),
      ]),
    ),
  };
}

/** The first, the middle and the last: more curves cannot be told apart. */
function chosen<T>(all: readonly T[]): T[] {
  return [...new Set([0, Math.floor((all.length - 1) / 2), all.length - 1])].map((k) => all[k]);
}

function plotOf(checkpoints: readonly RayCheckpoint[]): ClaimPlot {
  const drawn = chosen(checkpoints);
  const atOrigin = ({ radii }: RayCheckpoint): PlotPoint[] =>
    radii === null ? [] : [plotPoint(0, radii.originReward.overPrompts)];
  const series = (points: (of: RayCheckpoint) => PlotPoint[]) =>
    drawn.map((of) => ({ name: `step ${of.step}`, kind: "line" as const, points: points(of) }));
  const hasKl = drawn.some(({ fixedKl }) => fixedKl !== null);
  return {
    xLabel: "radius, in units of the norm",
    xScale: "linear",
    panels: [
      {
        title: "mean reward over rays",
        series: series((of) => [
          ...atOrigin(of),
          ...(of.radii?.rows ?? []).map(({ radius, reward }) => plotPoint(radius, reward.overRays)),
        ]),
      },
      {
        title: "KL per token, nats",
        series: series(({ radii }) => (radii?.rows ?? []).map(({ radius, kl }) => plotPoint(radius, kl.overRays))),
      },
      ...(hasKl
        ? [
            {
              title: "mean reward over rays at equal KL",
              xLabel: "KL per token, nats",
              xScale: "log" as const,
              series: series(({ fixedKl }) =>
                (fixedKl?.rows ?? []).map(({ target, reward }) => plotPoint(target, reward.overRays)),
              ),
            },
          ]
        : []),
    ],
    notes: [
      "Bars: nominal 95% intervals over rays; at radius 0 over prompts.",
      ...(drawn.length < checkpoints.length
        ? ["Drawn: the first, middle and last checkpoint. The table has all."]
        : []),
    ],
  };
}

/** Lines between checkpoints as a part of T3. Empty without lines. */
export function linesOfT3(checkpoints: readonly RayCheckpoint[]): ExplorationPart[] {
  const lines = checkpoints.flatMap((checkpoint) => checkpoint.lines);
  if (lines.length === 0) return [];
  const between = lines.flatMap(({ points }) => points.filter(({ position }) => position > 0 && position <= 1));
  const excesses = between.flatMap(({ beside }) => beside?.excess ?? []);
  const { above, below, of } = sidesOf(excesses);
  const concluded =
    of === 0
      ? "No random rays reach the KL of the lines between checkpoints, so these stand without a comparison."
      : above + below === 0
        ? `Whether reward on the way to a later checkpoint differs from random directions at equal KL ${UNDECIDED}.`
        : `On the way to another checkpoint reward is above the mean of random rays at equal KL at ${count(above, of, "points")} and ` +
          `below it at ${below} (intervals of the paired differences over prompts, along these rays).`;
  return [{ concluded, tables: [lineTable(lines)], panels: chosen(lines).map(linePanel) }];
}

function lineTable(lines: readonly LineStatistics[]): ClaimTable {
  return {
    caption:
      "Along the line from a checkpoint (position 0) to another one (position 1) and beyond. Beside it random rays where their KL is the same: their mean, the quantiles of 10% and 90% over rays, the share of rays with less reward, and the line’s reward less their mean, paired over prompts. –: fewer than two rays reach this KL.",
    columns: [
      { name: "line" },
      { name: "position" },
      { name: "KL", digits: 4 },
      { name: "reward", digits: 3 },
      { name: "J − J(0)", digits: 4 },
      { name: "rays" },
      { name: "their mean", digits: 3 },
      { name: "10%", digits: 3 },
      { name: "90%", digits: 3 },
      { name: "share below", digits: 2 },
      { name: "line less rays", digits: 3 },
    ],
    rows: lines.flatMap((line) =>
      line.points.map(({ position, kl, reward, objective, beside }) => [
        ...[nameOf(line), position, kl, reward, objective, beside?.rays ?? null],
        ...[beside?.mean ?? null, beside?.low ?? null, beside?.high ?? null, beside?.shareBelow ?? null],
        beside?.excess ?? null,
      ]),
    ),
  };
}

const nameOf = ({ step, stepsAhead }: LineStatistics): string => `step ${step} to ${step + stepsAhead}`;

function linePanel(line: LineStatistics): ClaimPlot["panels"][number] {
  const onward = line.points.filter(({ position, kl }) => position > 0 && kl > 0);
  const back = line.points.filter(({ position, kl }) => position < 0 && kl > 0);
  const rays = [...onward, ...back].flatMap(({ kl, beside }) =>
    beside === null ? [] : [{ x: kl, value: beside.mean, low: beside.low, high: beside.high }],
  );
  return {
    title: `reward on the line from ${nameOf(line)}`,
    series: [
      { name: "line", kind: "line", points: onward.map(({ kl, reward }) => plotPoint(kl, reward)) },
      ...(rays.length > 0 ? [{ name: "random rays: mean, 10% to 90%", kind: "expected" as const, points: rays }] : []),
      ...(back.length > 0
        ? [{ name: "away from it", kind: "line" as const, points: back.map(({ kl, reward }) => plotPoint(kl, reward)) }]
        : []),
    ],
  };
}
