// T3: policies far from the checkpoint in KL offer nothing that nearby ones lack. Entropy, pass@k and Cover@τ by bins of
// KL at each checkpoint, beside the checkpoint's own. If far policies solved prompts that the checkpoint does not solve in
// k tries, pass@k would be higher there.
//
// Further parts of T3 need measurements that a grid of random directions does not have: R and KL along θ_t → θ_{t+k}
// (statistics/rays/lines-part.ts), KL and R between all pairs of checkpoints (pairs-part.ts), the share of an update in the top
// singular subspaces (update-shares.ts). Each is a function from its own measurement to `ExplorationPart`, and joins the list of `exploration`.
import { SUCCESS_REWARDS } from "../points.ts";
import {
  type Claim,
  type ClaimedSlice,
  type ClaimPlot,
  type ClaimTable,
  count,
  inStepOrder,
  type PlotSeries,
  plotPoint,
  type Sides,
  sidesOf,
  tooFewPrompts,
  UNDECIDED,
  UNDETERMINED,
} from "./claim.ts";
import { type BinQuantity, COVER_TAU, type KlBin, largestK } from "./kl-bins.ts";

/** A part of T3 that comes from another measurement. */
export interface ExplorationPart {
  readonly measures: "lines" | "pairs" | "subspaces";
  /** What it has for the claim (below) and against it (above); null if it only describes. */
  readonly evidence: Sides | null;
  readonly concluded: string;
  readonly tables: readonly ClaimTable[];
  readonly panels: ClaimPlot["panels"];
}

export function exploration(slices: readonly ClaimedSlice[], further: readonly ExplorationPart[] = []): Claim {
  const ordered = inStepOrder(slices);
  const pass = passName(ordered);
  const trained = ordered.filter(({ step }) => step > 0);
  const changes = (trained.length > 0 ? trained : ordered).flatMap(({ evidence }) =>
    outerBins(evidence.klBins).flatMap(({ quantities }) => quantityOf(quantities, pass)?.change ?? []),
  );
  const bins = sidesOf(changes);
  const measured = new Set(further.map(({ measures }) => measures));
  const sides = further.reduce((sum, { evidence }) => (evidence === null ? sum : addSides(sum, evidence)), bins);
  return {
    name: "t3",
    title: "T3: useful exploration stays at low KL",
    claimed: "Policies at higher KL from the checkpoint solve nothing that the checkpoint does not solve.",
    concluded: [conclusion(bins, wordsOf(pass), trained.length > 0), ...further.map(({ concluded }) => concluded)].join(
      " ",
    ),
    verdict:
      sides.above > 0
        ? "contradicted"
        : sides.below === 0
          ? "undecided"
          : sides.below === sides.of
            ? "shown"
            : "shown in part",
    refutedBy:
      `A bin of higher KL whose ${wordsOf(pass)} lies above the checkpoint’s own, with an interval above 0, would have refuted it` +
      (measured.has("lines")
        ? "; so would a point on the way to another checkpoint whose reward lies above the checkpoint’s own and above random rays at equal KL, " +
          "with intervals over prompts and over rays above 0."
        : "."),
    limits: [
      ...tooFewPrompts(ordered),
      ...(measured.has("lines") ? [] : ["Random directions say nothing about the direction that training takes."]),
      ...(unmeasured(measured) === "" ? [] : [`Not measured in this run: ${unmeasured(measured)}.`]),
      ...(fewestRollouts(ordered) < 2 ? ["With one rollout per prompt only pass@1 is known."] : []),
    ],
    tables: [binTable(ordered, pass), ...further.flatMap(({ tables }) => tables)],
    plot: plotOf(ordered, pass, further),
  };
}

const addSides = (one: Sides, other: Sides): Sides => ({
  below: one.below + other.below,
  above: one.above + other.above,
  open: one.open + other.open,
  of: one.of + other.of,
});

/** "lines between checkpoints, KL between all pairs of them, singular subspaces of the updates" */
const unmeasured = (measured: ReadonlySet<ExplorationPart["measures"]>): string =>
  [
    ...(measured.has("lines") ? [] : ["lines between checkpoints (landscape.line)"]),
    ...(measured.has("pairs") ? [] : ["KL between all pairs of checkpoints (landscape.pairs)"]),
    ...(measured.has("subspaces") ? [] : ["singular subspaces of the updates (landscape.updates)"]),
  ].join(", ");

const fewestRollouts = (slices: readonly ClaimedSlice[]): number =>
  Math.min(...slices.map(({ summary }) => summary.prompts.rolloutsPerPrompt));
