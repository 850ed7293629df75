// The tokens of one forward pass of a generation, while they are collected: what the model computes, and which samples are
// drawn after which of them.
//
// Rows of one policy whose tokens are the same up to a place have the same states there, to the bit. So a token is computed once
// for all rows in the pass that have said the same up to it, and its keys and values are copied to the slots of the others. Each
// row draws its own sample from the shared state. Rows part where their tokens differ: from then on each has its own.
import type { RowGroup } from "../engine/index.ts";
import type { Dialogue, NextTurn, Text } from "./dialogue.ts";
import type { Drafted } from "./drafts.ts";
import type { CachedPrefix, CacheRun } from "./kv-cache.ts";

/** The run of no tokens. */
export const nowhere: CacheRun = { start: 0, length: 0 };

/** The prefix of a row that is not in the cache. */
export const noPrefix: CachedPrefix = { ...nowhere, users: 0, history: Number.NaN };

/** A turn that the dialogue has promised. */
export interface ComingTurn {
  /** Resolves when `arrived` is set; it does not reject. */
  readonly promise: Promise<void>;
  arrived: { readonly next: NextTurn } | { readonly thrown: unknown } | null;
}

/** A dialogue under way, or a text that is read. */
export interface Row {
  readonly dialogue: Dialogue;
  /** Null: it is a dialogue. */
  readonly text: Text | null;
  readonly prefixKey: string;
  prefix: CachedPrefix;
  own: CacheRun;
  /** All tokens after the prefix, and how many of them the cache holds. */
  readonly tokens: number[];
  computed: number;
  /** The name of the history that the computed tokens are; of no meaning while none are. */
  history: number;
  /** The prefix's tokens if this row computes them. */
  pendingPrefix: ArrayLike<number> | null;
  turn: number;
  /** The ids of the row's text so far, if the repetition penalty needs them. */
  seen: Uint32Array | null;
  answer: { ids: number[]; logProbs: number[]; entropies: number[] };
  /** Set while the next turn is a promise. */
  coming: ComingTurn | null;
}

/** Which tokens that rows have in common are computed once: all, those of passes in which a row begins, or none. */
export type Sharing = "all" | "beginnings" | "none";

/** The tokens of one pass, while they are collected. */
export class PassTokens {
  readonly ids: number[] = [];
  readonly positions: number[] = [];
  readonly slots: number[] = [];
  readonly spans: number[] = [];
  readonly groups: OpenGroup[] = [];
  readonly drawings: Drawing[] = [];
  /** The texts, and the tokens of their wanted places that are in the pass: from the `first` of them on. */
  readonly readings: { readonly text: Text; readonly first: number; readonly tokens: readonly number[] }[] = [];
  /** After which token of the pass each sample is drawn. Several samples may follow one token. */
  readonly sampledAt: number[] = [];
  /** Slots whose keys and values the pass computes, and slots that get a copy of each. */
  readonly copies: { readonly from: number[]; readonly to: number[] } = { from: [], to: [] };
  /** Tokens that were added: those that are computed, and those that share another's. */
  added = 0;
  readonly #shares: Sharing;
  readonly #firstHistory: number;
  /** The token of the pass that follows a history, by the history's place (`#placeOf`) and the token's id. */
  readonly #followers = new Map<number, number>();
  readonly #placesOfEarlier = new Map<number, number>();

  /**
   * @param shares        which tokens are computed once for all rows with the same history
   * @param firstHistory  names of histories from here on are free: the pass uses as many as it has tokens
   */
  constructor(shares: Sharing, firstHistory: number) {
    this.#shares = shares;
    this.#firstHistory = firstHistory;
  }

