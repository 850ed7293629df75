// The dialogues of a generation while they are under way (generation.ts): their part of the cache, and the tokens that they say
// and get.
import { markSeen, OutOfMemoryError, seenWords } from "../engine/index.ts";
import type { Dialogue, NextTurn, Text } from "./dialogue.ts";
import { type DialogueBounds, prefixKeyOf } from "./dialogue-bounds.ts";
import type { GenerateSettings, Model } from "./generate-settings.ts";
import { type CacheRun, KvCache } from "./kv-cache.ts";
import { type ComingTurn, noPrefix, nowhere, type Row } from "./pass-tokens.ts";

/**
 * Slots for `rows` dialogues at a time: the tokens of each, and the longest distinct prompts, as many as there are rows.
 */
export function cacheSlots({ backend, config, weights }: Model, bounds: DialogueBounds, rows: number): number {
  const { texts = { slots: 0, longest: 0 } } = bounds;
  const longestDialogue = bounds.expectedTokens + 1;
  const longestOwn = Math.max(longestDialogue, texts.longest);
  const prefixes = bounds.promptLengths.slice(0, rows);
  // A single dialogue may become twice as long as expected.
  const needed =
    Math.max(rows * longestDialogue, 2 * longestOwn) + texts.slots + prefixes.reduce((sum, n) => sum + n, 0);
  return (
    needed +
    slotsLostAtCuts(
      KvCache.slotsPerSegment(backend, config, weights.operands),
      needed,
      Math.max(longestOwn, prefixes[0] ?? 0),
    )
  );
}

/**
 * Slots of a larger cache, in which a dialogue fits that is alone and does not fit in `slots`; with room to become twice as long.
 * @throws OutOfMemoryError when it is longer than a buffer of the adapter
 */
export function slotsFor({ backend, config, weights }: Model, row: Row | undefined, slots: number): number {
  if (row === undefined) throw new Error(`generate: no dialogue waits, and none is in the cache of ${slots} slots`);
  const perSegment = KvCache.slotsPerSegment(backend, config, weights.operands);
  const [prefix, own] = [row.dialogue.prompt.length, row.tokens.length];
  if (Math.max(prefix, own) > perSegment)
    throw new OutOfMemoryError(
      `generate: a conversation of ${prefix - 1 + own} tokens: the keys of ${perSegment} tokens fit a buffer of this adapter. ` +
        "Shorter turns, or fewer of them, fit.",
    );
  const needed = Math.max(slots, prefix + 2 * own);
  return slots + needed + slotsLostAtCuts(perSegment, slots + needed, Math.min(perSegment, Math.max(prefix, 2 * own)));
}

/** No run crosses a segment boundary, so each segment except the last may end in a gap too short for the next run. */
function slotsLostAtCuts(perSegment: number, needed: number, longest: number): number {
  const used = perSegment - (longest - 1);
  return used <= 0 || needed <= perSegment ? 0 : (Math.ceil(needed / used) - 1) * (longest - 1);
}

/** @param seenVocabulary  how many ids the row keeps track of; null for none */
export function beginRow(dialogue: Dialogue, seenVocabulary: number | null): Row {
  const { prompt } = dialogue;
  const seen = seenVocabulary === null ? null : new Uint32Array(seenWords(seenVocabulary));
  if (seen !== null) markSeen(seen, Array.from(prompt));
  return {
    dialogue,
    text: null,
    prefixKey: prefixKeyOf(dialogue),
    prefix: noPrefix,
    own: nowhere,
    tokens: [prompt[prompt.length - 1]],
    computed: 0,
    history: Number.NaN,
    pendingPrefix: null,
    turn: 0,
    seen,
    answer: { ids: [], logProbs: [], entropies: [] },
    coming: null,
  };
}

/** A text's row: all of its tokens up to the last that is wanted are there from the beginning. */
export function beginText(text: Text): Row {
  const { policy, prompt, ids, wanted } = text;
  const count = wanted.length === 0 ? 0 : wanted[wanted.length - 1];
  if (wanted.length > 0 && !(count <= ids.length && wanted[0] >= 0))
    throw new Error(
      `generate: a text of ${ids.length} tokens after its prompt has no place ${wanted[0] < 0 ? wanted[0] : count}`,
    );
  const noise = { rollout: 0, prompt: 0 };
  const row = beginRow({ policy, prompt, noise, expectedTokens: count, answered: () => null }, null);
  for (let i = 0; i < count; i++) row.tokens.push(ids[i]);
  return { ...row, text };
}

