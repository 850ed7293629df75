// T2: the concentration begins in the first training steps. Paired differences of r and of what may explain it, between
// consecutive checkpoints and from step 0: the same Gaussians, prompts and noise serve at every checkpoint.
import { groupBy } from "../../../engine/host/index.ts";
import type { Estimate } from "../intervals.ts";
import {
  type Claim,
  type ClaimCell,
  type ClaimedSlice,
  type ClaimPlot,
  type ClaimTable,
  count,
  type EvaluatedStep,
  incompleteMaps,
  inStepOrder,
  type PlotSeries,
  plotPoint,
  sidesOf,
  tooFewPrompts,
  UNDECIDED,
  UNDETERMINED,
  type Verdict,
} from "./claim.ts";
import { changeOf, type PairedName } from "./paired.ts";

/** The study looks at steps 0 to 10. */
const LAST_EARLY_STEP = 10;

/** The checkpoints of one slice, from step 0 on. */
interface Line {
  readonly slice: number;
  readonly members: readonly ClaimedSlice[];
}

export function onset(slices: readonly ClaimedSlice[], evaluations: readonly EvaluatedStep[]): Claim {
  const ordered = inStepOrder(slices);
  const whole = ordered.filter(({ summary }) => summary.grid.isComplete);
  const lines = [...groupBy(whole, ({ slice }) => slice)]
    .map(([slice, members]): Line => ({ slice, members }))
    .filter(({ members }) => members.length > 1 && members[0].step === 0);
  const { verdict, sentence } = judged(lines);
  return {
    name: "t2",
    title: "T2: the concentration begins in the first training steps",
    claimed: `r falls within the first updates (steps 1 to ${LAST_EARLY_STEP}), long before the reward has settled.`,
    concluded: sentence,
    verdict,
    refutedBy:
      `Paired changes of r from step 0 whose intervals lie above 0 up to step ${LAST_EARLY_STEP} would have refuted it, and ` +
      "so would a fall that only later checkpoints show.",
    limits: [...tooFewPrompts(ordered), ...incompleteMaps(ordered), ...floorLimit(lines)],
    tables: [...changeTable(lines), levelTable(ordered, evaluations)],
    plot: plotOf(ordered, lines, evaluations),
  };
}

function judged(lines: readonly Line[]): { verdict: Verdict; sentence: string } {
  const early = lines.filter(({ members }) => members[1].step <= LAST_EARLY_STEP);
  if (early.length === 0)
    return {
      verdict: "undecided",
      sentence: `There is no slice with complete maps at step 0 and at a step from 1 to ${LAST_EARLY_STEP}, so this ${UNDECIDED}.`,
    };
  const falls = early.flatMap(({ members: [first, ...others] }) => {
    const found = others.find((later) => later.step <= LAST_EARLY_STEP && isBelow(changeOf(later, first, "r")));
    return found === undefined ? [] : [found.step];
  });
  const lastEarly = early.map(({ members }) => members.findLast(({ step }) => step <= LAST_EARLY_STEP) ?? members[0]);
  const changes = early.map(({ members }, k) => changeOf(lastEarly[k], members[0], "r"));
  const rises = sidesOf(changes).above;
  const further = early.flatMap(({ members }, k) => {
    const last = members[members.length - 1];
    return last.step > LAST_EARLY_STEP ? [changeOf(last, lastEarly[k], "r")] : [];
  });
  const afterwards = furtherText(further);
  if (falls.length === 0)
    return rises > 0
      ? {
          verdict: "contradicted",
          sentence: `r has risen by step ${lastEarly[0].step} in ${count(rises, early.length, "slices")}.`,
        }
      : { verdict: "undecided", sentence: `Whether r falls by step ${lastEarly[0].step} ${UNDECIDED}${afterwards}.` };
  const by = Math.max(...falls);
  return {
    verdict: falls.length === early.length ? "shown" : "shown in part",
    sentence:
      `r has fallen below its value at step 0 by step ${by} in ${count(falls.length, early.length, "slices")} ` +
      `(interval of the paired change below 0)${afterwards}.`,
  };
}

function furtherText(further: readonly Estimate[]): string {
  if (further.length === 0) return "; there is no later checkpoint to compare with";
  const sides = sidesOf(further);
  if (sides.open === sides.of) return `; whether it changes after step ${LAST_EARLY_STEP} ${UNDECIDED}`;
  const parts = [
    ...(sides.below > 0 ? [`falls further in ${sides.below}`] : []),
    ...(sides.above > 0 ? [`rises again in ${sides.above}`] : []),
    ...(sides.open > 0 ? [`is undecided in ${sides.open}`] : []),
  ];
  return `; after step ${LAST_EARLY_STEP} it ${parts.join(", ")}`;
}

