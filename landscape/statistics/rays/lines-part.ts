// Lines between checkpoints as a part of T3: did training move along a way whose reward random directions of equal KL do not have?
import { type ClaimPlot, type ClaimTable, count, plotPoint, type Sides, sidesOf, UNDECIDED } from "../claims/claim.ts";
import type { ExplorationPart } from "../claims/exploration.ts";
import type { Estimate } from "../intervals.ts";
import type { Beside, LinePoint, LineStatistics } from "./line-statistics.ts";
import { chosen } from "./ray-tables.ts";
import type { RayCheckpoint } from "./summarise-rays.ts";

/** Lines between checkpoints as a part of T3. Empty without lines. */
export function linesOfT3(checkpoints: readonly Pick<RayCheckpoint, "lines">[]): ExplorationPart[] {
  const lines = checkpoints.flatMap((checkpoint) => checkpoint.lines);
  if (lines.length === 0) return [];
  // What training does is on the way to later checkpoints.
  const points = lines
    .filter(({ stepsAhead }) => stepsAhead > 0)
    .flatMap((line) => line.points.filter(({ position }) => position > 0 && position <= 1));
  const compared = points.flatMap((point) => (point.beside === null ? [] : [{ ...point, beside: point.beside }]));
  const evidence = evidenceOf(compared);
  const { above, below } = sidesOf(compared.flatMap(({ beside }) => [beside.excess]));
  const gains = sidesOf(points.flatMap(({ gain }) => gain ?? []));
  const { length } = compared;
  const concluded =
    length === 0
      ? "No random rays reach the KL of the lines to later checkpoints, so these stand without a comparison and decide nothing."
      : `On the way to later checkpoints reward is above the mean of random rays at equal KL at ${count(above, length, "points")} and ` +
        `below it at ${below} (intervals over prompts), and above the checkpoint’s own at ${gains.above} of ${points.length}. ` +
        (evidence.above > 0
          ? `At ${count(evidence.above, length, "points")} it is above both, over other rays too: useful policies at a KL where random ones have none.`
          : evidence.below > 0
            ? `At ${count(evidence.below, length, "points")} it is below the checkpoint’s own or the rays’, and at none above both.`
            : `Whether it is above both at any point ${UNDECIDED}.`);
  return [{ measures: "lines", evidence, concluded, tables: [lineTable(lines)], panels: chosen(lines).map(linePanel) }];
}

/**
 * What points on the way to later checkpoints say of T3. Against it (above): more reward than the checkpoint, and than random rays at
 * equal KL, with intervals over prompts and over rays above 0. For it (below): less reward than the checkpoint, or than the rays with
 * both intervals below 0.
 */
function evidenceOf(points: readonly (LinePoint & { readonly beside: Beside })[]): Sides {
  const isAbove = ({ low }: Estimate): boolean => low !== null && low > 0;
  const isBelow = ({ high }: Estimate): boolean => high !== null && high < 0;
  const above = points.filter(
    ({ gain, beside }) => gain !== null && isAbove(gain) && isAbove(beside.excess) && isAbove(beside.excessOverRays),
  ).length;
  const below = points.filter(
    ({ gain, beside }) =>
      (gain !== null && isBelow(gain)) || (isBelow(beside.excess) && isBelow(beside.excessOverRays)),
  ).length;
  return { above, below, open: points.length - above - below, of: points.length };
}

function lineTable(lines: readonly LineStatistics[]): ClaimTable {
  return {
    caption:
      "Along the line from a checkpoint (position 0) to another one (position 1) and beyond. Beside it random rays where their KL is the same: their mean, the quantiles of 10% and 90% over rays, the share of rays with less reward, and the line’s reward less their mean: paired over prompts (these rays), and over rays (these prompts). Less checkpoint: reward less the checkpoint’s own, paired over prompts. –: fewer than two rays reach this KL.",
    columns: [
      { name: "line" },
      { name: "position" },
      { name: "KL", digits: 4 },
      { name: "reward", digits: 3 },
      { name: "less checkpoint", digits: 3 },
      { name: "J − J(0)", digits: 4 },
      { name: "rays" },
      { name: "their mean", digits: 3 },
      { name: "10%", digits: 3 },
      { name: "90%", digits: 3 },
      { name: "share below", digits: 2 },
      { name: "line less rays, over prompts", digits: 3 },
      { name: "over rays", digits: 3 },
    ],
    rows: lines.flatMap((line) =>
      line.points.map(({ position, kl, reward, gain, objective, beside }) => [
        ...[nameOf(line), position, kl, reward, gain, objective, beside?.rays ?? null],
        ...[beside?.mean ?? null, beside?.low ?? null, beside?.high ?? null, beside?.shareBelow ?? null],
        ...[beside?.excess ?? null, beside?.excessOverRays ?? null],
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
