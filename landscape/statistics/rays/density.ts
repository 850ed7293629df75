// Density of improving neighbours: the share of random directions at a radius whose reward exceeds the checkpoint's, on the same
// prompts and with the same noise. The winners are selected on that noise. So they are evaluated again on prompts that no map has,
// and the share of them that is still better is given.
import type { CellRecord } from "../../files/cells.ts";
import { rayPlaceOf } from "../../files/ray-files.ts";
import type { Estimand } from "../estimands.ts";
import type { Estimate } from "../intervals.ts";
import { promptInterval } from "../leave-one-out.ts";
import { mean } from "../statistics.ts";
import { meanOfPrompts } from "./ray-field.ts";

/** A count of directions with Wilson's interval. */
export interface ShareOfDirections {
  readonly count: number;
  readonly of: number;
  /** Value and 95% interval; no interval without a direction. */
  readonly share: Estimate;
}

export interface DensityRow {
  readonly radius: number;
  /** Directions with more reward than the checkpoint. */
  readonly better: ShareOfDirections;
  /** Of these, what fresh prompts say; null if none was evaluated again. */
  readonly fresh: {
    /** Those that are better than the checkpoint on fresh prompts too, of those evaluated again. */
    readonly still: ShareOfDirections;
    /** The same, of all directions at this radius. Null if some winners are not evaluated again yet. */
    readonly onBoth: ShareOfDirections | null;
    /** Mean lead over the checkpoint on the prompts that selected them, and on fresh ones (over fresh prompts). */
    readonly selectedGain: number;
    readonly freshGain: Estimate;
  } | null;
}

const Z = 1.959963984540054;

/**
 * Wilson's score interval: (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n).
 * @param units  n: independent units. Two halves of one ray may agree, so there are as many as rays; were halves independent,
 *               the interval would be wider than it must be, and never too narrow
 * Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
 */
export function wilson(count: number, of: number, units = of): ShareOfDirections {
  if (of === 0) return { count, of, share: { value: null, low: null, high: null, standardError: null } };
  const p = count / of;
  const n = units;
  const scale = 1 + Z ** 2 / n;
  const middle = (p + Z ** 2 / (2 * n)) / scale;
  const reach = (Z / scale) * Math.sqrt((p * (1 - p)) / n + Z ** 2 / (4 * n ** 2));
  return {
    count,
    of,
    share: {
      value: p,
      low: Math.min(p, Math.max(0, middle - reach)),
      high: Math.max(p, Math.min(1, middle + reach)),
      standardError: Math.sqrt((p * (1 - p)) / n),
    },
  };
}

const rewardOf = ({ rollouts: { reward } }: Rewarded): Float64Array => meanOfPrompts(reward);

/** A point, as far as its rewards matter. */
export type Rewarded = Pick<CellRecord, "i" | "j" | "alpha"> & {
  readonly rollouts: Pick<CellRecord["rollouts"], "reward">;
};

/** The points whose mean reward exceeds the checkpoint's, ray by ray in the order of the cells' indices. */
export function improvingPoints<P extends Rewarded>(cells: readonly P[]): P[] {
  const origin = cells.find((cell) => rayPlaceOf(cell) === null);
  if (origin === undefined) return [];
  const own = mean(rewardOf(origin));
  return cells
    .filter((cell) => rayPlaceOf(cell) !== null && mean(rewardOf(cell)) > own)
    .sort((one, other) => one.i - other.i || one.j - other.j);
}

/**
 * @param radii  of the rays, ascending
 * @param fresh  the points evaluated again, the checkpoint among them; empty without any
 */
export function densityRows(
  radii: readonly number[],
  cells: readonly Rewarded[],
  fresh: readonly Rewarded[],
): DensityRow[] {
  const origin = cells.find((cell) => rayPlaceOf(cell) === null);
  if (origin === undefined) return [];
  const own = mean(rewardOf(origin));
  const freshOwn = fresh.find((cell) => rayPlaceOf(cell) === null);
  const again = new Map(fresh.map((cell) => [`${cell.i},${cell.j}`, cell]));
  const raysIn = (of: readonly Rewarded[]): number => new Set(of.map(({ i }) => i)).size;
  const improving = new Set(improvingPoints(cells));
  return radii.map((radius, index): DensityRow => {
    const here = cells.filter((cell) => rayPlaceOf(cell)?.index === index);
    const winners = here.filter((cell) => improving.has(cell));
    const better = wilson(winners.length, here.length, raysIn(here));
    const both = winners.flatMap((before) => {
      const after = again.get(`${before.i},${before.j}`);
      return after === undefined ? [] : [{ before, after: rewardOf(after) }];
    });
    if (freshOwn === undefined || both.length === 0) return { radius, better, fresh: null };
    const freshReward = rewardOf(freshOwn);
    const still = both.filter(({ after }) => mean(after) > mean(freshReward)).length;
    const gains = Float64Array.from(freshReward, (reward, p) => mean(both.map(({ after }) => after[p])) - reward);
    const gain: Estimand = {
      prompts: gains.length,
      at: (left) => mean(left < 0 ? gains : gains.filter((_, p) => p !== left)),
    };
    return {
      radius,
      better,
      fresh: {
        still: wilson(still, both.length, raysIn(both.map(({ before }) => before))),
        onBoth: both.length < winners.length ? null : wilson(still, here.length, raysIn(here)),
        selectedGain: mean(both.map(({ before }) => mean(rewardOf(before)))) - own,
        freshGain: promptInterval(gain),
      },
    };
  });
}
