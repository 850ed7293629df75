// Logits in chunks, and the sums that a softmax needs. The whole [T, V] is never stored: rows are processed in chunks,
// the vocabulary in chunks of columns, each in a scratch tensor. If the weight has copies in f16 and the adapter has
// matrix units, hidden states are rounded to f16 too, and the products use matrix units; logits stay f32.
//
// Sums over the vocabulary are taken in blocks of `blockColumns` columns. A fixed tree reduces each block, and the
// blocks of a row are joined in ascending order. A chunk is a whole number of blocks, so the order of every sum depends
// on V alone: neither on the number of rows nor on how the work was cut.

import type { Backend } from "../../backends/backend.ts";
import { bytesPerElement, type DType } from "../../dtype.ts";
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { memoryLabel } from "../../memory-purpose.ts";
import { expectShape } from "../../op.ts";
import {
  type BatchRows,
  forEachGroup,
  forEachRun,
  type HalfCopies,
  hasHalfPanels,
  type Parameter,
  shapeOfParameter,
  type WeightTensors,
} from "../../parameters.ts";
import { groupedRows, reach } from "../../row-tables.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, type IndexRange, type Shape, type Tensor } from "../../tensor.ts";
import { multiplyForwardSlots } from "../matmul/grouped.ts";
import { toHalf } from "../matmul/half.ts";
import { multiplyForward, packPanels, panelShape } from "../matmul/matmul.ts";
import { matrixUnits } from "../shared/matrix-units.ts";
import * as cpu from "./logits.cpu.ts";

/** Columns that one tree sums. It is part of the order of the sums. */
export const blockColumns = 1024;
/** Largest number of columns of a chunk, and bytes of its scratch tensor. */
const mostColumns = 16 * blockColumns;
const mostBytes = 16 * 2 ** 20;
/** Largest number of rows of a chunk: they are an axis of the grid. */
const mostRows = 32768;

/** Invocations per block of a row: the width of the software drivers' vectors; on a GPU, of two subgroups. */
const lanes: Readonly<Record<Backend["style"], number>> = { plain: 1, lavapipe: 8, swiftshader: 4, gpu: 64 };
export const laneConstants = (backend: Backend): { LANES: number } => ({ LANES: lanes[backend.style] });
export const laneVariants = Object.values(lanes).map((LANES) => ({ LANES }));

/** Chunk sizes, if smaller than usual. */
export interface ChunkSettings {
  rowChunk?: number;
  /** A multiple of `blockColumns`. */
  columnChunk?: number;
}

/** How [T, V] is cut: column chunks by V and the buffer limit alone, row chunks so that the scratch stays small. */
export function cutIntoChunks(
  backend: Pick<Backend, "limits">,
  rows: number,
  vocabulary: number,
  dtype: DType,
  settings: ChunkSettings = {},
): { rowChunks: IndexRange[]; columnChunks: IndexRange[] } {
  const bytes = bytesPerElement[dtype];
  const fitting = Math.floor(backend.limits.maxBufferBytes / bytes / blockColumns) * blockColumns;
  const columnChunk = settings.columnChunk ?? Math.min(mostColumns, fitting);
  if (columnChunk % blockColumns !== 0 || columnChunk <= 0)
    throw new ShapeError(
      `logits: columnChunk: expected a multiple of ${blockColumns}, got ${columnChunk}. Sums over the vocabulary go by blocks.`,
    );
  const columnChunks = cutIntoPieces(vocabulary, columnChunk);
  const width = paddedWidth(columnChunks[0].count);
  const rowsThatFit = Math.floor(mostBytes / bytes / width / 64) * 64; // slices from multiples of 64 rows on stay aligned
  const rowChunk = settings.rowChunk ?? Math.max(64, Math.min(mostRows, rowsThatFit));
  return { rowChunks: cutIntoPieces(rows, rowChunk), columnChunks };
}

/** [0, total) in pieces of `most`; one empty piece if total is 0. */
function cutIntoPieces(total: number, most: number): IndexRange[] {
  const pieces: IndexRange[] = [];
  for (let start = 0; start < total || pieces.length === 0; start += most)
    pieces.push({ start, count: Math.min(most, total - start) });
  return pieces;
}

