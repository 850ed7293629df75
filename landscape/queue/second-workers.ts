// The alarm: 1 of 100 cells, and at least one of a sweep, is measured by a second worker too. Equal cells must have equal bits;
// a difference means that a machine computes wrongly, or that a checkout was changed.
import type { Stripe } from "./messages.ts";

/** One of so many cells is checked. */
const oneOf = 100;

type KeyedCell = Stripe["cells"][number];

export class SecondWorkers {
  #chosen = 0;
  #same = 0;
  #different = 0;
  #dropped = 0;

  /** Whether a cell that was just measured is to be measured again. */
  isChosen({ key }: KeyedCell): boolean {
    const chosen = this.#chosen === 0 || Number.parseInt(key.slice(0, 8), 16) % oneOf === 0;
    if (chosen) this.#chosen++;
    return chosen;
  }

  /** A second worker has measured a cell. */
  compared(isSame: boolean): void {
    if (isSame) this.#same++;
    else this.#different++;
  }

  /** No second worker is there for some cells. */
  giveUp(cells: number): void {
    this.#dropped += cells;
  }

  /** @param folder  the run folder */
  summary(folder: string): string[] {
    const checked = this.#same + this.#different;
    const lines: string[] = [];
    if (checked > 0)
      lines.push(
        `Check by second workers: ${this.#same} of ${checked} cells have the same bits.${
          this.#different === 0 ? "" : ` ALARM: ${this.#different} differ, see above and the report.`
        }`,
      );
    if (this.#dropped > 0)
      lines.push(
        `Check by second workers: ${this.#dropped} cells were not checked, because no second worker was there. Check some later: ` +
          `node landscape/verify.ts ${folder}`,
      );
    return lines;
  }
}
