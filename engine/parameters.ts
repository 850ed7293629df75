// The weights that an op is given: a plain tensor, or one tensor per perturbed policy, of which each row of the batch
// uses its own. Models pass both through without looking inside, so they need no code for directions.
import { scope } from "./scope.ts";
import type { IndexRange, Tensor } from "./tensor.ts";

/** One weight matrix in the forms that ops read. */
export interface WeightTensors {
  /** Hugging Face's layout, [out, in] (or [V, C], or [C]). Absent if only the forward product reads it. */
  readonly rows: Tensor | null;
  /**
   * The forward product's copy: panels of eight outputs, [⌈out/8⌉, in, 8], f32 or f16. Absent for weights that are not
   * a factor of a product. In f16 an embedding is read from its panels too, so that it needs no rows.
   */
  readonly panels: Tensor | null;
}

/** A weight in f16, in both layouts: the products of a linear layer, or of the head, then use f16 operands. */
export interface HalfCopies {
  readonly rows: Tensor;
  readonly panels: Tensor;
}

/** Operands of products, and the keys and values of attention: f32, or f16 with sums in f32. */
export type OperandPrecision = "f32" | "f16";

/** Tiles of rows, none of which has rows of two points: {first row, number of rows, slot} each. */
export interface TileTable {
  readonly tiles: Tensor; // [count · 3] u32
  readonly count: number;
}

/** The tables of one set of slots (row-tables.ts). */
export interface SlotTables {
  /**
   * The table of these runs, in tiles of at most `height` rows; null if it does not fit a buffer. It stays valid until the next
   * call.
   * @throws Error when the runs do not cover the rows 0 … total − 1, or a point has no slot
   */
  tilesOf(name: string, rows: readonly RowGroup[], total: number, height: number): TileTable | null;
}

/**
 * Slots of one weight that lie in one buffer at equal distances. So one dispatch reaches all of them, and each of its workgroups
 * finds the slot of its rows in a table (row-tables.ts).
 */
export interface SlotStack {
  /** Slot 0. */
  readonly first: WeightTensors;
  /** Elements from one slot to the next; null if this layout does not exist, or its slots lie in several buffers. */
  readonly strides: { readonly rows: number | null; readonly panels: number | null };
  readonly tables: SlotTables;
}

export type Parameter =
  | {
      readonly kind: "tensor";
      readonly tensor: Tensor;
      readonly panels: Tensor | null;
      /**
       * If present, `panels` is null. A linear layer reads these in place of the weight; so does the head, if the
       * adapter has matrix units. Default: none.
       */
      readonly half?: HalfCopies;
    }
  /** One copy that the forward pass alone reads, the same for all rows of the batch: no gradient flows to it. */
  | { readonly kind: "forward"; readonly shape: readonly number[]; readonly weight: WeightTensors }
  /** One perturbed copy per grid point in progress. Without `stack` ops run once for each run of rows of one point. */
  | {
      readonly kind: "slots";
      readonly shape: readonly number[];
      readonly slots: ReadonlyMap<number, WeightTensors>;
      readonly stack?: SlotStack;
    }
  | MovedParameter;

/**
 * Perturbed weights that exist only while a product reads them: a tile at a time is made from θ and the point's directions
 * (moved-weights.ts). Ops run once for each run of rows.
 */
export interface MovedParameter {
  readonly kind: "moved";
  readonly shape: readonly number[];
  readonly dtype: "f32" | "f64";
  /** Whether it is a matrix in f16 panels. */
  readonly isHalf: boolean;
  /** Points that have weights. */
  readonly points: ReadonlySet<number>;
  /**
   * The weight of a point, or some rows of it: new tensors of the innermost scope. A matrix is in panels alone.
   * @param range  begins at a multiple of 8; null for all rows
   */
  tile(point: number, range: IndexRange | null): WeightTensors;
  /** y[t] = row ids[t] of the weight of a point. */
  lookUp(point: number, ids: Tensor, y: Tensor): void;
}

/**
 * Turns a plain tensor into a parameter, and returns a parameter as it is: ops call it on the weights they are given.
 */
export function asParameter(weight: Tensor | Parameter): Parameter {
  return "kind" in weight ? weight : { kind: "tensor", tensor: weight, panels: null };
}

/** Rows start … start + count − 1 of a batch belong to grid point `point`. */
export interface RowGroup {
  readonly start: number;
  readonly count: number;
  readonly point: number;
}

/**
 * Rows that were selected from a longer batch: row i was row `places[i]` of `total`. The gradient of a plain weight is a sum
 * over rows, cut into chunks by their number. With selected rows it is cut where the sum over all rows is: leaving out rows
 * whose gradient is 0 then changes no bit of it.
 */