/**
 * The smallest temperature above 0 that logits are divided by. Far below it (from 3e-38 on) the quotients overflow f32.
 * At this temperature a token whose logit is 0.001 below the largest is already e¹⁰⁰ times less likely, so greedy gives
 * the same tokens.
 */
export const lowestTemperature = 1e-5;

/** @throws Error when the temperature is not a finite number of at least `lowestTemperature` */
export function expectTemperature(what: string, temperature: number): void {
  if (!(temperature >= lowestTemperature && temperature < Number.POSITIVE_INFINITY))
    throw new Error(`${what}: temperature: expected a number from ${lowestTemperature} on, got ${temperature}.`);
}

/** Width of a chunk's tensor: whole panels, so that every row can be read in fours. */
function paddedWidth(columns: number): number {
  return 8 * Math.ceil(columns / 8);
}

/** Rows of the weight [V, C]: the size of the vocabulary. */
export function vocabularyOf(weight: Parameter): number {
  return shapeOfParameter(weight)[0];
}

export type PlainWeight = Parameter & { readonly kind: "tensor" };

export function plainWeight(tensor: Tensor, panels: Tensor | null = null, half?: HalfCopies): PlainWeight {
  return { kind: "tensor", tensor, panels, ...(half === undefined ? {} : { half }) };
}

/** @throws ShapeError when copies in f16 are not of the weight's shape */
export function expectHalfCopies(
  what: string,
  weight: Shape,
  { rows, panels }: Record<"rows" | "panels", Shape>,
): void {
  expectShape(`${what}: f16 rows`, rows, weight, "They are a copy of the weight.");
  expectShape(`${what}: f16 panels`, panels, panelShape(weight[0], weight[1]), "They are a copy of the weight.");
}

/**
 * Logits of some columns: hidden · weight[columns]ᵀ, not divided by a temperature. A new tensor of the innermost scope.
 * @param hidden  [T, C] f32; or f16, for a weight in f16 panels
 * @returns       [T, columns.count rounded up to a multiple of 8]; the content beyond the columns is undefined
 */
export function logitsOf(hidden: Tensor, weight: Parameter, rows: BatchRows, columns: IndexRange): Tensor {
  const { backend } = hidden;
  const dtype = hidden.dtype === "f16" ? "f32" : hidden.dtype;
  const logits = empty(backend, [hidden.rows, paddedWidth(columns.count)], dtype, memoryLabel("head", "logits"));
  const half = halfCopiesOf(weight, backend);
  if (half !== null) {
    if (hidden.rows > 0) scope(() => multiplyForward(toHalf(hidden), slicePanels(half.panels, columns), null, logits));
    return logits;
  }
  scope(() => {
    const states = operandOf(hidden, weight);
    const group = groupedRows(rows, [weight]);
    const panels = group === null ? null : reach(weight, "panels");
    if (group !== null && panels !== null) {
      const own = { ...panels, first: slicePanels(panels.first, columns) };
      if (multiplyForwardSlots(states, own, null, logits, null, group)) return;
    }
    if (weight.kind === "moved") {
      forEachRun("logits", weight, rows, hidden.rows, ({ start, count, point }) => {
        if (count === 0) return;
        scope(() => {
          const { panels } = weight.tile(point, columns);
          const own = { panels, rows: null };
          const all = { start: 0, count: columns.count };
          multiplyForward(states.sliceRows(start, count), panelsOf(own, all), null, logits.sliceRows(start, count));
        });
      });
      return;
    }
    forEachGroup("logits", weight, rows, hidden.rows, (own, start, count) => {
      if (count === 0) return;
      scope(() =>
        multiplyForward(states.sliceRows(start, count), panelsOf(own, columns), null, logits.sliceRows(start, count)),
      );
    });
  });
  return logits;
}

/**
 * The f16 copies that products with a head's weight read in its place; null if it has none, or if the adapter has no
 * matrix units: f16 would then save less time than it costs in accuracy.
 */
