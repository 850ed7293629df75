// The alarm: 1 of 100 cells, and at least one of a sweep, is measured by a second worker too. Equal cells must have equal bits;
// a difference means that a machine computes wrongly, or that a checkout was changed.
/** One of so many cells is checked, the first among them. */
const oneOf = 100;

export class SecondWorkers {
  #arrived = 0;
  #same = 0;
  #different = 0;
  #dropped = 0;

  /** Called for each cell that was measured: whether it is to be measured again. */
  isChosen(): boolean {
    return this.#arrived++ % oneOf === 0;
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
