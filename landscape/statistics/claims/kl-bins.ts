// What the policies around a checkpoint can do, by their KL from it: entropy, length, pass@k and Cover@τ over the grid
// points whose `kl_token` lies between two fixed bounds, beside the checkpoint's own. The bounds are the same for all
// checkpoints, so that these compare.
//
// A quantity of a bin is a mean over its cells of each prompt, then over prompts; entropy is pooled over tokens. The
// cells of a bin are held fixed for the interval, and so is their KL.
import { coverAtOf, passAtKOf } from "../../../rl/index.ts";
import type { CellSums } from "../cell-sums.ts";
import { difference, type Estimand } from "../estimands.ts";
import type { Estimate } from "../intervals.ts";
import { promptInterval, ratioOfSums } from "../leave-one-out.ts";
import { SUCCESS_REWARDS } from "../points.ts";
import { meanMap, type PromptMaps } from "../prompt-maps.ts";
import { mean } from "../statistics.ts";

/** Upper bounds of `kl_token`, nats. A bin holds its lower bound and not its upper one. */
export const KL_BOUNDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, Number.POSITIVE_INFINITY] as const;
/** Cover@τ: the share of prompts that at least this share of rollouts solves. */
export const COVER_TAU = 0.5;

export interface BinQuantity {
  /** As the columns of points.csv. */
  readonly name: string;
  readonly here: Estimate;
  /** Less the checkpoint's, paired over prompts; null if the grid has no centre. */
  readonly change: Estimate | null;
}

/** The checkpoint itself (`from` null), or the other cells between two bounds of KL. */
export interface KlBin {
  readonly from: number | null;
  /** null: no upper bound. */
  readonly to: number | null;
  readonly cells: number;
  /** Mean `kl_token` of the cells, nats. */
  readonly kl: number;
  readonly quantities: readonly BinQuantity[];
}

/** The largest power of two up to the rollouts per prompt. */
export const largestK = (rolloutsPerPrompt: number): number =>
  2 ** Math.floor(Math.log2(Math.max(1, rolloutsPerPrompt)));

/** The checkpoint first, then the bins that have cells, inner ones first. @param cells  in any order, those of `maps` */
export function klBins(cells: readonly CellSums[], maps: PromptMaps): KlBin[] {
  const kl = meanMap(maps.kl);
  const byPlace = new Map(cells.map((cell) => [`${cell.point.i},${cell.point.j}`, cell]));
  const origin = maps.cells.findIndex(({ alpha, beta }) => alpha === 0 && beta === 0);
  const members = new Map<number, number[]>();
  maps.cells.forEach((_, k) => {
    if (k === origin) return;
    const bin = KL_BOUNDS.findIndex((bound) => kl[k] < bound);
    members.set(bin, [...(members.get(bin) ?? []), k]);
  });
  const sumsOf = (of: readonly number[]): CellSums[] =>
    of.flatMap((k) => byPlace.get(`${maps.cells[k].i},${maps.cells[k].j}`) ?? []);
  const own = origin < 0 ? null : quantitiesOf(sumsOf([origin]));
  const binOf = (from: number | null, to: number | null, of: readonly number[]): KlBin => ({
    from,
    to,
    cells: of.length,
    kl: mean(of.map((k) => kl[k])),
    quantities: [...quantitiesOf(sumsOf(of))].map(([name, estimand]) => {
      const checkpoints = own?.get(name);
      return {
        name,
        here: promptInterval(estimand),
        change: checkpoints === undefined || from === null ? null : promptInterval(difference(estimand, checkpoints)),
      };
    }),
  });
  const bins = [...members].sort(([a], [b]) => a - b);
  return [
    ...(origin < 0 ? [] : [binOf(null, null, [origin])]),
    ...bins.map(([bin, of]) => {
      const to = KL_BOUNDS[bin];
      return binOf(bin === 0 ? 0 : KL_BOUNDS[bin - 1], Number.isFinite(to) ? to : null, of);
    }),
  ];
}

/** Of some cells taken together, by name. */
function quantitiesOf(cells: readonly CellSums[]): Map<string, Estimand> {
  const prompts = cells[0].reward.length;
  const most = largestK(cells[0].rollouts.count.reduce((least, count) => Math.min(least, count), 2 ** 20));
  const overCells = (of: (cell: CellSums, p: number) => number): Float64Array =>
    Float64Array.from({ length: prompts }, (_, p) => cells.reduce((sum, cell) => sum + of(cell, p), 0) / cells.length);
  const ones = new Float64Array(prompts).fill(1);
  const meanOver = (of: (cell: CellSums, p: number) => number): Estimand => ratioOfSums(overCells(of), ones);
  return new Map<string, Estimand>([
    ["reward", meanOver(({ reward }, p) => reward[p])],
    [
      "entropy",
      ratioOfSums(
        overCells(({ rollouts }, p) => rollouts.entropy[p]),
        overCells(({ rollouts }, p) => rollouts.tokens[p]),
      ),
    ],
    ["length", meanOver(({ rollouts: { tokens, count } }, p) => tokens[p] / count[p])],
    ...SUCCESS_REWARDS.flatMap((reward, of): [string, Estimand][] => {
      const pass = (k: number): Estimand =>
        meanOver(({ rollouts: { count, successes } }, p) => passAtKOf(count[p], successes[of][p], k) ?? Number.NaN);
      return [
        [`pass_at_1_reward_${reward}`, pass(1)],
        ...(most > 1 ? [[`pass_at_${most}_reward_${reward}`, pass(most)] satisfies [string, Estimand]] : []),
        [
          `cover_at_${COVER_TAU}_reward_${reward}`,
          meanOver(({ rollouts: { count, successes } }, p) =>
            coverAtOf([{ n: count[p], successes: successes[of][p] }], COVER_TAU),
          ),
        ],
      ];
    }),
  ]);
}
