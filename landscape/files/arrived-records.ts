// Records of one journal as they arrive from workers, in any order: draws of a noise floor, KL of a map's cells from another
// checkpoint. As with cells (arrived-cells.ts), each is on disk at once, and all are written in the order of one machine when the last
// one arrives: they are first set aside, so a process may be killed at any moment in this.
import { existsSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { z } from "zod";
import {
  ensureFolder,
  explained,
  type Journal,
  type OnDamage,
  openJournalOf,
  readJournalOf,
  writeJournal,
} from "../../engine/host/index.ts";
import type { PointPlace } from "../grid.ts";
import { setAsideRecords } from "./set-aside.ts";

/** A journal whose records are known before they are measured. */
export interface RecordJournal<T extends object> {
  readonly path: string;
  /** Where records are that were set aside; deleted once all are in the journal. */
  readonly earlier: string;
  readonly schema: z.ZodType<T>;
  /** The places of all records, in the order of measurement. */
  readonly order: readonly PointPlace[];
  /** That of a record and that of its place are the same, also when the study grows. */
  keyOf(record: T): string;
  keyOfPlace(place: PointPlace): string;
  /** The record with the indices that its place has now. */
  at(record: T, place: PointPlace): T;
  /** Whether a record that was set aside has all that is asked for now. */
  isWhole(record: T): boolean;
}

export class ArrivedRecords<T extends object> {
  readonly #of: RecordJournal<T>;
  readonly #say: OnDamage;
  /** The keys of the records that are there, in the order of the file. */
  readonly #keys = new Set<string>();
  #isAside: boolean;
  #journal: Journal<T>;
  /** How many records of a smaller study are measured again. */
  readonly partial: number;

  constructor(of: RecordJournal<T>, say: OnDamage) {
    this.#of = of;
    this.#say = say;
    ensureFolder(dirname(of.path));
    this.#isAside = existsSync(of.earlier);
    const wanted = new Set(of.order.map((place) => of.keyOfPlace(place)));
    let partial = 0;
    const add = (record: T): void => {
      if (!of.isWhole(record)) partial++;
      else if (wanted.has(of.keyOf(record))) this.#keys.add(of.keyOf(record));
    };
    if (this.#isAside && existsSync(of.path)) readJournalOf(of.path, of.schema, say, add);
    this.#journal = this.#open(add);
    this.partial = partial;
    this.#settle();
  }

  get size(): number {
    return this.#keys.size;
  }

  has(place: PointPlace): boolean {
    return this.#keys.has(this.#of.keyOfPlace(place));
  }

  /** Adds a record that is not there. It is on disk when this returns. */
  take(record: T): void {
    const { order, keyOf, keyOfPlace } = this.#of;
    const keys = [...this.#keys, keyOf(record)];
    const isLast = keys.length === order.length;
    if (isLast && !this.#isAside && keys.some((key, index) => key !== keyOfPlace(order[index]))) {
      this.#journal.close();
      setAsideRecords(this.#of.path, this.#of.earlier, this.#of.schema, keyOf, this.#say);
      this.#isAside = true;
      this.#journal = this.#open(() => {});
    }
    this.#journal.append(record);
    this.#keys.add(keyOf(record));
    this.#settle();
  }

  /** Whether a record that is there is the same. */
  isSame(record: T): boolean {
    const { keyOf } = this.#of;
    const found = this.#all().get(keyOf(record));
    return found !== undefined && isDeepStrictEqual({ ...found, ...indicesIn(record) }, record);
  }

  close(): void {
    this.#journal.close();
  }

  #open(take: (record: T) => void): Journal<T> {
    const { path, earlier, schema } = this.#of;
    return openJournalOf(this.#isAside ? earlier : path, schema, this.#say, take).journal;
  }

  /** Writes the records in order, once all are there. */
  #settle(): void {
    const { order, path, earlier, schema, keyOfPlace, at } = this.#of;
    if (this.size < order.length || !this.#isAside) return;
    this.#journal.close();
    const all = this.#all();
    writeJournal(
      path,
      schema,
      order.map((place) => {
        const found = all.get(keyOfPlace(place));
        if (found === undefined) throw new Error(`${earlier}: no record of ${keyOfPlace(place)}`);
        return at(found, place);
      }),
    );
    explained(earlier, () => rmSync(earlier, { force: true }));
    this.#isAside = false;
    this.#journal = this.#open(() => {});
  }

  #all(): Map<string, T> {
    const { path, earlier, schema, keyOf, isWhole } = this.#of;
    const all = new Map<string, T>();
    for (const one of [path, earlier])
      if (existsSync(one))
        readJournalOf(one, schema, this.#say, (record) => {
          if (isWhole(record)) all.set(keyOf(record), record);
        });
    return all;
  }
}

/** A record that was set aside may have the indices of a smaller study. */
const indicesIn = (record: object): object => ("i" in record && "j" in record ? { i: record.i, j: record.j } : {});

/**
 * Sets the records of a journal aside if they are in another order than that of measurement, as workers leave them. The measurement
 * then takes them from there, and ends with the bytes of one machine.
 */
export function settleRecords<T extends object>(of: RecordJournal<T>, say: OnDamage): void {
  const { path, earlier, schema, order, keyOf, keyOfPlace } = of;
  if (!existsSync(path)) return;
  const keys: string[] = [];
  readJournalOf(path, schema, say, (record) => keys.push(keyOf(record)));
  const isInOrder = keys.every((key, index) => index < order.length && key === keyOfPlace(order[index]));
  if (!isInOrder) setAsideRecords(path, earlier, schema, keyOf, say);
}
