// KL and R between all pairs of checkpoints, as a part of T3: how far training moved in KL, and what it gained. It describes: random
// directions have no part in it.
import type { CheckpointPair } from "../pairs.ts";
import { type ClaimTable, count, type PlotPoint, type PlotSeries, plotPoint, sidesOf } from "./claim.ts";
import type { ExplorationPart } from "./exploration.ts";

/** Empty without pairs. */
export function pairsOfT3(pairs: readonly CheckpointPair[]): ExplorationPart[] {
  if (pairs.length === 0) return [];
  const forward = pairs.filter(({ from, to }) => to > from);
  const { above, below } = sidesOf(forward.flatMap(({ gain }) => gain ?? []));
  const farthest = forward.reduce<CheckpointPair | null>(
    (most, pair) => (most === null || (pair.kl.value ?? 0) > (most.kl.value ?? 0) ? pair : most),
    null,
  );
  const series = seriesOf(pairs);
  return [
    {
      ...{ measures: "pairs", evidence: null },
      concluded:
        farthest === null
          ? "No pair leads to a later checkpoint."
          : `From an earlier to a later checkpoint KL per token is at most ${(farthest.kl.value ?? 0).toPrecision(2)} (step ${farthest.from} to ` +
            `${farthest.to}); the later one has more reward in ${count(above, forward.length, "pairs")} and less in ${below} (intervals of the ` +
            "paired differences).",
      tables: [matrixTable(pairs), pairTable(pairs)],
      panels:
        series.length === 0 ? [] : [{ title: "reward gained between two checkpoints, by their KL", level: 0, series }],
    },
  ];
}

function seriesOf(pairs: readonly CheckpointPair[]): PlotSeries[] {
  const both: PlotSeries[] = [
    { name: "to a later one", kind: "points", points: pointsOf(pairs.filter(({ from, to }) => to > from)) },
    { name: "to an earlier one", kind: "points", points: pointsOf(pairs.filter(({ from, to }) => to < from)) },
  ];
  return both.filter(({ points }) => points.length > 0);
}

const pointsOf = (pairs: readonly CheckpointPair[]): PlotPoint[] =>
  pairs.flatMap(({ kl, gain }) => (gain === null || !((kl.value ?? 0) > 0) ? [] : [plotPoint(kl.value ?? 0, gain)]));

function matrixTable(pairs: readonly CheckpointPair[]): ClaimTable {
  const steps = [...new Set(pairs.flatMap(({ from, to }) => [from, to]))].sort((a, b) => a - b);
  return {
    caption:
      "KL(π_row ‖ π_column) per token, nats: the completions of the row’s checkpoint, scored under the column’s. –: not measured, or the same checkpoint.",
    columns: [{ name: "step" }, ...steps.map((step) => ({ name: `to ${step}`, digits: 4 }))],
    rows: steps.map((from) => [
      from,
      ...steps.map((to) => pairs.find((pair) => pair.from === from && pair.to === to)?.kl.value ?? null),
    ]),
  };
}

function pairTable(pairs: readonly CheckpointPair[]): ClaimTable {
  return {
    caption:
      "Pairs of checkpoints: KL per token of the second from the first, over the first one’s prompts, and the second one’s reward less the first one’s, paired over prompts.",
    columns: [
      { name: "from step" },
      { name: "to step" },
      { name: "KL", digits: 4 },
      { name: "change of reward", digits: 3 },
    ],
    rows: pairs.map(({ from, to, kl, gain }) => [from, to, kl, gain]),
  };
}