  /**
   * Adds what a row waits for: its prefix, if it computes that, and its tokens that the cache does not hold.
   * @param most  of these tokens
   */
  add(row: Row, most = Number.POSITIVE_INFINITY): void {
    const { policy } = row.dialogue;
    const { prefix, own } = row;
    if (row.pendingPrefix !== null) {
      prefix.history = this.#push(row, row.pendingPrefix, [0, prefix.length], nowhere, prefix, beginningOf(policy));
      row.pendingPrefix = null;
    }
    const beginning = prefix.length === 0 ? beginningOf(policy) : prefix.history;
    const histories: number[] = [];
    const after = row.computed === 0 ? beginning : row.history;
    const { computed, tokens, text } = row;
    const end = Math.min(endOf(row), computed + most);
    row.history = this.#push(row, tokens, [computed, end], prefix, own, after, histories);
    row.computed = end;
    if (text === null) return;
    const first = text.wanted.findIndex((place) => place >= computed);
    const here = first < 0 ? [] : text.wanted.slice(first).filter((place) => place < end);
    const tokenOf = (place: number): number => histories[place - computed] - this.#firstHistory;
    this.readings.push({ text, first, tokens: here.map(tokenOf) });
  }

  /** How many tokens the model would compute for a row, if it were added. */
  needed(row: Row): number {
    const { policy } = row.dialogue;
    let history = row.computed === 0 ? beginningOf(policy) : row.history;
    if (row.computed === 0 && row.pendingPrefix === null && row.prefix.length > 0) history = row.prefix.history;
    const waiting = [...Array.from(row.pendingPrefix ?? []), ...row.tokens.slice(row.computed, endOf(row))];
    for (const [i, id] of waiting.entries()) {
      const found: number | undefined = this.#mayShare(row) ? this.#followers.get(this.#keyOf(history, id)) : undefined;
      if (found === undefined) return waiting.length - i;
      history = this.#firstHistory + found;
    }
    return 0;
  }

  /**
   * Draws for the row that was added last: after its last token, and after each token of its draft that is computed. The
   * draft's tokens are added here.
   */
  draw(row: Row, draft: Drafted): void {
    this.drawings.push({ row, draft, first: this.sampledAt.length });
    this.sampledAt.push(row.history - this.#firstHistory);
    let { history } = row;
    for (let k = 0; k < draft.computed; k++) {
      history = this.#follow(row, draft.ids[k], row.tokens.length + k, row.prefix, row.own, history);
      this.sampledAt.push(history - this.#firstHistory);
    }
  }

  /** The history after the k-th sample of a drawing was taken from the draft: the tokens before it are in the cache. */
  historyAt({ first }: Drawing, k: number): number {
    return this.#firstHistory + this.sampledAt[first + k];
  }

  /**
   * The tokens whose final states are wanted: for samples, and for texts.
   * @param drawsApart  whether samples are drawn from states that only samples need
   */
  outputs(drawsApart: boolean): PassOutputs {
    const { sampledAt, readings } = this;
    const isShared = this.copies.to.length > 0;
    if (readings.length === 0 && !isShared) return { indices: Uint32Array.from(sampledAt), drawn: null, rowOf: null };
    const indices = ascending([...sampledAt, ...readings.flatMap(({ tokens }) => tokens)]);
    if (readings.length === 0 || !drawsApart) return { indices, drawn: null, rowOf: placesIn(indices, sampledAt) };
    const drawn = ascending(sampledAt);
    return { indices, drawn: placesIn(indices, drawn), rowOf: isShared ? placesIn(drawn, sampledAt) : null };
  }

  /** Which policy each of these tokens belongs to; ascending. */
  groupsOf(indices: Uint32Array): RowGroup[] {
    const groups: OpenGroup[] = [];
    let group = 0;
    for (const token of indices) {
      while (token >= this.groups[group].start + this.groups[group].count) group++;
      extendGroups(groups, this.groups[group].point, 1);
    }
    return groups;
  }

  /** Adds tokens first … end − 1 of a run that begins after `prefix`. @returns the name of the history that they end */
  #push(
    row: Row,
    ids: ArrayLike<number>,
    [first, end]: readonly [number, number],
    prefix: CacheRun,
    own: CacheRun,
    after: number,
    histories: number[] = [],
  ): number {
    let history = after;
    for (let i = first; i < end; i++) {
      history = this.#follow(row, ids[i], i, prefix, own, history);
      histories.push(history);
    }
    return history;
  }

  /** Adds the i-th token of a run, which follows a history. */
  #follow(row: Row, id: number, i: number, prefix: CacheRun, own: CacheRun, history: number): number {
    this.added++;
    const mayShare = this.#mayShare(row);
    const key = mayShare ? this.#keyOf(history, id) : 0;
    const found = mayShare ? this.#followers.get(key) : undefined;
    if (found !== undefined) {
      this.copies.from.push(this.slots[found]);
      this.copies.to.push(own.start + i);
      return this.#firstHistory + found;
    }
    const token = this.ids.length;
    if (mayShare) this.#followers.set(key, token);
    const position = prefix.length + i;
    this.ids.push(id);
    this.positions.push(position);
    this.slots.push(own.start + i);
    this.spans.push(prefix.start, prefix.length, own.start, position + 1);
    extendGroups(this.groups, row.dialogue.policy, 1);
    return this.#firstHistory + token;
  }

