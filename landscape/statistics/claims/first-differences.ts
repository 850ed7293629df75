// Where conversations first differ from the checkpoint's, cell by cell and over a slice. The sampling noise is that of
// the checkpoint's own completion of the same prompt and number, so the place is where the perturbation first changed a
// token (landscape/measure/first-difference.ts stores it).
import type { CellRecord, ReferenceSet } from "../../files/cells.ts";
import { ringIndex } from "../../grid.ts";
import type { Estimate } from "../intervals.ts";
import { promptInterval, ratioOfSums } from "../leave-one-out.ts";
import type { PromptMaps } from "../prompt-maps.ts";
import { groupBy } from "../statistics.ts";

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

/** Null if the cell's record has no places. */
export function differencesOf(cell: CellRecord, { tokens }: ReferenceSet): CellDifferences | null {
  const { firstDifference } = cell;
  if (firstDifference === undefined || firstDifference.flat().length === 0) return null;
  let count = 0;
  let never = 0;
  let sum = 0;
  const parts = new Array<number>(PARTS).fill(0);
  for (const [p, places] of firstDifference.entries())
    for (const [g, place] of places.entries()) {
      count++;
      if (place < 0) {
        never++;
        continue;
      }
      sum += place;
      parts[Math.min(PARTS - 1, Math.floor((PARTS * place) / Math.max(1, tokens[p][g])))]++;
    }
  return {
    never: never / count,
    meanPlace: never === count ? Number.NaN : sum / (count - never),
    parts: parts.map((part) => part / count),
  };
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

/** Over all cells but the centre, then by ring. Null if any cell has no places. */
export function ringDifferences(
  cells: readonly CellRecord[],
  reference: ReferenceSet,
  maps: PromptMaps,
): RingDifferences[] | null {
  const byPlace = new Map(cells.map((cell) => [`${cell.i},${cell.j}`, cell]));
  const outer = maps.cells.flatMap((place) => {
    const record = byPlace.get(`${place.i},${place.j}`);
    return record === undefined || (place.alpha === 0 && place.beta === 0) ? [] : [{ ring: ringIndex(place), record }];
  });
  if (outer.length === 0 || outer.some(({ record }) => differencesOf(record, reference) === null)) return null;
  const rings = [...groupBy(outer, ({ ring }) => ring)].sort(([a], [b]) => a - b);
  const records = (of: typeof outer): CellRecord[] => of.map(({ record }) => record);
  return [
    of(null, records(outer), reference),
    ...rings.map(([ring, members]) => of(ring, records(members), reference)),
  ];
}

function of(ring: number | null, cells: readonly CellRecord[], reference: ReferenceSet): RingDifferences {
  const places = cells.map(({ firstDifference }) => firstDifference ?? []);
  const prompts = places[0].length;
  const each = (value: (places: readonly number[]) => number): Float64Array =>
    Float64Array.from({ length: prompts }, (_, p) => places.reduce((sum, cell) => sum + value(cell[p]), 0));
  const counts = each((list) => list.length);
  const differing = each((list) => list.filter((place) => place >= 0).length);
  const sums = each((list) => list.reduce((sum, place) => sum + Math.max(0, place), 0));
  const never = counts.map((count, p) => count - differing[p]);
  const shares = cells.map((cell) => differencesOf(cell, reference)?.parts ?? []);
  return {
    ring,
    cells: cells.length,
    never: promptInterval(ratioOfSums(never, counts)),
    meanPlace: promptInterval(ratioOfSums(sums, differing)),
    parts: Array.from({ length: PARTS }, (_, k) => shares.reduce((sum, parts) => sum + parts[k], 0) / cells.length),
  };
}
