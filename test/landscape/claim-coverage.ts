// Simulated coverage of the intervals that claims use: studies are drawn from a known world, and the share of intervals is
// counted that contain the truth. The truth of r, overlap and surrogate depends on the budget, as noise does: it is the
// mean over the simulated studies. That of bins of KL is the world's own.
import type { Grid } from "../../landscape/grid.ts";
import { cellSums, promptMaps } from "../../landscape/statistics/cell-sums.ts";
import { sliceEvidence } from "../../landscape/statistics/claims/evidence.ts";
import { difference, rAtBudget } from "../../landscape/statistics/estimands.ts";
import { CORRELATION_CHANGES, type Estimate, saysSomething } from "../../landscape/statistics/intervals.ts";
import { estimandOf, promptInterval } from "../../landscape/statistics/leave-one-out.ts";
import type { PromptMaps } from "../../landscape/statistics/prompt-maps.ts";
import { type SimulationRandom, simulationRandom } from "../../landscape/statistics/random.ts";
import { subsampleInterval } from "../../landscape/statistics/subsamples.ts";
import { records } from "./synthetic-cells.ts";
import { drawMaps, type Field, fields } from "./synthetic-maps.ts";

export interface Coverage {
  readonly name: string;
  readonly truth: number;
  /** Share of intervals that contain it. */
  readonly coverage: number;
  /** Share of studies without an interval. */
  readonly withheld: number;
}

const SIGNAL = 0.4;
/** A surrogate follows the field; a few completions have a heavy tail away from the centre. */
const surrogateOf =
  (maps: PromptMaps, { radius }: Grid, field: Field, random: SimulationRandom) =>
  (_p: number, _g: number, at: number): number => {
    const { alpha, beta, squaredSteps } = maps.cells[at];
    const tail = random.uniform() < 0.01 ? 2 * Math.exp(random.normal()) : 0;
    const noise = 0.5 * random.normal() - tail;
    return fields[field](alpha / radius, beta / radius, SIGNAL) + (squaredSteps === 0 ? 0 : noise);
  };

/** Bernoulli rewards with shared noise, one rollout per prompt, half as many reference prompts. */
export function claimCoverage(field: Field, prompts: number, grid: Grid, draws: number): Coverage[] {
  const found = new Map<string, { estimate: Estimate; value: number | null }[]>();
  const truths = new Map<string, number>();
  const add = (name: string, estimate: Estimate, value = estimate.value): void => {
    found.set(name, [...(found.get(name) ?? []), { estimate, value }]);
  };
  for (let draw = 0; draw < draws; draw++) {
    const random = simulationRandom(draw, prompts + grid.points);
    // The same prompts at two checkpoints: what cells share of a prompt is its own, here drawn anew for each.
    const [maps, earlier] = [SIGNAL, SIGNAL / 2].map((signal) =>
      drawMaps({ grid, prompts, referencePrompts: Math.max(8, prompts / 2), field, signal, random }),
    );
    const { cells, reference } = records(maps, grid, surrogateOf(maps, grid, field, random));
    const before = records(earlier, grid);
    const evidence = sliceEvidence(
      cells.map((cell) => cellSums(cell, reference)),
      reference,
      promptMaps(cells, reference, grid),
    );
    // Of the earlier checkpoint r alone is compared.
    const first = rAtBudget(promptMaps(before.cells, before.reference, grid));
    if (evidence.overlap !== null) {
      add("overlap", subsampleInterval(evidence.overlap.share));
      if (evidence.overlap.canDiffer) add("excess", subsampleInterval(evidence.overlap.excess));
    }
    for (const kind of ["raw", "winsorised"] as const) {
      const whole = evidence.surrogate?.[kind][0];
      if (whole === undefined) continue;
      add(`r(J, R), ${kind}`, whole.r);
      add(`R², ${kind}`, whole.rSquared);
    }
    const change = promptInterval(difference(estimandOf(evidence.tables.r), first));
    const isWithheld = change.low === null || !saysSomething(change, CORRELATION_CHANGES);
    add("change of r", isWithheld ? { ...change, low: null, high: null } : change, change.value);
    // The widest bin with cells: its mean success less the centre's is known.
    const bin = evidence.klBins.slice(1).sort((a, b) => b.cells - a.cells)[0];
    const members = membersOf(maps, bin);
    const truth = members.reduce((sum, at) => sum + successAt(maps, grid, field, at), 0) / members.length;
    const centre = successAt(maps, grid, field, (grid.points ** 2 - 1) / 2);
    const estimate = bin.quantities.find((quantity) => quantity.name === "pass_at_1_reward_1")?.change;
    if (estimate === null || estimate === undefined) continue;
    // Which cells are in the bin differs from study to study, so each has its own truth, which is subtracted.
    const error = {
      ...estimate,
      low: shifted(estimate.low, truth - centre),
      high: shifted(estimate.high, truth - centre),
    };
    add("change of pass@1 in a bin", error, 0);
    truths.set("change of pass@1 in a bin", 0);
  }
  return [...found].map(([name, studies]): Coverage => {
    const values = studies.flatMap(({ value }) => value ?? []);
    const truth = truths.get(name) ?? values.reduce((sum, value) => sum + value, 0) / values.length;
    const known = studies.flatMap(({ estimate: { low, high } }) =>
      low === null || high === null ? [] : [{ low, high }],
    );
    const covered = known.filter(({ low, high }) => low - 1e-12 <= truth && truth <= high + 1e-12).length;
    return { name, truth, coverage: covered / known.length, withheld: 1 - known.length / studies.length };
  });
}

const shifted = (end: number | null, by: number): number | null => (end === null ? null : end - by);
const successAt = (maps: PromptMaps, { radius }: Grid, field: Field, at: number): number =>
  fields[field](maps.cells[at].alpha / radius, maps.cells[at].beta / radius, SIGNAL);

function membersOf(maps: PromptMaps, { from, to }: { from: number | null; to: number | null }): number[] {
  return [...maps.cells.keys()].filter((at) => {
    const kl = maps.kl.reduce((sum, map) => sum + map[at], 0) / maps.kl.length;
    return maps.cells[at].squaredSteps > 0 && kl >= (from ?? 0) && kl < (to ?? Number.POSITIVE_INFINITY);
  });
}
