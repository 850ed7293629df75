// T1: reward is concentrated where KL is low, around the checkpoint. r, r∞ and within-ring r of every map, the overlap of
// the best tenth of cells with the tenth of lowest KL beside what the radius alone gives, and their trends.
import { groupBy } from "../../../engine/host/index.ts";
import type { Estimate } from "../intervals.ts";
import {
  type Claim,
  type ClaimedSlice,
  type ClaimPlot,
  type ClaimTable,
  count,
  incompleteMaps,
  inStepOrder,
  type PlotPoint,
  type PlotSeries,
  plotPoint,
  sidesOf,
  tooFewPrompts,
  UNDECIDED,
  UNDETERMINED,
  verdictOn,
} from "./claim.ts";
import { perTenSteps, slopeOf, subsampledSlope } from "./paired.ts";
import { PUBLISHED_R } from "./published.ts";

/**
 * @param isStudyLike  whether the run has the study's settings, so that its published numbers are shown beside
 */
export function concentration(slices: readonly ClaimedSlice[], isStudyLike: boolean): Claim {
  const ordered = inStepOrder(slices);
  const trained = ordered.filter(({ step }) => step > 0);
  const judged = trained.length > 0 ? trained : ordered;
  const what = trained.length > 0 ? "maps of trained checkpoints" : "maps";
  const of = (name: "r" | "withinRing"): Estimate[] => judged.map(({ summary }) => summary[name]);
  const plain = sidesOf(of("r"));
  const ring = sidesOf(of("withinRing"));
  const concludedOfR =
    plain.below + plain.above === 0
      ? `Whether reward falls as KL grows ${UNDECIDED}`
      : `Reward falls as KL grows in ${count(plain.below, plain.of, what)} (interval of r below 0)` +
        (plain.above > 0 ? `, and rises in ${plain.above}` : "");
  const concludedOfRings =
    ring.below + ring.above === 0
      ? `whether it does so beyond what the distance explains ${plain.below + plain.above === 0 ? "cannot either" : UNDECIDED}`
      : `within rings of equal distance it falls in ${ring.below} and rises in ${ring.above} of them, and ${ring.open} ` +
        "are undecided";
  return {
    name: "t1",
    title: "T1: reward is concentrated where KL is low",
    claimed: "Of the policies around a checkpoint, those with high reward lie where KL from the checkpoint is low.",
    concluded: `${concludedOfR}; ${concludedOfRings}.`,
    verdict: verdictOn(plain, "below"),
    refutedBy:
      "An interval of r above 0 at a trained checkpoint would have refuted it; intervals of within-ring r and of the " +
      "overlap’s excess that lie close to 0 would have reduced it to “reward falls with distance”.",
    limits: [...tooFewPrompts(ordered), ...incompleteMaps(ordered), ...overlapLimits(ordered), ...floorLimits(ordered)],
    tables: [mapTable(ordered, isStudyLike), ...trendTable(ordered)],
    plot: plotOf(ordered, isStudyLike),
  };
}

function overlapLimits(slices: readonly ClaimedSlice[]): string[] {
  const fixed = slices.filter(({ evidence: { overlap } }) => overlap !== null && !overlap.canDiffer);
  if (fixed.length === 0) return [];
  return [
    `In ${count(fixed.length, slices.length, "maps")} the lowest tenth of KL is made of whole rings of equal distance. There ` +
      "the overlap equals its expectation whatever the rewards are, so its excess shows nothing.",
  ];
}

function floorLimits(slices: readonly ClaimedSlice[]): string[] {
  const flagged = slices.filter(({ summary }) => summary.floor.isFlagged);
  if (flagged.length === 0) return [];
  const names = flagged.map(({ step, slice }) => `step ${step}, slice ${slice}`).join("; ");
  return [
    `More than half of all rollouts have reward 0 (${names}): r there mainly shows where the task fails completely.`,
  ];
}

