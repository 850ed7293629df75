// What a slice has measured before its map grew (files/growth.ts), as the sweep uses it: rollouts and scores that need not be
// computed again. A rollout depends on its prompt, its number and the weights, so it is the same in a larger study. The
// score of a reference completion depends on the advantages of its group besides: with more completions per prompt all of
// them are scored again.
import type { OnDamage } from "../../engine/host/index.ts";
import type { CellRecord } from "../files/cells.ts";
import { coordinatesOf, type EarlierCell, readEarlier, type StayingPlace } from "../files/set-aside.ts";
import type { PointPlace } from "../grid.ts";
import type { StudySettings } from "../settings.ts";
import type { UnderWay } from "./under-way.ts";

type Landscape = Pick<StudySettings["landscape"], "reference" | "rollouts">;
type Take = (record: CellRecord, conversations: string) => void;

const hasShape = (values: readonly (readonly unknown[])[], size: { prompts: number; rollouts: number }): boolean =>
  values.length === size.prompts && values.every(({ length }) => length === size.rollouts);

export class EarlierCells {
  readonly #cells: ReadonlyMap<string, EarlierCell>;
  readonly #landscape: Landscape;
  readonly #placeOf: StayingPlace;

  /**
   * @param folder   the slice's; null if there is none
   * @param placeOf  by what the points were set aside
   */
  constructor(folder: string | null, landscape: Landscape, say: OnDamage, placeOf: StayingPlace = coordinatesOf) {
    this.#cells = folder === null ? new Map() : readEarlier(folder, say, placeOf);
    this.#placeOf = placeOf;
    this.#landscape = landscape;
  }

  /** Whether all of a cell was measured. */
  isWhole(cell: PointPlace): boolean {
    const found = this.#find(cell)?.record;
    const { reference, rollouts } = this.#landscape;
    return found !== undefined && hasShape(found.rollouts.reward, rollouts) && hasShape(found.reference.kl, reference);
  }

  /** Cuts cells into parts, each with at most `size` that are not whole. */
  *batches<P extends PointPlace>(cells: readonly P[], size: number): Iterable<P[]> {
    let batch: P[] = [];
    let partial = 0;
    for (const cell of cells) {
      if (!this.isWhole(cell) && partial++ === size) {
        yield batch;
        batch = [];
        partial = 1;
      }
      batch.push(cell);
    }
    if (batch.length > 0) yield batch;
  }

  /**
   * Takes the whole cells of a batch at their place among those that are measured now.
   * @returns what takes the next measured one
   */
  inOrder(batch: readonly PointPlace[], take: Take): Take {
    const waiting = [...batch];
    const takeWhole = (): void => {
      while (waiting.length > 0 && this.isWhole(waiting[0])) {
        const [{ i, j }] = waiting;
        const { record, conversations } = this.#find(waiting[0]) as EarlierCell;
        take({ ...record, i, j }, conversations.toString("utf8"));
        waiting.shift();
      }
    };
    takeWhole();
    return (record, conversations) => {
      take(record, conversations);
      waiting.shift();
      takeWhole();
    };
  }

  /**
   * Adds the rollouts that some cells have to those that are finished. Where the checkpoint has more completions of its own than
   * before, a rollout may lack its first difference from one of them (first-difference.ts): it is left out, and drawn again.
   */
  giveRollouts(cells: readonly PointPlace[], underWay: UnderWay): void {
    for (const cell of cells) {
      const found = this.#find(cell);
      if (found === undefined) continue;
      const { reward, tokens, entropy, truncated, formatFailed, failed } = found.record.rollouts;
      const { firstDifference } = found.record;
      const { reference } = this.#landscape;
      const said = found.conversations.toString("utf8").match(/.*\n/g) ?? [];
      for (const [prompt, rewards] of reward.entries())
        for (const [rollout, value] of rewards.entries()) {
          const key = { i: cell.i, j: cell.j, prompt, rollout };
          const place = firstDifference?.[prompt]?.[rollout];
          const isCompared = prompt < reference.prompts && rollout < reference.rollouts;
          if (underWay.has(key) || (firstDifference !== undefined && isCompared && place === undefined)) continue;
          const isFailed = failed?.[prompt][rollout] === 1;
          const isFormless = formatFailed === undefined || isFailed;
          underWay.add(key, {
            reward: value,
            tokens: tokens[prompt][rollout],
            entropy: entropy[prompt][rollout],
            isTruncated: truncated[prompt][rollout] === 1,
            formatFailed: isFormless ? null : formatFailed[prompt][rollout] === 1,
            ...(isFailed && { isFailed: true as const }),
            ...(place !== undefined && { firstDifference: place }),
            // One is kept of each of the first prompts.
            conversation: rollout === 0 ? (said[prompt] ?? null) : null,
          });
        }
    }
  }

  /** Scores of a cell's first completions; null if there are none, or if they belong to smaller groups. */
  scoresAt(cell: PointPlace): CellRecord["reference"] | null {
    const found = this.#find(cell)?.record.reference;
    const { prompts, rollouts } = this.#landscape.reference;
    const fits = found !== undefined && found.kl.length <= prompts && found.kl[0].length === rollouts;
    return fits ? found : null;
  }

  #find(cell: PointPlace): EarlierCell | undefined {
    return this.#cells.get(this.#placeOf(cell));
  }
}
