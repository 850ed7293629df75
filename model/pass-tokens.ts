// The tokens of one forward pass of a generation, while they are collected: what the model computes, and which samples are
// drawn after which of them.
import type { RowGroup } from "../engine/index.ts";
import type { Dialogue, NextTurn } from "./dialogue.ts";
import type { Drafted } from "./drafts.ts";
import type { CacheRun } from "./kv-cache.ts";

/** The run of no tokens. */
export const nowhere: CacheRun = { start: 0, length: 0 };

/** A turn that the dialogue has promised. */
export interface ComingTurn {
  /** Resolves when `arrived` is set; it does not reject. */
  readonly promise: Promise<void>;
  arrived: { readonly next: NextTurn } | { readonly thrown: unknown } | null;
}

/** A dialogue under way. */
export interface Row {
  readonly dialogue: Dialogue;
  readonly prefixKey: string;
  prefix: CacheRun;
  own: CacheRun;
  /** All tokens after the prefix, and how many of them the cache holds. */
  readonly tokens: number[];
  computed: number;
  /** The prefix's tokens if this row computes them. */
  pendingPrefix: ArrayLike<number> | null;
  turn: number;
  /** The ids of the row's text so far, if the repetition penalty needs them. */
  seen: Uint32Array | null;
  answer: { ids: number[]; logProbs: number[]; entropies: number[] };
  /** Set while the next turn is a promise. */
  coming: ComingTurn | null;
}

/** The tokens of one pass, while they are collected. */
export class PassTokens {
  readonly ids: number[] = [];
  readonly positions: number[] = [];
  readonly slots: number[] = [];
  readonly spans: number[] = [];
  readonly groups: OpenGroup[] = [];
  readonly drawings: Drawing[] = [];
  /** After which token of the pass each sample is drawn. */
  readonly sampledAt: number[] = [];

  /** Adds tokens first … first + count − 1 of a run that begins after `prefix`. */
  push(policy: number, ids: ArrayLike<number>, first: number, prefix: CacheRun, own: CacheRun): void {
    for (let i = first; i < ids.length; i++) {
      const position = prefix.length + i;
      this.ids.push(ids[i]);
      this.positions.push(position);
      this.slots.push(own.start + i);
      this.spans.push(prefix.start, prefix.length, own.start, position + 1);
    }
    extendGroups(this.groups, policy, ids.length - first);
  }

  /** Draws for a row whose tokens were added last: after the last one before its draft, and after each of the draft. */
  draw(row: Row, draft: Drafted): void {
    this.drawings.push({ row, draft, first: this.sampledAt.length });
    for (let after = draft.computed; after >= 0; after--) this.sampledAt.push(this.ids.length - 1 - after);
  }

  /** Which policy each sample belongs to. */
  sampledGroups(): RowGroup[] {
    const groups: OpenGroup[] = [];
    for (const { row, draft } of this.drawings) extendGroups(groups, row.dialogue.policy, 1 + draft.computed);
    return groups;
  }
}

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