function mapTable(slices: readonly ClaimedSlice[], isStudyLike: boolean): ClaimTable {
  return {
    caption:
      "Every map. Overlap: share of the tenth of cells with the highest R that lies in the tenth with the lowest KL. By " +
      "radius: the share that maps which depend on the distance alone would give." +
      (isStudyLike ? " Published r: of the original study, one slice, no interval." : ""),
    columns: [
      { name: "step" },
      { name: "slice" },
      { name: "r", digits: 2 },
      ...(isStudyLike ? [{ name: "published r", digits: 3 }] : []),
      { name: "r∞", digits: 2 },
      { name: "within ring", digits: 2 },
      { name: "overlap", digits: 2 },
      { name: "by radius", digits: 2 },
      { name: "excess", digits: 2 },
    ],
    rows: slices.map(({ step, slice, summary: { r, rInfinity, withinRing, overlap } }) => [
      ...[step, slice, r],
      ...(isStudyLike ? [PUBLISHED_R.get(step) ?? null] : []),
      ...[rInfinity, withinRing, overlap?.share ?? null, overlap?.expected ?? null],
      overlap === null ? null : overlap.canDiffer ? overlap.excess : "cannot differ",
    ]),
  };
}

function trendTable(slices: readonly ClaimedSlice[]): ClaimTable[] {
  const whole = slices.filter(({ summary }) => summary.grid.isComplete);
  const rows = [...groupBy(whole, ({ slice }) => slice)].flatMap(([slice, members]) => {
    if (members.length < 2) return [];
    const steps = members.map(({ step }) => step);
    const overlap = (name: "share" | "excess"): Estimate =>
      name === "excess" && members.some(({ evidence }) => evidence.overlap?.canDiffer === false)
        ? UNDETERMINED
        : subsampledSlope(
            steps,
            members.map(({ evidence }) => evidence.overlap?.[name] ?? null),
          );
    return [
      [
        ...[slice, steps.join(", ")],
        ...(["r", "rInfinity", "withinRing"] as const).map((name) => perTenSteps(slopeOf(members, name))),
        ...(["share", "excess"] as const).map((name) => perTenSteps(overlap(name))),
      ],
    ];
  });
  if (rows.length === 0) return [];
  return [
    {
      caption: "Trend per 10 steps: slope of a straight line through the checkpoints, paired over prompts.",
      columns: [
        { name: "slice" },
        { name: "steps" },
        ...["r", "r∞", "within ring", "overlap", "excess"].map((name) => ({ name, digits: 3 })),
      ],
      rows,
    },
  ];
}

function plotOf(slices: readonly ClaimedSlice[], isStudyLike: boolean): ClaimPlot {
  const bySlice = [...groupBy(slices, ({ slice }) => slice)];
  const name = (slice: number): string => (bySlice.length > 1 ? `slice ${slice}` : "this run");
  const series = (point: (of: ClaimedSlice) => Estimate | undefined): PlotSeries[] =>
    bySlice.map(([slice, members]) => ({
      name: name(slice),
      kind: "line",
      points: members.flatMap((member): PlotPoint[] => {
        const estimate = point(member);
        return estimate === undefined ? [] : [plotPoint(member.step, estimate)];
      }),
    }));
  const steps = slices.map(({ step }) => step);
  const published: PlotSeries[] = isStudyLike
    ? [
        {
          name: "published",
          kind: "published",
          points: [...PUBLISHED_R]
            .filter(([step]) => step <= Math.max(...steps))
            .map(([x, value]) => ({ x, value, low: null, high: null })),
        },
      ]
    : [];
  const expected = series(({ summary }) => summary.overlap?.expected).map(
    ({ name: of, points }): PlotSeries => ({
      name: `${of}, by radius`,
      kind: "expected",
      points: points.map((point) => ({ ...point, low: null, high: null })),
    }),
  );
  return {
    xLabel: "training step",
    xScale: "linear",
    panels: [
      { title: "r", range: [-1, 1], level: 0, series: [...series(({ summary }) => summary.r), ...published] },
      {
        title: "r within rings of equal distance",
        range: [-1, 1],
        level: 0,
        series: series(({ summary }) => summary.withinRing),
      },
      {
        title: "overlap of best R and lowest KL",
        bounds: [0, 1],
        series: [...series(({ summary }) => summary.overlap?.share), ...expected],
      },
    ],
    notes: [
      "Bars: nominal 95% intervals over prompts, for the overlap between 0 and 1. Dashed: the overlap that the radius alone gives.",
      ...(isStudyLike
        ? ["Hollow diamonds: the original study’s published r, one slice per checkpoint, no interval."]
        : []),
    ],
  };
}
