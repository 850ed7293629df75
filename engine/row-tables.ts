// Tables that tell a grouped kernel which slot its rows use. The rows of a batch are runs of one grid point each. A table cuts
// every run into tiles of at most `height` rows, so that no tile has rows of two points; one workgroup computes one tile. With
// height 1 there is an entry for each row.
//
// A pass of a model uses a table of each height in all its layers. The next pass often has the same runs: then it finds the
// table here, on the device already. If not, its table takes the place of the one that was not used for longest: so tables stay
// in few buffers, and kernels find their bind groups.
import type { Backend } from "./backends/backend.ts";
import { bytesPerElement } from "./dtype.ts";
import { memoryLabel } from "./memory-purpose.ts";
import {
  type BatchRows,
  expectWholeGroups,
  type Parameter,
  type RowGroup,
  type SlotTables,
  type TileTable,
  type WeightTensors,
} from "./parameters.ts";
import { assume } from "./replay.ts";
import { keep } from "./scope.ts";
import { empty, type Tensor } from "./tensor.ts";

/** Numbers of an entry: first row, number of rows, slot. */
const entryLength = 3;

/**
 * Tables kept of each height. A pass has two lists of runs: those of all its rows, and those of the rows whose states are wanted.
 * Passes of two kinds often take turns.
 */
const perHeight = 4;

/** A place of a table on the device. */
interface Place {
  readonly memory: Tensor;
  /** Height and runs of the table that it holds. */
  key: string;
  table: TileTable;
  /** Grows when another table comes here, and when the memory is freed. */
  version: number;
}

/** Makes and keeps the tables of one set of slots. */
export class RowTables implements SlotTables {
  readonly #backend: Backend;
  #slotOf: ReadonlyMap<number, number> = new Map();
  /** By height, in each the place that was not used for longest first. */
  readonly #places = new Map<number, Place[]>();
  /**
   * The tables by the list of runs itself, which all ops of a pass are given: the place of each, and what it holds as long as no
   * other table has come there.
   */
  #ofRows = new WeakMap<readonly RowGroup[], Map<number, { readonly place: Place; readonly key: string }>>();

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** Says which slot holds the weights of each grid point. */
  assign(slotOf: ReadonlyMap<number, number>): void {
    this.#slotOf = slotOf;
    this.#ofRows = new WeakMap();
  }

  tilesOf(name: string, rows: readonly RowGroup[], total: number, height: number): TileTable | null {
    const known = this.#ofRows.get(rows);
    const found = known?.get(height);
    if (found !== undefined && found.place.key === found.key) {
      assume(found.place);
      return found.place.table;
    }
    expectWholeGroups(name, rows, total, this.#slotOf);
    const key = keyOf(rows, height, this.#slotOf);
    const place = this.#placeOf(key, rows, height);
    if (place === null) return null;
    assume(place);
    if (known === undefined) this.#ofRows.set(rows, new Map([[height, { place, key }]]));
    else known.set(height, { place, key });
    return place.table;
  }

  free(): void {
    for (const places of this.#places.values())
      for (const place of places) {
        place.memory.free();
        place.version++;
      }
    this.#places.clear();
    this.#ofRows = new WeakMap();
  }

  /** Where the table is, or is written now. */
  #placeOf(key: string, rows: readonly RowGroup[], height: number): Place | null {
    const places = this.#places.get(height) ?? [];
    this.#places.set(height, places);
    const found = places.findIndex((place) => place.key === key);
    if (found >= 0) {
      const [place] = places.splice(found, 1);
      places.push(place);
      return place;
    }
    const entries: number[] = [];
    for (const { start, count, point } of rows)
      for (let first = start; first < start + count; first += height)
        entries.push(first, Math.min(height, start + count - first), this.#slotOf.get(point) ?? 0);
    const { maxBufferBytes } = this.#backend.limits;
    if (entries.length * bytesPerElement.u32 > maxBufferBytes) return null;
    let place = places.length < perHeight ? undefined : places.shift();
    if (place === undefined || place.memory.size < entries.length) {
      if (place !== undefined) {
        place.memory.free();
        place.key = "";
        place.version++;
      }
      const memory = this.#allocate(entries.length, maxBufferBytes);
      place = { memory, key, table: { tiles: memory, count: 0 }, version: 0 };
    }
    const tiles = place.memory.sliceRows(0, entries.length);
    tiles.write(entries);
    place.key = key;
    place.version++;
    place.table = { tiles, count: entries.length / entryLength };
    places.push(place);
    return place;
  }

  /** Memory for a table, with room for somewhat longer ones. */
  #allocate(length: number, maxBufferBytes: number): Tensor {
    const size = Math.min(2 ** Math.ceil(Math.log2(length)), Math.floor(maxBufferBytes / bytesPerElement.u32));
    return keep(
      empty(this.#backend, [Math.max(size, length)], "u32", memoryLabel("perturbed weights", "slots of rows")),
    );
  }
}

/** What a table depends on. */
function keyOf(rows: readonly RowGroup[], height: number, slotOf: ReadonlyMap<number, number>): string {
  let key = String(height);
  for (const { count, point } of rows) key += ` ${count} ${slotOf.get(point)}`;
  return key;
}

/** A weight that one dispatch reaches for all rows: slot k begins k · stride elements after `first`. A plain weight has stride 0. */
export interface Reached {
  readonly first: Tensor;
  readonly stride: number;
}

/** Rows of several grid points, and where their tables are. */
export interface GroupedRows {
  readonly rows: readonly RowGroup[];
  readonly tables: SlotTables;
}

/**
 * The rows of a batch, if they belong to several grid points, and the slots of these weights share their tables. If not, an op
 * runs once for each run of rows.
 */
export function groupedRows(rows: BatchRows, weights: readonly (Parameter | null)[]): GroupedRows | null {
  if (rows === null || "places" in rows) return null;
  if (rows.reduce((sum, { count }) => sum + (count > 0 ? 1 : 0), 0) < 2) return null;
  let tables: SlotTables | null = null;
  for (const weight of weights) {
    if (weight?.kind === "moved") return null;
    if (weight?.kind !== "slots") continue;
    if (weight.stack === undefined || (tables !== null && weight.stack.tables !== tables)) return null;
    tables = weight.stack.tables;
  }
  return tables === null ? null : { rows, tables };
}

/** One layout of a weight for a grouped kernel; null if a dispatch does not reach all of it. */
export function reach(weight: Parameter, layout: keyof WeightTensors): Reached | null {
  if (weight.kind === "slots") {
    const first = weight.stack?.first[layout] ?? null;
    const stride = weight.stack?.strides[layout] ?? null;
    return first === null || stride === null ? null : { first, stride };
  }
  if (weight.kind === "moved") return null;
  const own = weight.kind === "forward" ? weight.weight[layout] : layout === "rows" ? weight.tensor : weight.panels;
  return own === null || own.segments.length !== 1 ? null : { first: own, stride: 0 };
}

/** Whether no tensor is cut: a table counts rows from the first one. */
export function areWhole(tensors: readonly Tensor[]): boolean {
  return tensors.every(({ segments }) => segments.length === 1);
}
