// What the one that hands out shows of its workers: how many cells each has measured, and what is under way.
import { formatDuration } from "../../engine/host/index.ts";
import type { StripeProgress, WorkerName } from "./messages.ts";

interface Row {
  shown: string;
  cells: number;
  checked: number;
  seconds: number;
}

export class WorkerTable {
  readonly #rows = new Map<string, Row>();

  get size(): number {
    return this.#rows.size;
  }

  /** A worker is there. */
  meet(worker: WorkerName): void {
    this.#rowOf(worker);
  }

  /** A worker's name, with a number if another of this name came before. */
  nameOf(worker: WorkerName): string {
    return this.#rowOf(worker).shown;
  }

  /** @param isCheck  the cells had been measured by another worker */
  took(worker: WorkerName, cells: number, seconds: number, isCheck: boolean): void {
    const row = this.#rowOf(worker);
    if (isCheck) row.checked += cells;
    else row.cells += cells;
    row.seconds += seconds;
  }

  /** "2 workers: a 12 cells, b 9" @param active  progress of the stripes under way */
  line(active: readonly StripeProgress[]): string {
    for (const { worker } of active) this.#rowOf(worker);
    const rows = [...this.#rows.values()];
    if (rows.length === 0) return "no worker yet (node landscape/work.ts --queue …)";
    const shown = rows.slice(0, 6).map(({ shown: name, cells }) => `${name} ${cells}`);
    return `${count(rows.length, "worker")}: ${shown.join(", ")}${rows.length > 6 ? " …" : ""}`;
  }

  /** One line for each worker at the end. */
  summary(): string[] {
    return [...this.#rows.values()]
      .filter(({ cells, checked }) => cells + checked > 0)
      .map(
        ({ shown, cells, checked, seconds }) =>
          `Worker ${shown}: ${count(cells, "cell")}${checked === 0 ? "" : ` and ${checked} as a check`} in ` +
          `${formatDuration(1000 * seconds)}.`,
      );
  }

  #rowOf({ id, name }: WorkerName): Row {
    const found = this.#rows.get(id);
    if (found !== undefined) return found;
    const shown = new Set([...this.#rows.values()].map((row) => row.shown));
    let number = 1;
    while (shown.has(number === 1 ? name : `${name} (${number})`)) number++;
    const row = { shown: number === 1 ? name : `${name} (${number})`, cells: 0, checked: 0, seconds: 0 };
    this.#rows.set(id, row);
    return row;
  }
}

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? "" : "s"}`;
