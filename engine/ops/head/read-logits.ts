// One pass over the logits of some rows for all that is made of them: samples, scores, a divergence. Each reads the same chunk
// while it is there, so no logit is computed once for each.
import { noGradient } from "../../autograd.ts";
import { type BatchRows, type Parameter, selectBatchRows, sliceBatchRows } from "../../parameters.ts";
import { scope } from "../../scope.ts";
import type { IndexRange, Tensor } from "../../tensor.ts";
import { gatherRows } from "../gather/gather.ts";
import {
  blockColumns,
  type ChunkSettings,
  cutIntoChunks,
  emptySums,
  logitsOf,
  operandOf,
  sumLogits,
  vocabularyOf,
} from "./logits.ts";

export interface LogitsChunk {
  /**
   * [rows.count, columns.count rounded up to a multiple of 8], not divided by a temperature. Freed when the reader
   * returns.
   */
  readonly logits: Tensor;
  readonly rows: IndexRange;
  readonly columns: IndexRange;
}

/** What reads logits, z = logits / temperature. */
export interface LogitsReader {
  readonly temperature: number;
  /** Whether each chunk must hold all columns. Default: no. */
  readonly needsWholeRows?: boolean;
  /** Every chunk: for each chunk of rows its columns in ascending order. */
  read(chunk: LogitsChunk): void;
  /** Called for each chunk of rows after all its columns, if the reader reads rows a second time. */
  readonly again?: {
    /**
     * @param sums  of these rows (`emptySums`)
     * @returns     the places in the chunk of the rows to be read again, ascending; null for all of them
     */
    wanted(rows: IndexRange, sums: Tensor): Uint32Array | null;
    /** @param places  of the rows that are read again: those wanted; or null for all, if their logits are still there */
    begin(rows: IndexRange, places: Uint32Array | null): SecondRound;
  };
  /**
   * Called once all was read.
   * @param sums  of all rows
   * @returns     the results, tensors of the innermost scope
   */
  end(sums: Tensor): readonly Tensor[];
}

export interface SecondRound {
  /** The columns in ascending order. */
  read(logits: Tensor, columns: IndexRange): void;
  end(): void;
}

/**
 * Computes hidden · weightᵀ in chunks, and lets each reader read them. Forward only.
 * @param hidden  [R, C]
 * @param weight  [V, C]
 * @param rows    which grid point each row belongs to; null with a plain weight
 * @returns       the results of each reader
 */
export function readLogits(
  hidden: Tensor,
  weight: Parameter,
  rows: BatchRows,
  readers: readonly LogitsReader[],
  settings: ChunkSettings = {},
): (readonly Tensor[])[] {
  return readers.length === 0 ? [] : noGradient(() => readAll(hidden, weight, rows, readers, settings));
}

function readAll(
  hidden: Tensor,
  weight: Parameter,
  rows: BatchRows,
  readers: readonly LogitsReader[],
  settings: ChunkSettings,
): (readonly Tensor[])[] {
  const vocabulary = vocabularyOf(weight);
  const wholeRows = { ...settings, columnChunk: blockColumns * Math.ceil(vocabulary / blockColumns) };
  const { rowChunks, columnChunks } = cutIntoChunks(
    ...([hidden.backend, hidden.rows, vocabulary, hidden.dtype] as const),
    readers.some(({ needsWholeRows }) => needsWholeRows === true) ? wholeRows : settings,
  );
  /** Readers at one temperature have the same sums. */
  const sums = new Map<number, Tensor>();
  for (const { temperature } of readers)
    if (!sums.has(temperature)) sums.set(temperature, emptySums(hidden, hidden.rows, vocabulary));
  const sumsOf = ({ temperature }: LogitsReader): Tensor => sums.get(temperature) as Tensor;
  for (const part of rowChunks) {
    const own = sliceBatchRows(rows, part);
    const slice = (tensor: Tensor): Tensor => tensor.sliceRows(part.start, part.count);
    scope(() => {
      const states = operandOf(slice(hidden), weight);
      // If one chunk holds the vocabulary, its logits are still there in the second round.
      const whole = columnChunks.length === 1 ? logitsOf(states, weight, own, columnChunks[0]) : null;
      for (const columns of columnChunks)
        scope(() => {
          const logits = whole ?? logitsOf(states, weight, own, columns);
          for (const [temperature, all] of sums) sumLogits(logits, slice(all), columns, temperature);
          for (const reader of readers) reader.read({ logits, rows: part, columns });
        });
      for (const reader of readers) {
        if (reader.again === undefined) continue;
        const wanted = reader.again.wanted(part, slice(sumsOf(reader)));
        if (wanted?.length === 0) continue;
        const places = whole !== null || wanted?.length === part.count ? null : wanted;
        const again = places === null ? states : operandOf(gatherRows(slice(hidden), places), weight);
        const ofAgain = places === null ? own : selectBatchRows(own, places);
        const round = reader.again.begin(part, places);
        for (const columns of columnChunks)
          scope(() => round.read(whole ?? logitsOf(again, weight, ofAgain, columns), columns));
        round.end();
      }
    });
  }
  return readers.map((reader) => reader.end(sumsOf(reader)));
}
