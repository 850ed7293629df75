// Batches for the forward pass: the tokens of many sequences, packed one after another without padding. Spans say which keys
// each token sees; there is no mask matrix.
import { type Backend, type BatchRows, causalSpans, fromArray, type Tensor } from "../engine/index.ts";

export interface TokenIds {
  readonly tensor: Tensor; // [T] u32
  /**
   * The same ids on the host, needed for the gradient of the embedding; null for ids that were sampled on the device.
   */
  readonly host: Uint32Array | null;
}

/** One forward pass's tokens. */
export interface Batch {
  readonly ids: TokenIds; // [T]
  /** Each token's position in its sequence, from 0. */
  readonly positions: Uint32Array; // [T]
  /** For each token, the keys that it sees: {prefixStart, prefixLength, ownStart, length}. */
  readonly spans: Tensor; // [T, 4] u32
  /** For each key, the queries that see it: {first, count}. Needed for gradients only. */
  readonly querySpans: Tensor | null; // [T, 2] u32
  /** Which grid point each token belongs to; null with plain weights. */
  readonly rows: BatchRows;
}

/**
 * Makes a batch of whole sequences that attend within themselves: for scoring and training. Call inside a scope.
 * @param rows  which grid point each token belongs to; null with plain weights
 */
export function packSequences(
  backend: Backend,
  sequences: readonly ArrayLike<number>[],
  rows: BatchRows = null,
): Batch {
  const total = sequences.reduce((sum, ids) => sum + ids.length, 0);
  const ids = new Uint32Array(total);
  const positions = new Uint32Array(total);
  const { spans, querySpans } = causalSpans(sequences.map(({ length }) => length));
  let start = 0;
  for (const sequence of sequences) {
    const { length } = sequence;
    ids.set(sequence, start);
    for (let position = 0; position < length; position++) positions[start + position] = position;
    start += length;
  }
  return {
    ids: { tensor: fromArray(backend, ids, [total], "u32", "ids"), host: ids },
    positions,
    spans: fromArray(backend, spans, [total, 4], "u32", "spans"),
    querySpans: fromArray(backend, querySpans, [total, 2], "u32", "querySpans"),
    rows,
  };
}
