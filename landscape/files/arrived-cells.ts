// Cells of one slice, or points of rays or a line, as they arrive from workers, in any order. Each is appended to cells.jsonl at once, so a part of a map is
// a map. When the last one arrives, the cells are written again in the order in which one machine measures them: they are
// first set aside (files/growth.ts), so a process may be killed at any moment in this.
import { existsSync, rmSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { explained, type OnDamage, readJournalOf, readMembers } from "../../engine/host/index.ts";
import type { PointPlace } from "../grid.ts";
import { type CellRecord, type CellWriter, type JournalledCell, journalledCell, openCells } from "./cells.ts";
import { slicePaths } from "./layout.ts";
import { coordinatesOf, dropEarlier, readEarlier, type StayingPlace, setAsidePoints } from "./set-aside.ts";

const placeOf = ({ i, j }: Pick<PointPlace, "i" | "j">): string => `${i},${j}`;

export class ArrivedCells {
  readonly #folder: string;
  readonly #order: readonly PointPlace[];
  readonly #say: OnDamage;
  readonly #stayingPlaceOf: StayingPlace;
  #writer: CellWriter;
  /** Whether cells are kept in the folder `earlier` until all are there. */
  #isAside: boolean;
  /** The cells that are there, in the order of the file. */
  readonly #places: string[] = [];
  readonly #present = new Set<string>();

  /**
   * @param folder   the slice's
   * @param order    all cells, in the order of measurement
   * @param stayingPlaceOf  by what a cell that was set aside is found again
   * @param isWhole  whether a cell that was set aside has all that is asked for now
   */
  constructor(
    folder: string,
    order: readonly PointPlace[],
    isWhole: (record: CellRecord) => boolean,
    say: OnDamage,
    stayingPlaceOf: StayingPlace = coordinatesOf,
  ) {
    this.#folder = folder;
    this.#stayingPlaceOf = stayingPlaceOf;
    this.#order = order;
    this.#say = say;
    const { earlier } = slicePaths(folder);
    this.#isAside = existsSync(earlier);
    this.#writer = openCells(this.#isAside ? earlier : folder, say);
    if (this.#isAside) {
      const kept = readEarlier(folder, say, stayingPlaceOf);
      for (const cell of order) {
        const found = kept.get(stayingPlaceOf(cell));
        if (found !== undefined && isWhole(found.record)) this.#add(placeOf(cell));
      }
    } else for (const done of this.#writer.done) this.#add(placeOf(done));
  }

  get size(): number {
    return this.#present.size;
  }

  has(cell: Pick<PointPlace, "i" | "j">): boolean {
    return this.#present.has(placeOf(cell));
  }

  /** Adds a cell that is not there. It is on disk when this returns. */
  async take(record: CellRecord, conversations: string): Promise<void> {
    const isLast = this.size === this.#order.length - 1;
    const stays = isLast && !this.#isAside && !this.#isInOrder([...this.#places, placeOf(record)]);
    if (stays) {
      this.#writer.close();
      await setAsidePoints(this.#folder, this.#stayingPlaceOf, this.#say);
      this.#writer = openCells(slicePaths(this.#folder).earlier, this.#say);
      this.#isAside = true;
    }
    this.#writer.append(record, conversations);
    this.#add(placeOf(record));
    if (isLast) this.settle();
  }

  /** Writes the cells in order, once all are there. */
  settle(): void {
    if (this.size < this.#order.length || !this.#isAside) return;
    this.#writer.close();
    const paths = slicePaths(this.#folder);
    // What an earlier process wrote of them is in `earlier` too.
    for (const path of [paths.cells, paths.conversations]) explained(path, () => rmSync(path, { force: true }));
    const kept = readEarlier(this.#folder, this.#say, this.#stayingPlaceOf);
    this.#writer = openCells(this.#folder, this.#say);
    for (const cell of this.#order) {
      const found = kept.get(this.#stayingPlaceOf(cell));
      if (found === undefined) throw new Error(`cells: (${cell.i}, ${cell.j}) is not in ${paths.earlier}`);
      this.#writer.append({ ...found.record, i: cell.i, j: cell.j }, found.conversations.toString("utf8"));
    }
    dropEarlier(this.#folder);
    this.#isAside = false;
  }

  /** Whether a cell that is there has these numbers and conversations. */
  isSame(record: CellRecord, conversations: string): boolean {
    const { earlier } = slicePaths(this.#folder);
    const paths = slicePaths(this.#isAside ? earlier : this.#folder);
    const sizes: number[] = [];
    let found: { index: number; record: CellRecord } | null = null;
    readJournalOf(paths.cells, journalledCell, this.#say, ({ conversationBytes, ...own }: JournalledCell) => {
      if (this.#stayingPlaceOf(own) === this.#stayingPlaceOf(record)) found = { index: sizes.length, record: own };
      sizes.push(conversationBytes);
    });
    const own: { index: number; record: CellRecord } | null = found;
    if (own === null) return false;
    const { index, record: kept } = own as { index: number; record: CellRecord };
    const { content } = readMembers(paths.conversations, sizes)[index];
    return (
      isDeepStrictEqual({ ...kept, i: record.i, j: record.j }, record) && content?.toString("utf8") === conversations
    );
  }

  close(): void {
    this.#writer.close();
  }

  #add(place: string): void {
    if (!this.#present.has(place)) this.#places.push(place);
    this.#present.add(place);
  }

  #isInOrder(places: readonly string[]): boolean {
    return places.every((place, index) => place === placeOf(this.#order[index]));
  }
}

/**
 * Sets the cells of a slice aside if they are in another order than that of measurement, as workers leave them. The sweep then
 * takes them from there, and ends with the bytes of one machine.
 */
export async function settleOrder(
  folder: string,
  order: readonly PointPlace[],
  say: OnDamage,
  stayingPlaceOf: StayingPlace = coordinatesOf,
): Promise<void> {
  if (!existsSync(slicePaths(folder).cells)) return;
  const writer = openCells(folder, say);
  writer.close();
  if (writer.done.some((cell, index) => index >= order.length || placeOf(cell) !== placeOf(order[index])))
    await setAsidePoints(folder, stayingPlaceOf, say);
}
