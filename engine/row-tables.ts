// Tables that tell a grouped kernel which slot its rows use. The rows of a batch are runs of one grid point each. A table cuts
// every run into tiles of at most `height` rows, so that no tile has rows of two points; one workgroup computes one tile. With
// height 1 there is an entry for each row.
//
// A pass of a model uses a table of each height in all its layers. The next pass often has the same runs: then it finds the
// table here, on the device already.
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
import { keep } from "./scope.ts";
import { fromArray, type Tensor } from "./tensor.ts";

/** Numbers of an entry: first row, number of rows, slot. */
const entryLength = 3;

/** Tables kept. A pass uses three or four heights, and decode steps of a sweep have a few dozen sets of runs. */
const mostTables = 64;

/** Makes and keeps the tables of one set of slots. */
export class RowTables implements SlotTables {
  readonly #backend: Backend;
  #slotOf: ReadonlyMap<number, number> = new Map();
  /** By height and runs, the oldest first. */
  readonly #kept = new Map<string, TileTable>();
  /** The same by the list of runs itself, which all ops of a pass are given. */
  #ofRows = new WeakMap<readonly RowGroup[], Map<number, TileTable>>();

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
    if (found !== undefined && !found.tiles.storage.isFreed) return found;
    expectWholeGroups(name, rows, total, this.#slotOf);
    const made = this.#tableOf(rows, height);
    if (made === null) return null;
    if (known === undefined) this.#ofRows.set(rows, new Map([[height, made]]));
    else known.set(height, made);
    return made;
  }

  free(): void {
    for (const { tiles } of this.#kept.values()) tiles.free();
    this.#kept.clear();
  }

  #tableOf(rows: readonly RowGroup[], height: number): TileTable | null {
    let key = String(height);
    for (const { count, point } of rows) key += ` ${count} ${this.#slotOf.get(point)}`;
    const found = this.#kept.get(key);
    if (found !== undefined) return found;
    const entries: number[] = [];
    for (const { start, count, point } of rows)
      for (let first = start; first < start + count; first += height)
        entries.push(first, Math.min(height, start + count - first), this.#slotOf.get(point) ?? 0);
    if (entries.length * bytesPerElement.u32 > this.#backend.limits.maxBufferBytes) return null;
    const label = memoryLabel("perturbed weights", "slots of rows");
    const tiles = keep(fromArray(this.#backend, entries, [entries.length], "u32", label));
    const made = { tiles, count: entries.length / entryLength };
    for (const [oldest, table] of this.#kept) {
      if (this.#kept.size < mostTables) break;
      table.tiles.free();
      this.#kept.delete(oldest);
    }
    this.#kept.set(key, made);
    return made;
  }
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