export function halfCopiesOf(weight: Parameter, backend: Backend): HalfCopies | null {
  return weight.kind === "tensor" && weight.half !== undefined && matrixUnits(backend) !== null ? weight.half : null;
}

function slicePanels(panels: Tensor, { start, count }: IndexRange): Tensor {
  return panels.sliceRows(start / 8, Math.ceil(count / 8));
}

/** Hidden states as the product with this weight reads them: rounded to f16 if the weight is f16 panels. */
export function operandOf(hidden: Tensor, weight: Parameter): Tensor {
  return hasHalfPanels(weight) && hidden.dtype !== "f16" ? toHalf(hidden) : hidden;
}

function panelsOf({ panels, rows: weight }: WeightTensors, columns: IndexRange): Tensor {
  if (panels !== null) return slicePanels(panels, columns);
  const { start, count } = columns;
  if (weight === null) throw new Error("logits: this weight has neither rows nor panels");
  const packed = empty(
    weight.backend,
    panelShape(count, weight.rowSize),
    weight.dtype,
    memoryLabel("head", "head panels"),
  );
  packPanels(weight.sliceRows(start, count), packed);
  return packed;
}

const logitSumsKernel = defineKernel({
  name: "logitSums",
  axes: { rows: "map" },
  bindings: { logits: { access: "read", axis: "rows" }, sums: { access: "write", axis: "rows" } },
  params: { columns: "u32", width: "u32", blockColumns: "u32", firstBlock: "u32", blocks: "u32", temperature: "f32" },
  cpu: cpu.logitSums,
  wgsl: new URL("./logits-sums.wgsl", import.meta.url),
  constants: { LANES: 64 },
  variants: laneVariants,
  workgroups: ({ rows, columns, blockColumns }) => [Math.ceil(columns / blockColumns), rows, 1],
});

/** The row of each pick, of each score and so on, where several belong to one row (`PickRows`). Without it, each has its own. */
export const pickRowParams = { hasRows: "u32", firstRow: "u32" } as const;

// Over the segments of logits, each dispatch does the picks of the rows that it holds.
const pickLogitsKernel = defineKernel({
  name: "pickLogits",
  axes: { picks: "map", source: "reduce" },
  bindings: {
    logits: { access: "read", axis: "source" },
    rowOf: { access: "read", axis: "picks" },
    targets: { access: "read", axis: "picks" },
    picked: { access: "update", axis: "picks" },
  },
  params: {
    ...pickRowParams,
    ...{ columns: "u32", width: "u32", firstColumn: "u32", temperature: "f32", absent: "f32" },
  },
  cpu: cpu.pickLogits,
  wgsl: new URL("./logits-pick.wgsl", import.meta.url),
  uses: ["pick-row"],
  workgroups: ({ picks }) => [Math.ceil(picks / 64)],
});

const logitScoresKernel = defineKernel({
  name: "logitScores",
  axes: { picks: "map", source: "reduce" },
  bindings: {
    sums: { access: "read", axis: "source" },
    rowOf: { access: "read", axis: "picks" },
    picked: { access: "read", axis: "picks" },
    logProbs: { access: "update", axis: "picks" },
    entropy: { access: "update", axis: "picks" },
    logSumExp: { access: "update", axis: "picks" },
  },
  params: { ...pickRowParams, blocks: "u32" },
  cpu: cpu.logitScores,
  wgsl: new URL("./logits-scores.wgsl", import.meta.url),
  uses: ["is-finite", "pick-row"],
  workgroups: ({ picks }) => [Math.ceil(picks / 64)],
});

/** Params of the kernels that process a chunk's columns in blocks. */
export function columnParams(
  logits: Tensor,
  { count }: IndexRange,
): { columns: number; width: number; blockColumns: number } {
  return { columns: count, width: logits.rowSize, blockColumns };
}

/** Per row, three sums per block of the vocabulary: {m, Σ e^(z − m), Σ (z − m)·e^(z − m)}, m the block's largest z. */
export function emptySums(hidden: Tensor, rows: number, vocabulary: number): Tensor {
  return empty(
    hidden.backend,
    [rows, Math.ceil(vocabulary / blockColumns) * 3],
    hidden.dtype,
    memoryLabel("head", "logit sums"),
  );
}