/** Allocates a row's part of the cache; false if there is no room. None of the row's tokens are computed there yet. */
export function admit(cache: KvCache, row: Row): boolean {
  const { prompt, expectedTokens } = row.dialogue;
  const shared = cache.sharePrefix(row.prefixKey, prompt.length - 1);
  if (shared === null) return false;
  const own = allocateRun(cache, shared.run, row.tokens.length, Math.max(expectedTokens + 1, row.tokens.length));
  if (own === null) {
    cache.releasePrefix(row.prefixKey);
    return false;
  }
  row.prefix = shared.run;
  row.own = own;
  row.computed = 0;
  row.pendingPrefix = shared.isNew && prompt.length > 1 ? Array.from(prompt).slice(0, -1) : null;
  return true;
}

/**
 * Allocates a run of the wanted slots. If there is no room, it tries twice the needed slots, so that the row does not
 * outgrow its run immediately, and then the needed slots.
 */
function allocateRun(cache: KvCache, prefix: CacheRun, needed: number, wished: number): CacheRun | null {
  const run = (length: number): CacheRun | null => cache.allocate(length, prefix.length === 0 ? null : prefix);
  return run(wished) ?? run(Math.min(2 * needed, wished)) ?? run(needed);
}

/**
 * Whether a row's tokens fit its run. A row that outgrew its run gets a longer one if possible, and is recomputed
 * there.
 */
export function ensureRoom(cache: KvCache, row: Row): boolean {
  if (row.tokens.length <= row.own.length) return true;
  const longer = allocateRun(cache, row.prefix, row.tokens.length, row.tokens.length + row.dialogue.expectedTokens);
  if (longer === null) return false;
  cache.release(row.own);
  row.own = longer;
  row.computed = 0;
  return true;
}

/** Appends the promised turns that have arrived. @returns the rows whose dialogues are over */
export function takeArrived(active: readonly Row[]): Row[] {
  return active.filter((row) => {
    const arrived = row.coming?.arrived ?? null;
    if (arrived === null) return false;
    row.coming = null;
    if ("thrown" in arrived) throw arrived.thrown;
    return !beginTurn(row, arrived.next);
  });
}

/** Waits until one of the promised turns has arrived, or the signal is aborted. */
export async function firstOf(rows: readonly Row[], signal: AbortSignal | undefined): Promise<void> {
  let stop = (): void => {};
  const stopped = new Promise<void>((done) => {
    stop = done;
  });
  signal?.addEventListener("abort", stop, { once: true });
  await Promise.race([stopped, ...rows.map(({ coming }) => coming?.promise)]);
  signal?.removeEventListener("abort", stop);
}

/** Adds a sampled token to a row. Returns true when the dialogue is over. */
export function appendSample(
  row: Row,
  id: number,
  logProb: number,
  entropy: number,
  settings: GenerateSettings,
): boolean {
  const { answer } = row;
  answer.ids.push(id);
  answer.logProbs.push(logProb);
  answer.entropies.push(entropy);
  append(row, [id]);
  row.dialogue.sampled?.(id);
  const isStopped = settings.stopIds.includes(id);
  if (!isStopped && answer.ids.length < settings.maxNewTokens) return false;
  const next = row.dialogue.answered({ turn: row.turn, ...answer, isTruncated: !isStopped });
  if (!(next instanceof Promise)) return !beginTurn(row, next);
  const coming: ComingTurn = {
    arrived: null,
    promise: next.then(
      (turn) => {
        coming.arrived = { next: turn };
      },
      (thrown: unknown) => {
        coming.arrived = { thrown };
      },
    ),
  };
  row.coming = coming;
  return false;
}

/** Appends the next turn. Returns false when there is none. */
function beginTurn(row: Row, next: NextTurn): boolean {
  if (next === null) return false;
  append(row, next);
  row.turn++;
  row.answer = { ids: [], logProbs: [], entropies: [] };
  return true;
}

function append(row: Row, ids: ArrayLike<number>): void {
  for (let i = 0; i < ids.length; i++) row.tokens.push(ids[i]);
  if (row.seen !== null) markSeen(row.seen, Array.from(ids));
}
