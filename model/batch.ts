// Token batches as the forward pass takes them: tokens of many sequences packed one after another, without padding. Who
// sees whom is said by spans (the keys of each token), never by a mask matrix.
import { type Backend, type BatchRows, causalSpans, fromArray, rotaryTables, type Tensor } from "../engine/index.ts";
import type { Qwen2Config } from "./config.ts";

export interface TokenIds {
  readonly tensor: Tensor; // [T] u32
  /** Known to the host too, where a gradient of the embedding is wanted; null for ids that were sampled on the device. */
  readonly host: Uint32Array | null;
}

/** One forward pass's tokens. */
export interface Batch {
  readonly ids: TokenIds; // [T]
  /** Rotary angles of each token's position. */
  readonly cos: Tensor; // [T, D/2]
  readonly sin: Tensor; // [T, D/2]
  /** Of each token the keys it sees: {prefixStart, prefixLength, ownStart, length}. */
  readonly spans: Tensor; // [T, 4] u32
  /** Of each key the queries that see it: {first, count}. Needed for gradients only. */
  readonly querySpans: Tensor | null; // [T, 2] u32
  /** Which grid point each token belongs to; null with plain weights. */
  readonly rows: BatchRows;
}

/**
 * Makes a batch of whole sequences that attend within themselves: for scoring and training. Call inside a scope.
 * @param options.dtype  that of the weights: f64 on the plain backend, for yardsticks
 */
export function packSequences(
  backend: Backend,
  config: Qwen2Config,
  sequences: readonly ArrayLike<number>[],
  options: { rows?: BatchRows; dtype?: "f32" | "f64" } = {},
): Batch {
  const { rows = null, dtype = "f32" } = options;
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
  const { cos, sin } = rotaryTables(positions, config.headDim, config.ropeTheta);
  const half = config.headDim / 2;
  return {
    ids: { tensor: fromArray(backend, ids, [total], "u32", "ids"), host: ids },
    cos: fromArray(backend, cos, [total, half], dtype, "cos"),
    sin: fromArray(backend, sin, [total, half], dtype, "sin"),
    spans: fromArray(backend, spans, [total, 4], "u32", "spans"),
    querySpans: fromArray(backend, querySpans, [total, 2], "u32", "querySpans"),
    rows,
  };
}
