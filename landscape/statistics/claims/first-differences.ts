// Where conversations first differ from the checkpoint's, cell by cell and over a slice. The sampling noise is that of
// the checkpoint's own completion of the same prompt and number, so the place is where the perturbation first changed a
// token (landscape/measure/first-difference.ts stores it).
import { groupBy } from "../../../engine/host/index.ts";
import type { CellRecord, ReferenceSet } from "../../files/cells.ts";
import { ringIndex } from "../../grid.ts";
import type { Estimate } from "../intervals.ts";
import { promptInterval, ratioOfSums } from "../leave-one-out.ts";
import type { PromptMaps } from "../prompt-maps.ts";

/** Parts of the checkpoint's conversation in which the place is counted. */
export const PARTS = 10;

/** Of one cell. Shares are of the rollouts whose prompt and number the checkpoint's completions have too. */
export interface CellDifferences {
  /** Share of conversations that are the checkpoint's to their end. */
  readonly never: number;
  /** Mean place among the others: assistant tokens before the first that differs; NaN if there is none. */
  readonly meanPlace: number;
  /**
   * Shares of conversations that first differ in each tenth of the checkpoint's conversation, by its assistant tokens; a
   * place behind its end counts in the last.
   */
  readonly parts: readonly number[];
}

/** Places of a cell's rollouts, summed. */
export interface DifferenceSums {
  /** Per prompt: rollouts with a place, those that differ, and the sum of their places. */
  readonly count: Float64Array;
  readonly differing: Float64Array;
  readonly places: Float64Array;
  /** Rollouts of all prompts that first differ in each tenth. */
  readonly parts: readonly number[];
}

/** Null if the cell's record has no places. */
export function differenceSums(cell: CellRecord, { tokens }: ReferenceSet): DifferenceSums | null {
  const { firstDifference } = cell;
  if (firstDifference === undefined || firstDifference.every((of) => of.length === 0)) return null;
  const perPrompt = () => new Float64Array(firstDifference.length);
  const [count, differing, sums] = [perPrompt(), perPrompt(), perPrompt()];
  const parts = new Array<number>(PARTS).fill(0);
  for (let p = 0; p < firstDifference.length; p++)
    for (let g = 0; g < firstDifference[p].length; g++) {
      const place = firstDifference[p][g];
      count[p]++;
      if (place < 0) continue;
      differing[p]++;
      sums[p] += place;
      parts[Math.min(PARTS - 1, Math.floor((PARTS * place) / Math.max(1, tokens[p][g])))]++;
    }
  return { count, differing, places: sums, parts };
}

/** Null if the cell's record has no places. */
export function differencesOf(cell: CellRecord, reference: ReferenceSet): CellDifferences | null {
  const sums = differenceSums(cell, reference);
  if (sums === null) return null;
  const [count, differing, places] = [sums.count, sums.differing, sums.places].map((of) => of.reduce((a, b) => a + b));
  return {
    never: (count - differing) / count,
    meanPlace: differing === 0 ? Number.NaN : places / differing,
    parts: sharesOf(sums),
  };
}

function sharesOf({ count, parts }: DifferenceSums): number[] {
  const all = count.reduce((a, b) => a + b);
  return parts.map((part) => part / all);
}

/** Of a ring of cells, or of all cells but the centre (`ring` null). */
export interface RingDifferences {
  readonly ring: number | null;
  readonly cells: number;
  readonly never: Estimate;
  readonly meanPlace: Estimate;
  /** Means of the cells' shares. */
  readonly parts: readonly number[];
}

/** Over all cells but the centre, then by ring. Null if any cell has no places. @param cells  in any order, those of `maps` */
export function ringDifferences(
  cells: readonly { readonly point: { i: number; j: number }; readonly differences: DifferenceSums | null }[],
  maps: PromptMaps,
): RingDifferences[] | null {
  const byPlace = new Map(cells.map(({ point: { i, j }, differences }) => [`${i},${j}`, differences]));
  const outer: { ring: number; sums: DifferenceSums }[] = [];
  for (const place of maps.cells) {
    if (place.alpha === 0 && place.beta === 0) continue;
    const sums = byPlace.get(`${place.i},${place.j}`) ?? null;
    if (sums === null) return null;
    outer.push({ ring: ringIndex(place), sums });
  }
  if (outer.length === 0) return null;
  const rings = [...groupBy(outer, ({ ring }) => ring)].sort(([a], [b]) => a - b);
  const sumsOf = (of: typeof outer): DifferenceSums[] => of.map(({ sums }) => sums);
  return [over(null, sumsOf(outer)), ...rings.map(([ring, members]) => over(ring, sumsOf(members)))];
}

function over(ring: number | null, cells: readonly DifferenceSums[]): RingDifferences {
  const each = (of: (cell: DifferenceSums) => Float64Array): Float64Array =>
    cells[0].count.map((_, p) => cells.reduce((sum, cell) => sum + of(cell)[p], 0));
  const counts = each(({ count }) => count);
  const differing = each((cell) => cell.differing);
  const never = counts.map((count, p) => count - differing[p]);
  const shares = cells.map(sharesOf);
  return {
    ring,
    cells: cells.length,
    never: promptInterval(ratioOfSums(never, counts)),
    meanPlace: promptInterval(
      ratioOfSums(
        each(({ places }) => places),
        differing,
      ),
    ),
    parts: Array.from({ length: PARTS }, (_, k) => shares.reduce((sum, parts) => sum + parts[k], 0) / cells.length),
  };
}