  /** Past its prompt, only rows of the same prompt can have said the same. */
  #mayShare({ computed, prefix }: Row): boolean {
    if (this.#shares === "none") return false;
    return computed === 0 || (this.#shares === "all" && prefix.users > 1);
  }

  #keyOf(history: number, id: number): number {
    return this.#placeOf(history) * 2 ** 32 + id;
  }

  /** A small number for a history: even for those that end in this pass, odd for those that earlier passes computed. */
  #placeOf(history: number): number {
    if (history >= this.#firstHistory) return 2 * (history - this.#firstHistory);
    let place = this.#placesOfEarlier.get(history);
    if (place === undefined) {
      place = 2 * this.#placesOfEarlier.size + 1;
      this.#placesOfEarlier.set(history, place);
    }
    return place;
  }
}

/** How many of a row's tokens the cache holds after the next pass, without those of a draft. */
export function endOf({ text, tokens, computed }: Row): number {
  const last = tokens.length - 1;
  return 1 + Math.min(last, text?.pauses?.find((place) => place >= computed) ?? last);
}

/** The final states that a pass computes, and who wants them. */
export interface PassOutputs {
  /** The tokens of the pass after which a state is wanted, ascending. */
  readonly indices: Uint32Array;
  /** Which of these states samples are drawn from; null: they may be drawn from all. */
  readonly drawn: Uint32Array | null;
  /** For each sample, which of those it is drawn from; null: each from its own, in their order. */
  readonly rowOf: Uint32Array | null;
}

/** The different numbers of a list. */
const ascending = (numbers: Iterable<number>): Uint32Array => Uint32Array.from(new Set(numbers)).sort();

/** The place of each of some numbers in an ascending list that has them all. */
export function placesIn(list: Uint32Array, numbers: ArrayLike<number>): Uint32Array {
  const places = new Uint32Array(list.length === 0 ? 0 : list[list.length - 1] + 1);
  for (let place = 0; place < list.length; place++) places[list[place]] = place;
  return Uint32Array.from(numbers, (number) => places[number]);
}

/** The name of the history of no tokens, for each policy its own. */
const beginningOf = (policy: number): number => -1 - policy;

/** The samples of a row in a pass: first, first + 1, …, one more than its draft has computed tokens. */
export interface Drawing {
  readonly row: Row;
  readonly draft: Drafted;
  readonly first: number;
}

/** A run of rows that may grow. */
interface OpenGroup {
  readonly start: number;
  count: number;
  readonly point: number;
}

function extendGroups(groups: OpenGroup[], policy: number, count: number): void {
  const last = groups.at(-1);
  if (last !== undefined && last.point === policy) last.count += count;
  else groups.push({ start: last === undefined ? 0 : last.start + last.count, count, point: policy });
}

/** Where parts of these lengths begin if they lie one after another, each from a multiple of four on; and where the last ends. */
export function placesOf(...lengths: readonly number[]): number[] {
  const places = [0];
  for (const length of lengths) places.push(places[places.length - 1] + 4 * Math.ceil(length / 4));
  return places;
}
