// Drafts: proposed tokens of an answer, which a pass verifies (generation.ts). A good source is an answer to the same
// prompt, with the same noise, by a policy that is nearly the same. A wrong proposal costs the computation of its tokens,
// and changes no result.
import { markSeen } from "../engine/index.ts";

/**
 * The next ids of an answer, as many as the source has; empty or null for none.
 * @param turn    the answer's number, from 0
 * @param answer  its ids so far
 */
export type Draft = (turn: number, answer: readonly number[]) => readonly number[] | null;

/** A proposal in a pass. */
export interface Drafted {
  /** The proposed ids. */
  readonly ids: readonly number[];
  /**
   * How many of them, from the first on, the pass computes: a sample is drawn after each. The last proposed id need not be
   * computed if nothing is drawn after it.
   */
  readonly computed: number;
}

const nothing: Drafted = { ids: [], computed: 0 };

/**
 * What a row proposes for the next pass. It never computes more than the row could say without a draft: up to the end of
 * its answer, its run of slots in the cache, and the tokens that the pass has room for.
 */
export function draftFor(
  {
    dialogue,
    turn,
    answer,
    tokens,
    own,
  }: {
    readonly dialogue: { readonly draft?: Draft };
    readonly turn: number;
    readonly answer: { readonly ids: readonly number[] };
    readonly tokens: readonly number[];
    readonly own: { readonly length: number };
  },
  { stopIds, maxNewTokens }: { readonly stopIds: readonly number[]; readonly maxNewTokens: number },
  vocabulary: number,
  room: number,
): Drafted {
  const ids = dialogue.draft?.(turn, answer.ids);
  if (ids === undefined || ids === null) return nothing;
  const most = Math.min(ids.length, room, own.length - tokens.length, maxNewTokens - answer.ids.length - 1);
  let computed = 0;
  while (computed < most && !stopIds.includes(ids[computed]) && isId(ids[computed], vocabulary)) computed++;
  return { ids, computed };
}

const isId = (id: number, vocabulary: number): boolean => Number.isInteger(id) && id >= 0 && id < vocabulary;

/**
 * Writes the sets of ids that the penalty of each sample of a row counts: its text, then that with one more token of the
 * draft, and so on.
 * @param seen  the row's text, as bits, [words]
 * @param into  [1 + draft.computed, words] from its start on
 */
export function seenAlong(seen: Uint32Array, { ids, computed }: Drafted, into: Uint32Array): void {
  const words = seen.length;
  into.set(seen);
  for (let k = 1; k <= computed; k++) {
    into.copyWithin(k * words, (k - 1) * words, k * words);
    markSeen(into.subarray(k * words, (k + 1) * words), [ids[k - 1]]);
  }
}
