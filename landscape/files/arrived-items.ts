// Items (item-parts.ts) as they arrive from workers, in any order. Each is on disk at once, and the files end with the bytes of one
// machine.
import { existsSync, rmSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import {
  ensureFolder,
  explained,
  type Journal,
  type OnDamage,
  openJournalOf,
  writeAtomic,
  writeJournal,
} from "../../engine/host/index.ts";
import { gridCells, type PointPlace } from "../grid.ts";
import type { StudySettings } from "../settings.ts";
import { ArrivedRecords } from "./arrived-records.ts";
import { type Item, type ItemPart, scalesOfHalf } from "./item-parts.ts";
import { klFromJournal } from "./kl-from-files.ts";
import { earlierPairsFolder, fixedKlFolder, pairPath, pairsFolder, rayPaths, raysFolder } from "./layout.ts";
import { noiseJournal } from "./noise-files.ts";
import { readPair } from "./pair-files.ts";
import { readRayLengths, type ScaleRecord, scaleRecord, writeRayLengths } from "./ray-files.ts";
import { isInOrder, scaleKey, wantedScales } from "./ray-points.ts";

export interface ArrivedItems {
  readonly size: number;
  /** How many items of a smaller study are measured again. */
  readonly partial: number;
  has(place: PointPlace): boolean;
  /** Adds an item that is not there. It is on disk when this returns. */
  take(place: PointPlace, item: Item): void;
  /** Whether an item that is there has these numbers. */
  isSame(place: PointPlace, item: Item): boolean;
  close(): void;
}

export function openItems(
  folder: string,
  step: number,
  part: ItemPart,
  { landscape }: StudySettings,
  say: OnDamage,
): ArrivedItems {
  switch (part.kind) {
    case "lengths":
      return new ArrivedLengths(raysFolder(folder, step), landscape);
    case "scales":
      return new ArrivedScales(fixedKlFolder(folder, step), part, landscape, say);
    case "pair":
      return new ArrivedPairs(folder, step, part);
    case "draw": {
      const records = new ArrivedRecords(noiseJournal(folder, step, landscape), say);
      return itemsOf(records, (item) => expected(item, "draw").draw);
    }
    case "kl-from": {
      if (part.map === null) throw new Error("kl-from: no map");
      const { slice, from } = part.map;
      const of = klFromJournal(folder, { step, slice }, from, gridCells(landscape), landscape);
      return itemsOf(new ArrivedRecords(of, say), (item) => expected(item, "kl-from").cell);
    }
    default:
      return part.kind satisfies never;
  }
}

/** @throws Error for an item of another kind, which those who check results (queue/taken-results.ts) have refused */
function expected<K extends Item["kind"]>(item: Item, kind: K): Extract<Item, { kind: K }> {
  if (item.kind !== kind) throw new Error(`expected ${kind}, got ${item.kind}`);
  return item as Extract<Item, { kind: K }>;
}

const itemsOf = <T extends object>(records: ArrivedRecords<T>, recordOf: (item: Item) => T): ArrivedItems => ({
  get size() {
    return records.size;
  },
  partial: records.partial,
  has: (place) => records.has(place),
  take: (_, item) => records.take(recordOf(item)),
  isSame: (_, item) => records.isSame(recordOf(item)),
  close: () => records.close(),
});

/** The lengths of all rays are one item. */
class ArrivedLengths implements ArrivedItems {
  readonly partial = 0;
  readonly #own: string;
  readonly #landscape: StudySettings["landscape"];

  constructor(own: string, landscape: StudySettings["landscape"]) {
    this.#own = own;
    this.#landscape = landscape;
  }

  get size(): number {
    return this.has() ? 1 : 0;
  }

  has(): boolean {
    return readRayLengths(this.#own)?.length === this.#landscape.rays.count;
  }

  take(_: PointPlace, item: Item): void {
    const { seed, rays } = this.#landscape;
    writeRayLengths(this.#own, seed, rays.norm, expected(item, "lengths").lengths);
  }

  isSame(_: PointPlace, item: Item): boolean {
    return isDeepStrictEqual(readRayLengths(this.#own), expected(item, "lengths").lengths);
  }

  close(): void {}
}

class ArrivedScales implements ArrivedItems {
  readonly partial = 0;
  readonly #path: string;
  readonly #landscape: StudySettings["landscape"];
  readonly #halves: readonly PointPlace[];
  readonly #found = new Map<string, ScaleRecord>();
  #journal: Journal<ScaleRecord>;

  constructor(own: string, { items }: ItemPart, landscape: StudySettings["landscape"], say: OnDamage) {
    this.#landscape = landscape;
    this.#halves = items;
    ensureFolder(own);
    this.#path = rayPaths(own).scales;
    this.#journal = openJournalOf(this.#path, scaleRecord, say, (record) => {
      this.#found.set(scaleKey(record), record);
    }).journal;
    this.#settle();
  }

  get size(): number {
    return this.#halves.filter((half) => this.has(half)).length;
  }

  has(half: PointPlace): boolean {
    return scalesOfHalf(half, this.#landscape).every((one) => this.#found.has(scaleKey(one)));
  }

  /** Those of a smaller study that are there stay. */
  take(_: PointPlace, item: Item): void {
    for (const scale of expected(item, "scales").scales) {
      if (this.#found.has(scaleKey(scale))) continue;
      this.#journal.append(scale);
      this.#found.set(scaleKey(scale), scale);
    }
    this.#settle();
  }

  isSame(_: PointPlace, item: Item): boolean {
    return expected(item, "scales").scales.every((one) => isDeepStrictEqual(this.#found.get(scaleKey(one)), one));
  }

  close(): void {
    this.#journal.close();
  }

  /** Writes the scales in order, once all are there. */
  #settle(): void {
    const wanted = wantedScales(this.#landscape);
    const all = wanted.flatMap((one) => this.#found.get(scaleKey(one)) ?? []);
    if (all.length < wanted.length || isInOrder([...this.#found.values()], wanted)) return;
    this.#journal.close();
    writeJournal(this.#path, scaleRecord, all);
    this.#found.clear();
    this.#journal = openJournalOf(
      this.#path,
      scaleRecord,
      () => {},
      (record) => {
        this.#found.set(scaleKey(record), record);
      },
    ).journal;
  }
}

/** Each pair has a file of its own. */
class ArrivedPairs implements ArrivedItems {
  readonly partial: number;
  readonly #folder: string;
  readonly #step: number;
  readonly #items: readonly PointPlace[];

  constructor(folder: string, step: number, { items }: ItemPart) {
    this.#folder = folder;
    this.#step = step;
    this.#items = items;
    const earlier = earlierPairsFolder(folder, step);
    this.partial = items.filter(({ j }) => existsSync(pairPath(folder, step, j, earlier))).length;
    this.#settle();
  }

  get size(): number {
    return this.#items.filter((place) => this.has(place)).length;
  }

  has({ j }: PointPlace): boolean {
    return existsSync(pairPath(this.#folder, this.#step, j));
  }

  take({ j }: PointPlace, item: Item): void {
    ensureFolder(pairsFolder(this.#folder, this.#step));
    writeAtomic(pairPath(this.#folder, this.#step, j), `${JSON.stringify(expected(item, "pair").pair)}\n`);
    this.#settle();
  }

  isSame({ j }: PointPlace, item: Item): boolean {
    return isDeepStrictEqual(readPair(this.#folder, this.#step, j), expected(item, "pair").pair);
  }

  close(): void {}

  /** What a smaller study measured is of no use once all are there. */
  #settle(): void {
    if (this.size < this.#items.length) return;
    const earlier = earlierPairsFolder(this.#folder, this.#step);
    explained(earlier, () => rmSync(earlier, { recursive: true, force: true }));
  }
}