export interface SelectedRows {
  readonly total: number;
  /** Ascending. */
  readonly places: Uint32Array;
}

/**
 * Which grid point each row of a batch belongs to, as runs of rows; with plain weights, where selected rows were in the
 * whole batch. It is a property of the batch, never of the weights; null for all rows of a batch with plain weights.
 */
export type BatchRows = readonly RowGroup[] | SelectedRows | null;

/** The selection, if rows are one. */
export function selectionOf(rows: BatchRows): SelectedRows | null {
  return rows !== null && "places" in rows ? rows : null;
}

/** The runs of a batch's rows that lie in a range, counted from its start. */
export function sliceBatchRows(rows: BatchRows, { start, count }: IndexRange): BatchRows {
  // Selected rows have plain weights, which need no groups.
  if (rows === null || "places" in rows) return null;
  return rows.flatMap((group) => {
    const from = Math.max(group.start, start);
    const to = Math.min(group.start + group.count, start + count);
    return to > from ? [{ start: from - start, count: to - from, point: group.point }] : [];
  });
}

/** The runs of some of a batch's rows, of which `places` are the numbers, ascending. */
export function selectBatchRows(rows: BatchRows, places: Uint32Array): BatchRows {
  if (rows === null || "places" in rows) return null;
  const selected: { start: number; count: number; readonly point: number }[] = [];
  let group = 0;
  for (const [row, place] of places.entries()) {
    while (place >= rows[group].start + rows[group].count) group++;
    const { point } = rows[group];
    const last = selected.at(-1);
    if (last?.point === point) last.count++;
    else selected.push({ start: row, count: 1, point });
  }
  return selected;
}

/** Weights by Hugging Face's names. */
export interface Weights {
  /** The dtype of all weights: f32, or f64 on the plain backend, for references. */
  readonly dtype: "f32" | "f64";
  /** Whether they are slots, one per grid point: ops then need the batch's rows. */
  readonly isPerturbed: boolean;
  /**
   * f16: matrices are f16 panels. A model then also rounds what products and attention read to f16. Default f32.
   */
  readonly operands?: OperandPrecision;
  get(name: string): Parameter;
}

/** The shape of the weight, in Hugging Face's layout. */
export function shapeOfParameter(parameter: Parameter): readonly number[] {
  return parameter.kind === "tensor" ? parameter.tensor.shape : parameter.shape;
}

/** Whether products with this weight read f16 panels. */
export function hasHalfPanels(parameter: Parameter): boolean {
  if (parameter.kind === "tensor") return false;
  if (parameter.kind === "moved") return parameter.isHalf;
  const weights = parameter.kind === "forward" ? [parameter.weight] : parameter.slots.values();
  for (const { panels } of weights) return panels?.dtype === "f16";
  return false;
}

/**
 * Calls `body` once per run of rows that share their weights; without slots, once with the whole batch. Weights that are made
 * for the call are freed after it.
 */
export function forEachGroup(
  name: string,
  parameter: Parameter,
  rows: BatchRows,
  total: number,
  body: (weight: WeightTensors, start: number, count: number) => void,
): void {
  if (parameter.kind === "tensor") {
    body({ rows: parameter.tensor, panels: parameter.panels }, 0, total);
    return;
  }
  if (parameter.kind === "forward") {
    body(parameter.weight, 0, total);
    return;
  }
  forEachRun(name, parameter, rows, total, ({ start, count, point }) => {
    if (parameter.kind === "moved") {
      if (count > 0) scope(() => body(parameter.tile(point, null), start, count));
      return;
    }
    const slot = parameter.slots.get(point);
    if (slot !== undefined) body(slot, start, count);
  });
}

/** Calls `body` once per run of rows of one grid point. */
export function forEachRun(
  name: string,
  parameter: Parameter & { readonly kind: "slots" | "moved" },
  rows: BatchRows,
  total: number,
  body: (run: RowGroup) => void,
): void {
  if (rows === null || "places" in rows) throw new Error(`${name}: perturbed weights need the batch's rows`);
  expectWholeGroups(name, rows, total, parameter.kind === "moved" ? parameter.points : parameter.slots);
  for (const run of rows) body(run);
}

/** @throws Error when a row belongs to no grid point or to several, or a point has no slot */
export function expectWholeGroups(
  name: string,
  rows: readonly RowGroup[],
  total: number,
  slots: { has(point: number): boolean },
): void {
  let next = 0;
  for (const { start, count, point } of rows) {
    if (!slots.has(point)) throw new Error(`${name}: no weights for grid point ${point}`);
    if (start !== next) throw new Error(`${name}: rows ${next} to ${start} belong to no grid point`);
    next = start + count;
  }
  if (next !== total) throw new Error(`${name}: rows ${next} to ${total} belong to no grid point`);
}
