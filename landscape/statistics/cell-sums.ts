// What the statistics of a slice need of one cell, and the maps made of it. Cells are read one after the other, so a slice's
// records never are in memory together.
import { ShapeError } from "../../engine/index.ts";
import { successesOf, zerosOf } from "../../rl/index.ts";
import type { ByRollout, CellRecord, ReferenceSet } from "../files/cells.ts";
import { type Grid, type GridCell, gridCells } from "../grid.ts";
import { type DifferenceSums, differenceSums } from "./claims/first-differences.ts";
import { byPlace, type Point, perToken, pointOf, SUCCESS_REWARDS, sum, total } from "./points.ts";
import type { PromptMaps } from "./prompt-maps.ts";
import { mean } from "./statistics.ts";

/** What the statistics of a slice need of one cell: a tenth of its record. They are dropped with the slice's last statistic. */
export interface CellSums {
  /** Its row of points.csv. */
  readonly point: Point;
  /** Per prompt, as in `PromptMaps`. */
  readonly reward: Float64Array;
  readonly kl: Float64Array;
  readonly objective: Float64Array;
  /** Of the fresh rollouts. */
  readonly rollouts: RolloutSums;
  /** Σ min(ρA, clip(ρ)A) of each reference completion, prompt by prompt: winsorising needs them all. */
  readonly surrogates: Float64Array;
  /** Null if the cell's record has no places. */
  readonly differences: DifferenceSums | null;
}

/** Sums of a cell's fresh rollouts per prompt. */
export interface RolloutSums {
  /** Number of rollouts. */
  readonly count: Float64Array;
  /** Of them with reward 0. */
  readonly zeros: Float64Array;
  /** Assistant tokens, and their entropy in nats. */
  readonly tokens: Float64Array;
  readonly entropy: Float64Array;
  /** Rollouts with a reward of at least each of SUCCESS_REWARDS. */
  readonly successes: readonly Float64Array[];
  /** Of all prompts: rollouts that the environment failed on. */
  readonly failed: number;
}

/**
 * The sums of one cell; the record is not needed after this.
 * @throws ShapeError as `pointOf`
 */
export function cellSums(cell: CellRecord, reference: ReferenceSet): CellSums {
  const point = pointOf(cell, reference);
  const { reward, tokens: lengths, entropy, failed = [] } = cell.rollouts;
  const { kl, objective } = cell.reference;
  const { tokens } = reference;
  const meanTokens = total(tokens) / tokens.length;
  const perPrompt = (of: ByRollout, value: (rollouts: readonly number[]) => number) => Float64Array.from(of, value);
  return {
    point,
    reward: perPrompt(reward, mean),
    kl: perPrompt(kl, (of) => perToken(sum(of), meanTokens)),
    objective: Float64Array.from(objective, (of, p) => perToken(sum(of), sum(tokens[p]))),
    rollouts: {
      count: perPrompt(reward, (of) => of.length),
      zeros: perPrompt(reward, zerosOf),
      tokens: perPrompt(lengths, sum),
      entropy: perPrompt(entropy, sum),
      successes: SUCCESS_REWARDS.map((least) => perPrompt(reward, (of) => successesOf(of, least))),
      failed: failed.reduce((count, of) => count + of.length - zerosOf(of), 0),
    },
    surrogates: Float64Array.from(objective.flat()),
    differences: differenceSums(cell, reference),
  };
}

/** `mapsOfSums` of the cells' records. */
export function promptMaps(cells: readonly CellRecord[], reference: ReferenceSet, grid: Grid): PromptMaps {
  return mapsOfSums(
    cells.map((cell) => cellSums(cell, reference)),
    reference.tokens.length,
    grid,
  );
}

/**
 * Maps of each prompt over the cells measured so far, ordered by (i, j): what the estimators take.
 * @throws ShapeError when the cells differ in prompts or rollouts, or one of them is not of this grid
 */
export function mapsOfSums(cells: readonly CellSums[], referencePrompts: number, grid: Grid): PromptMaps {
  const sorted = [...cells].sort((a, b) => byPlace(a.point, b.point));
  const all = gridCells(grid);
  const places = sorted.map(({ point, reward }): GridCell => {
    const place = point.j < grid.points ? all[point.i * grid.points + point.j] : undefined;
    if (place === undefined || place.alpha !== point.alpha || place.beta !== point.beta)
      throw new ShapeError(
        `cell (${point.i}, ${point.j}) at (${point.alpha}, ${point.beta}): expected ` +
          `${place === undefined ? `indices below ${grid.points}` : `(${place.alpha}, ${place.beta})`} ` +
          `on a grid of ${grid.points} points within ±${grid.radius}.`,
      );
    if (reward.length !== sorted[0].reward.length)
      throw new ShapeError(
        `cell (${point.i}, ${point.j}): expected rollouts of ${sorted[0].reward.length} prompts ` +
          `as in the first cell, got ${reward.length}.`,
      );
    return place;
  });
  const maps = (prompts: number, value: (cell: CellSums) => Float64Array) =>
    Array.from({ length: prompts }, (_, p) => Float64Array.from(sorted, (cell) => value(cell)[p]));
  return {
    cells: places,
    reward: maps(sorted[0]?.reward.length ?? 0, ({ reward }) => reward),
    kl: maps(referencePrompts, ({ kl }) => kl),
    objective: maps(referencePrompts, ({ objective }) => objective),
  };
}
