// Batches for the forward pass: the tokens of many sequences, packed one after another without padding. Spans say which keys
// each token sees; there is no mask matrix.
import { type Backend, type BatchRows, causalSpans, fromArray, type RowGroup, type Tensor } from "../engine/index.ts";

export interface TokenIds {
  readonly tensor: Tensor; // [T] u32
  /**
   * The same ids on the host, needed for the gradient of the embedding; null for ids that were sampled on the device.
   */
  readonly host: Uint32Array | null;
}

/**
 * The tokens of a batch whose final states are wanted. The last layer need not compute the others beyond their keys and
 * values.
 */
export interface BatchOutputs {
  /** Their places in the batch, ascending; with a backward pass each occurs once. */
  readonly indices: Uint32Array; // [N]
  /** `spans`, `querySpans`, `rows` and `sequences` of a batch, for these tokens as queries. */
  readonly spans: Tensor; // [N, 4] u32
  readonly querySpans: Tensor | null; // [S, 2] u32
  readonly rows: BatchRows;
  readonly sequences?: number;
}

/** One forward pass's tokens. */
export interface Batch {
  readonly ids: TokenIds; // [T]
  /** Each token's position in its sequence, from 0. In a decode step that is replayed the numbers change, not the array. */
  readonly positions: Uint32Array; // [T]
  /** For each token, the keys that it sees: {prefixStart, prefixLength, ownStart, length}. */
  readonly spans: Tensor; // [T, 4] u32
  /** For each key, the queries that see it: {first, count}. Needed for gradients only. */
  readonly querySpans: Tensor | null; // [T, 2] u32
  /** Which grid point each token belongs to; null with plain weights. */
  readonly rows: BatchRows;
  /** How many sequences there are, if keys are cached: attention is faster if it knows that they have many tokens each. */
  readonly sequences?: number;
  /** Default: the final states of all tokens are wanted. */
  readonly outputs?: BatchOutputs;
}

/**
 * Makes a batch of whole sequences that attend within themselves: for scoring and training. Call inside a scope.
 * @param rows    which grid point each token belongs to; null with plain weights
 * @param wanted  places of the tokens whose final states are wanted, ascending; null (the default) for all
 */
export function packSequences(
  backend: Backend,
  sequences: readonly ArrayLike<number>[],
  rows: readonly RowGroup[] | null = null,
  wanted: readonly number[] | null = null,
): Batch {
  const total = sequences.reduce((sum, ids) => sum + ids.length, 0);
  const ids = new Uint32Array(total);
  const positions = new Uint32Array(total);
  let start = 0;
  for (const sequence of sequences) {
    const { length } = sequence;
    ids.set(sequence, start);
    for (let position = 0; position < length; position++) positions[start + position] = position;
    start += length;
  }
  return packDistinct(backend, { ids, positions, ...causalSpans(sequences.map(({ length }) => length)) }, wanted, rows);
}

/** The distinct tokens of packed sequences, and where each token of the whole batch is among them. */
export interface DistinctTokens {
  readonly ids: Uint32Array; // [M]
  readonly positions: Uint32Array; // [M]
  readonly spans: Uint32Array; // [M, 4]
  /** For each token as a key, the tokens that see it: {first, count}. */
  readonly querySpans: Uint32Array; // [M, 2]
  /** For each token of the sequences, one after another, its place in `ids`. */
  readonly places: Uint32Array; // [T]
}

/** A sequence, and what it has in common with one that is kept whole. */
interface Kept {
  readonly list: Uint32Array;
  /** Which sequence; −1 if this one is kept whole. */
  owner: number;
  /** How many tokens, from the first on. */
  shared: number;
  /** Where its own tokens begin. */
  start: number;
}

/**
 * Keeps one copy of the tokens that sequences have in common from their start on. Such tokens have the same states, whatever
 * follows. They are shared only with a sequence that is kept whole, because a token names its keys by two runs; a sequence is kept
 * whole if the others save more tokens by it than it costs. After it come those that share with it, the longest part first: so
 * the tokens that see a key are neighbours, as the backward pass needs them.
 */
export function distinctTokens(sequences: readonly ArrayLike<number>[]): DistinctTokens {
  const kept = ownersOf(sequences.map((sequence) => Uint32Array.from(sequence)));
  const ids: number[] = [];
  const positions: number[] = [];
  const spans: number[] = [];
  const querySpans: number[] = [];
  const append = (sequence: Kept, prefixStart: number): void => {
    const { list, shared } = sequence;
    sequence.start = ids.length;
    const end = sequence.start + list.length - shared;
    for (let t = shared; t < list.length; t++) {
      querySpans.push(ids.length, end - ids.length);
      ids.push(list[t]);
      positions.push(t);
      spans.push(prefixStart, shared, sequence.start, t + 1);
    }
  };
  for (const [i, whole] of kept.entries()) {
    if (whole.owner >= 0) continue;
    append(whole, 0);
    const members = kept.filter(({ owner }) => owner === i).sort((one, other) => other.shared - one.shared);
    for (const member of members) {
      append(member, whole.start);
      for (let t = whole.start; t < whole.start + member.shared; t++) querySpans[2 * t + 1] = ids.length - t;
    }
  }
  const places: number[] = [];
  for (const { list, owner, shared, start } of kept)
    for (let t = 0; t < list.length; t++) places.push(t < shared ? kept[owner].start + t : start + t - shared);
  return {
    ids: Uint32Array.from(ids),
    positions: Uint32Array.from(positions),
    spans: Uint32Array.from(spans),
    querySpans: Uint32Array.from(querySpans),
    places: Uint32Array.from(places),
  };
}

