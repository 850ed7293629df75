// Table, figure's numbers and sentences about worst-case rays, from their statistics alone.
import type { WorstKind } from "../../ray-settings.ts";
import {
  type ClaimPlot,
  type ClaimTable,
  count,
  type PlotPoint,
  type PlotSeries,
  plotPoint,
  sidesOf,
} from "../claims/claim.ts";
import type { WorstPoint, WorstStatistics } from "./worst-statistics.ts";

interface WorstCheckpoint {
  readonly step: number;
  readonly worst: readonly WorstStatistics[];
}

export interface WorstShown {
  readonly sentences: readonly string[];
  readonly table: ClaimTable;
  readonly plot: ClaimPlot;
}

/** Null if no checkpoint has a worst-case ray. */
export function worstShown(checkpoints: readonly WorstCheckpoint[]): WorstShown | null {
  const measured = checkpoints.filter(({ worst }) => worst.some(({ points }) => points.length > 0));
  if (measured.length === 0) return null;
  return {
    sentences: sentencesOf(measured),
    table: worstTable(measured),
    plot: worstPlot(measured[measured.length - 1]),
  };
}

/** What a half of a ray follows. */
const halfName = (kind: WorstKind, radius: number): string => {
  if (kind === "kl") return radius > 0 ? "steepest KL" : "steepest KL, opposite half";
  return radius > 0 ? "ascent on −J" : "ascent on J";
};

function sentencesOf(checkpoints: readonly WorstCheckpoint[]): string[] {
  const of = (kind: WorstKind, wanted: (radius: number) => boolean): WorstPoint[] =>
    checkpoints.flatMap(({ worst }) =>
      worst.filter((one) => one.kind === kind).flatMap(({ points }) => points.filter(({ radius }) => wanted(radius))),
    );
  const compared = (name: string, points: readonly WorstPoint[]): string[] => {
    if (points.length === 0) return [];
    const atRadius = sidesOf(points.flatMap(({ atRadius: beside }) => beside?.reward.excess ?? []));
    const atKl = sidesOf(points.flatMap(({ atKl: beside }) => beside?.excess ?? []));
    return [
      `${name}: reward is below the random rays’ mean at equal radius at ${count(atRadius.below, points.length, "points")}` +
        (atRadius.above > 0 ? ` and above it at ${atRadius.above}` : "") +
        `; at equal KL it is below at ${atKl.below} and above at ${atKl.above} of ${atKl.of} points that random rays reach too ` +
        "(intervals over prompts, along these rays).",
    ];
  };
  return [
    ...compared(
      "Along the steepest growth of KL, both halves",
      of("kl", () => true),
    ),
    ...compared(
      "Along ascent on −J",
      of("reward", (radius) => radius > 0),
    ),
  ];
}

function worstTable(checkpoints: readonly WorstCheckpoint[]): ClaimTable {
  return {
    caption:
      "Worst-case rays, at the norm of the random rays. Beside them: random rays at equal radius (mean KL with the quantiles of 10% and 90% over " +
      "rays, mean reward, and the reward of the worst-case ray less it) and at equal KL (mean reward, reward less it, and the share of random " +
      "rays with less reward). Intervals over prompts, along these rays. –: fewer than two random rays reach this KL.",
    columns: [
      { name: "step" },
      { name: "ray" },
      { name: "radius" },
      { name: "KL", digits: 4 },
      { name: "random: KL", digits: 4 },
      { name: "10%", digits: 4 },
      { name: "90%", digits: 4 },
      { name: "reward", digits: 3 },
      { name: "random: reward", digits: 3 },
      { name: "less random, equal radius", digits: 3 },
      { name: "random at equal KL", digits: 3 },
      { name: "less random, equal KL", digits: 3 },
      { name: "share below", digits: 2 },
    ],
    rows: checkpoints.flatMap(({ step, worst }) =>
      worst.flatMap(({ kind, points }) =>
        points.map(({ radius, reward, kl, atRadius, atKl }) => [
          ...[step, halfName(kind, radius), Number(Math.abs(radius).toPrecision(6)), kl],
          ...[atRadius?.kl.mean ?? null, atRadius?.kl.low ?? null, atRadius?.kl.high ?? null],
          ...[reward, atRadius?.reward.mean ?? null, atRadius?.reward.excess ?? null],
          ...[atKl?.mean ?? null, atKl?.excess ?? null, atKl?.shareBelow ?? null],
        ]),
      ),
    ),
  };
}

function worstPlot({ step, worst }: WorstCheckpoint): ClaimPlot {
  const halves = worst.flatMap(({ kind, points }) =>
    [1, -1].map((sign) => ({
      name: halfName(kind, sign),
      points: points
        .filter(({ radius }) => radius * sign > 0)
        .sort((one, other) => Math.abs(one.radius) - Math.abs(other.radius)),
    })),
  );
  const lines = (of: (point: WorstPoint) => PlotPoint): PlotSeries[] =>
    halves.flatMap(({ name, points }) =>
      points.length === 0 ? [] : [{ name, kind: "line" as const, points: points.map(of) }],
    );
  const band = (of: (point: WorstPoint) => PlotPoint | null): PlotSeries => {
    const points = halves.flatMap(({ points: all }) => all.flatMap((point) => of(point) ?? []));
    const distinct = new Map(points.map((point) => [point.x, point]));
    return {
      name: "random rays: mean, 10% to 90%",
      kind: "expected",
      points: [...distinct.values()].sort((one, other) => one.x - other.x),
    };
  };
  const byRadius = { xLabel: "radius, in units of the norm" };
  return {
    xLabel: "KL per token, nats",
    xScale: "log",
    panels: [
      {
        ...{ title: `KL per token around step ${step}`, ...byRadius },
        series: [
          ...lines(({ radius, kl }) => ({ x: Math.abs(radius), value: kl, low: null, high: null })),
          band(({ radius, atRadius }) =>
            atRadius === null
              ? null
              : { x: Math.abs(radius), value: atRadius.kl.mean, low: atRadius.kl.low, high: atRadius.kl.high },
          ),
        ],
      },
      {
        ...{ title: "mean reward at equal radius", ...byRadius },
        series: [
          ...lines(({ radius, reward }) => plotPoint(Math.abs(radius), reward)),
          band(({ radius, atRadius }) =>
            atRadius === null
              ? null
              : {
                  ...{ x: Math.abs(radius), value: atRadius.reward.mean },
                  ...{ low: atRadius.reward.low, high: atRadius.reward.high },
                },
          ),
        ],
      },
      {
        title: "mean reward at equal KL",
        series: [
          ...lines(({ kl, reward }) => plotPoint(kl, reward)),
          band(({ kl, atKl }) => (atKl === null ? null : { x: kl, value: atKl.mean, low: atKl.low, high: atKl.high })),
        ],
      },
    ],
    notes: [
      `Drawn: step ${step}. Bars of worst-case rays: intervals over prompts; of random rays: 10% to 90% over rays.`,
    ],
  };
}
