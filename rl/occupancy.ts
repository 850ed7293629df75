// How full the generation batch is. A place without a conversation is computed for nobody: the passes of a batch whose last few
// rows are long cost nearly as much as those of a full one.
import type { Pass } from "../model/index.ts";

/** Mean occupancy over forward passes: Σ rows that a pass drew tokens for / Σ places of the batch. */
export class Occupancy {
  #rows = 0;
  #places = 0;

  add({ rows, places }: Pick<Pass, "rows" | "places">): void {
    this.#rows += rows;
    this.#places += places;
  }

  /** From 0 to 1; null if there was no pass. */
  get share(): number | null {
    return this.#places === 0 ? null : this.#rows / this.#places;
  }
}