/** Writes the sums of a chunk's columns, z = logits / temperature, into `sums` (see emptySums). */
export function sumLogits(logits: Tensor, sums: Tensor, columns: IndexRange, temperature: number): void {
  run(
    logitSumsKernel,
    { logits, sums },
    {
      ...columnParams(logits, columns),
      firstBlock: columns.start / blockColumns,
      blocks: sums.rowSize / 3,
      temperature,
    },
    { constants: laneConstants(logits.backend) },
  );
}

/** Several picks from one row of logits. Without it there is one pick for each row, in the order of the rows. */
export interface PickRows {
  /** [P] u32: the row of each pick. */
  readonly rowOf: Tensor;
  /** The number of the first of the given rows; picks from other rows than those given are left as they are. Default 0 */
  readonly firstRow?: number;
}

/** Params and binding of `pickRowParams`. @param instead  any tensor of a row for each pick, bound if there is no table */
export function bindPickRows(
  picks: PickRows | null,
  instead: Tensor,
): { rowOf: Tensor; params: { hasRows: number; firstRow: number } } {
  if (picks === null) return { rowOf: instead, params: { hasRows: 0, firstRow: 0 } };
  return { rowOf: picks.rowOf, params: { hasRows: 1, firstRow: picks.firstRow ?? 0 } };
}

/**
 * picked[p] = logits[r, targets[p]] / temperature with r the row of pick p, if that column is in this chunk. A target outside
 * the vocabulary gives NaN.
 * @param logits   [R, ≥ columns.count]
 * @param targets  [P] u32
 * @param picked   [P]
 */
export function pickLogits(
  logits: Tensor,
  targets: Tensor,
  picked: Tensor,
  columns: IndexRange,
  temperature: number,
  picks: PickRows | null = null,
): void {
  const { count, start } = columns;
  const { rowOf, params } = bindPickRows(picks, targets);
  run(
    pickLogitsKernel,
    { logits, rowOf, targets, picked },
    { ...params, columns: count, width: logits.rowSize, firstColumn: start, temperature, absent: Number.NaN },
  );
}

/** The results per row once all its columns were processed. */
export interface LogitScores {
  /** Of the picked column: (z − m) − ln Σ e^(z − m). */
  readonly logProbs: Tensor;
  /** −Σ p ln p, nats. */
  readonly entropy: Tensor;
  /** m + ln Σ e^(z − m). */
  readonly logSumExp: Tensor;
}

/** Joins the blocks' sums, and scores the picked logits with them. All tensors are [P], one for each pick, except sums, [R, …]. */
export function scorePicked(
  sums: Tensor,
  picked: Tensor,
  { logProbs, entropy, logSumExp }: LogitScores,
  picks: PickRows | null = null,
): void {
  const { rowOf, params } = bindPickRows(picks, picked);
  run(
    logitScoresKernel,
    { sums, rowOf, picked, logProbs, entropy, logSumExp },
    { ...params, blocks: sums.rowSize / 3 },
  );
}

/**
 * @param given  tensors [P] for some of them. Default: new ones
 * @param picks  P. Default: as many as rows of `hidden`
 */
export function emptyScores(
  hidden: Tensor,
  given: Partial<Omit<LogitScores, "logSumExp">> = {},
  picks = hidden.rows,
): LogitScores {
  const make = (label: string): Tensor => empty(hidden.backend, [picks], hidden.dtype, label);
  return {
    logProbs: given.logProbs ?? make("logProbs"),
    entropy: given.entropy ?? make("entropy"),
    logSumExp: make("logSumExp"),
  };
}

export function sliceScores({ logProbs, entropy, logSumExp }: LogitScores, { start, count }: IndexRange): LogitScores {
  return {
    logProbs: logProbs.sliceRows(start, count),
    entropy: entropy.sliceRows(start, count),
    logSumExp: logSumExp.sliceRows(start, count),
  };
}