const isBelow = ({ high }: Estimate): boolean => high !== null && high < 0;

function floorLimit(lines: readonly Line[]): string[] {
  if (!lines.some(({ members: [first] }) => first.summary.floor.isFlagged)) return [];
  return [
    "At step 0 more than half of all rollouts have reward 0. A change of r from there can come from the floor alone.",
  ];
}

const CHANGES: readonly { name: PairedName; title: string; digits: number }[] = [
  { name: "r", title: "r", digits: 2 },
  { name: "rInfinity", title: "r∞", digits: 2 },
  { name: "withinRing", title: "within ring", digits: 2 },
  { name: "originReward", title: "R(0, 0)", digits: 3 },
  { name: "floor", title: "floor share", digits: 3 },
];

function changeTable(lines: readonly Line[]): ClaimTable[] {
  const rows = (earlier: (members: readonly ClaimedSlice[], k: number) => ClaimedSlice): ClaimCell[][] =>
    lines.flatMap(({ slice, members }) =>
      members.slice(1).map((later, k) => {
        const before = earlier(members, k);
        return [slice, `${before.step} → ${later.step}`, ...CHANGES.map(({ name }) => changeOf(later, before, name))];
      }),
    );
  if (lines.length === 0) return [];
  const columns = [
    { name: "slice" },
    { name: "steps" },
    ...CHANGES.map(({ title, digits }) => ({ name: `change of ${title}`, digits })),
  ];
  return [
    { caption: "Changes from step 0, paired over prompts.", columns, rows: rows(([first]) => first) },
    {
      caption: "Changes between consecutive checkpoints, paired over prompts.",
      columns,
      rows: rows((members, k) => members[k]),
    },
  ];
}

function levelTable(slices: readonly ClaimedSlice[], evaluations: readonly EvaluatedStep[]): ClaimTable {
  const evaluated = new Map(evaluations.map((of) => [of.step, evaluationOf(of)]));
  return {
    caption:
      "Levels: R(0, 0) on the landscape’s prompts, the evaluation’s reward on its own episodes, and the floor share.",
    columns: [
      { name: "step" },
      { name: "slice" },
      { name: "r", digits: 2 },
      { name: "R(0, 0)", digits: 3 },
      { name: "evaluation", digits: 3 },
      { name: "floor share", digits: 3 },
    ],
    rows: slices.map(({ step, slice, summary }) => [
      ...[step, slice, summary.r, summary.originReward, evaluated.get(step) ?? null, summary.floor.share],
    ]),
  };
}

const evaluationOf = ({ reward, reach }: EvaluatedStep): Estimate => ({
  value: reward,
  low: reach === null ? null : reward - reach,
  high: reach === null ? null : reward + reach,
  standardError: null,
});

function plotOf(
  slices: readonly ClaimedSlice[],
  lines: readonly Line[],
  evaluations: readonly EvaluatedStep[],
): ClaimPlot {
  const many = new Set(slices.map(({ slice }) => slice)).size > 1;
  const named = (what: string, slice: number): string => (many ? `${what}, slice ${slice}` : what);
  const bySlice = [...groupBy(slices, ({ slice }) => slice)];
  const [first, last] = [slices[0].step, slices[slices.length - 1].step];
  const line = (name: string, points: PlotSeries["points"]): PlotSeries => ({ name, kind: "line", points });
  const changes = lines.map(({ slice, members: [start, ...others] }) =>
    line(
      named("r", slice),
      others.map((later) => plotPoint(later.step, changeOf(later, start, "r"))),
    ),
  );
  const evaluated = evaluations.filter(({ step }) => step >= first && step <= last);
  return {
    xLabel: "training step",
    xScale: "linear",
    panels: [
      ...(changes.length > 0 ? [{ title: "change of r from step 0, paired", level: 0, series: changes }] : []),
      {
        title: "R(0, 0), evaluation and floor share",
        range: [0, 1],
        series: [
          // R(0, 0) is the same in every slice: the centre has no direction.
          line(
            "R(0, 0)",
            bySlice[0][1].map(({ step, summary }) => plotPoint(step, summary.originReward ?? UNDETERMINED)),
          ),
          ...(evaluated.length > 0
            ? [
                line(
                  "evaluation",
                  evaluated.map((of) => plotPoint(of.step, evaluationOf(of))),
                ),
              ]
            : []),
          ...bySlice.map(
            ([slice, members]): PlotSeries => ({
              name: named("floor share", slice),
              kind: "expected",
              points: members.map(({ step, summary }) => ({
                x: step,
                value: summary.floor.share,
                low: null,
                high: null,
              })),
            }),
          ),
        ],
      },
    ],
    notes: [
      "Bars: nominal 95% intervals, over prompts or the evaluation’s episodes. Dashed: share of rollouts with reward 0.",
    ],
  };
}