/** Which sequences are kept whole, and with which of them the others share their first tokens. */
function ownersOf(lists: readonly Uint32Array[]): Kept[] {
  const kept = lists.map((list): Kept => ({ list, owner: -1, shared: 0, start: 0 }));
  const inCommon = new Uint32Array(lists.length);
  for (const [i, one] of kept.entries()) {
    let gain = 0;
    for (let j = i + 1; j < kept.length; j++) {
      inCommon[j] = commonLength(one.list, lists[j]);
      gain += Math.max(0, inCommon[j] - kept[j].shared);
    }
    if (gain <= one.shared) continue;
    Object.assign(one, { owner: -1, shared: 0 });
    for (let j = i + 1; j < kept.length; j++)
      if (inCommon[j] > kept[j].shared) Object.assign(kept[j], { owner: i, shared: inCommon[j] });
  }
  return kept;
}

/**
 * Makes a batch of distinct tokens. Call inside a scope.
 * @param wanted  places of the tokens whose final states are wanted, ascending; without a backward pass one may occur several times.
 *                Null: all
 * @param rows    as in `packSequences`
 */
export function packDistinct(
  backend: Backend,
  { ids, positions, spans, querySpans }: Omit<DistinctTokens, "places">,
  wanted: readonly number[] | null,
  rows: readonly RowGroup[] | null = null,
): Batch {
  return {
    ids: { tensor: fromArray(backend, ids, [ids.length], "u32", "ids"), host: ids },
    positions,
    spans: fromArray(backend, spans, [ids.length, 4], "u32", "spans"),
    querySpans: fromArray(backend, querySpans, [ids.length, 2], "u32", "querySpans"),
    rows,
    ...(wanted === null ? {} : { outputs: outputsOf(backend, wanted, spans, querySpans, rows) }),
  };
}

/** The same tokens `copies` times, one after another; no copy sees another's keys. */
export function repeatedTokens(
  { ids, positions, spans, querySpans, places }: DistinctTokens,
  copies: number,
): DistinctTokens {
  /** Copy c has c · even more at even places, and c · odd at odd ones. */
  const repeat = (values: Uint32Array, even: number, odd: number): Uint32Array => {
    const { length } = values;
    const all = new Uint32Array(copies * length);
    for (let copy = 0; copy < copies; copy++) {
      const first = copy * length;
      for (let i = 0; i < length; i++) all[first + i] = values[i] + copy * (i % 2 === 0 ? even : odd);
    }
    return all;
  };
  const { length } = ids;
  return {
    ids: repeat(ids, 0, 0),
    positions: repeat(positions, 0, 0),
    // {prefixStart, prefixLength, ownStart, length}
    spans: repeat(spans, length, 0),
    querySpans: repeat(querySpans, length, 0),
    places: repeat(places, length, length),
  };
}

function commonLength(a: Uint32Array, b: Uint32Array): number {
  let t = 0;
  while (t < a.length && t < b.length && a[t] === b[t]) t++;
  return t;
}

/** The spans of these tokens. @returns  [N, 4] */
export function spansOf(tokens: ArrayLike<number>, spans: ArrayLike<number>): Uint32Array {
  const own = new Uint32Array(4 * tokens.length);
  let to = 0;
  for (const token of Array.from(tokens))
    for (let from = 4 * token; from < 4 * token + 4; from++, to++) own[to] = spans[from];
  return own;
}

/** The wanted tokens of packed sequences. A key is seen by those of its queries that are wanted: neighbours again. */
function outputsOf(
  backend: Backend,
  wanted: readonly number[],
  spans: Uint32Array,
  querySpans: Uint32Array,
  rows: readonly RowGroup[] | null,
): BatchOutputs {
  const own = spansOf(wanted, spans);
  /** before[t]: how many wanted tokens come before token t. */
  const before = new Uint32Array(spans.length / 4 + 1);
  for (const token of wanted) before[token + 1]++;
  for (let t = 0; t + 1 < before.length; t++) before[t + 1] += before[t];
  const seenBy = new Uint32Array(querySpans.length);
  for (let key = 0; key < seenBy.length / 2; key++) {
    const first = querySpans[2 * key];
    seenBy[2 * key] = before[first];
    seenBy[2 * key + 1] = before[first + querySpans[2 * key + 1]] - before[first];
  }
  const indices = Uint32Array.from(wanted);
  return {
    indices,
    spans: fromArray(backend, own, [wanted.length, 4], "u32", "spans"),
    querySpans: fromArray(backend, seenBy, [seenBy.length / 2, 2], "u32", "querySpans"),
    rows: rows === null ? { total: before.length - 1, places: indices } : groupsOf(rows, before),
  };
}

/** The groups of the wanted tokens. @param before  before[t]: how many wanted tokens come before token t */
function groupsOf(rows: readonly RowGroup[], before: Uint32Array): BatchRows {
  const groups = rows.map(({ start, count, point }): RowGroup => {
    return { start: before[start], count: before[start + count] - before[start], point };
  });
  return groups.filter(({ count }) => count > 0);
}