const passName = (slices: readonly ClaimedSlice[]): string =>
  `pass_at_${largestK(fewestRollouts(slices))}_reward_${SUCCESS_REWARDS[0]}`;
const outerBins = (bins: readonly KlBin[]): KlBin[] => bins.filter(({ from }) => from !== null);
const quantityOf = (quantities: readonly BinQuantity[], name: string): BinQuantity | undefined =>
  quantities.find((quantity) => quantity.name === name);

/** "pass@4 (reward 1)" of "pass_at_4_reward_1". */
const wordsOf = (name: string): string => name.replace(/^(\w+?)_at_([\d.]+)_reward_([\d.]+)$/, "$1@$2 (reward $3)");

function conclusion({ below, above, of }: Sides, pass: string, areTrained: boolean): string {
  const bins = areTrained ? "bins of KL around trained checkpoints" : "bins of KL";
  if (of === 0 || below + above === 0)
    return `Whether any bin of KL has another ${pass} than its checkpoint ${UNDECIDED}.`;
  return (
    `${pass} is below the checkpoint’s own in ${count(below, of, bins)} and above it in ${above} (intervals of the ` +
    "paired differences)" +
    (below + above < of ? "; the others cannot be decided at this budget." : ".")
  );
}

export function binName({ from, to }: Pick<KlBin, "from" | "to">): string {
  if (from === null) return "checkpoint";
  return to === null ? `from ${from}` : `${from} to ${to}`;
}

function binTable(slices: readonly ClaimedSlice[], pass: string): ClaimTable {
  const cover = `cover_at_${COVER_TAU}_reward_${SUCCESS_REWARDS[0]}`;
  return {
    caption:
      "By KL per token from the checkpoint, nats. Change: less the checkpoint’s own, paired over prompts. Pass and cover: a " +
      "success is a rollout with at least that reward.",
    columns: [
      { name: "step" },
      { name: "slice" },
      { name: "KL" },
      { name: "cells" },
      { name: "reward", digits: 3 },
      { name: "entropy", digits: 3 },
      { name: "change of entropy", digits: 3 },
      { name: wordsOf(pass), digits: 3 },
      { name: "change of pass", digits: 3 },
      { name: wordsOf(cover), digits: 3 },
      { name: "change of cover", digits: 3 },
    ],
    rows: slices.flatMap(({ step, slice, evidence }) =>
      evidence.klBins.map((bin) => {
        const find = (name: string): BinQuantity | undefined => quantityOf(bin.quantities, name);
        const both = (name: string) => [find(name)?.here ?? null, find(name)?.change ?? null];
        return [
          ...[step, slice, binName(bin), bin.cells, find("reward")?.here ?? null],
          ...["entropy", pass, cover].flatMap(both),
        ];
      }),
    ),
  };
}

function plotOf(slices: readonly ClaimedSlice[], pass: string, further: readonly ExplorationPart[]): ClaimPlot {
  const many = new Set(slices.map(({ slice }) => slice)).size > 1;
  // Not all checkpoints can be told apart in one panel: the first, the middle and the last are drawn.
  const steps = [...new Set(slices.map(({ step }) => step))];
  const drawn = new Set([steps[0], steps[Math.floor((steps.length - 1) / 2)], steps[steps.length - 1]]);
  const chosen = slices.filter(({ step, slice }) => drawn.has(step) && slice === slices[0].slice);
  const series = (name: string): PlotSeries[] =>
    chosen.map(({ step, evidence }) => ({
      name: `step ${step}`,
      kind: "line",
      points: outerBins(evidence.klBins).map((bin) =>
        plotPoint(bin.kl, quantityOf(bin.quantities, name)?.change ?? UNDETERMINED),
      ),
    }));
  return {
    xLabel: "KL per token, nats",
    xScale: "log",
    panels: [
      { title: `change of ${wordsOf(pass)}`, level: 0, series: series(pass) },
      { title: "change of entropy, nats per token", level: 0, series: series("entropy") },
      ...further.flatMap(({ panels }) => panels),
    ],
    notes: [
      "Differences to the checkpoint itself, with nominal 95% intervals over prompts. Each mark is a bin of KL.",
      ...(further.some(({ measures }) => measures === "lines")
        ? ["On a line, each mark is a point of it, and its bar the reward's interval over prompts."]
        : []),
      ...(many || steps.length > drawn.size
        ? [`Drawn: slice ${slices[0].slice} of the first, middle and last checkpoint. The table has all.`]
        : []),
    ],
  };
}
