// Batched generation over several turns, by continuous batching: rows enter and leave the batch between any two passes.
// Each pass of the model computes all waiting tokens: the prompt of a new dialogue, the last sampled token of an
// unfinished answer, or the next user turn after a finished one. A finished dialogue frees its part of the cache for a
// waiting dialogue. The order of every sum is fixed (the engine's reduction contract), so a dialogue's tokens do not
// depend on the other rows, to the bit.
//
// A pass in which every row has one waiting token is a decode step. Several decode steps may run between two reads
// (steps-per-read.ts): the tokens that a step draws are the next step's input, on the device. The host then takes the
// rows' tokens in the order of the steps. What a row drew after the end of its answer is dropped; the slots of the cache
// that it wrote are written again before any token sees them. So the results are the bits of one step per read.
//
// Drafts: a dialogue may propose the next tokens of its answer (drafts.ts). The pass computes them too and draws the token
// at each place of them, as if they had been said. Draws are used up to the first that differs from the proposal. They
// are the tokens that decode steps would have drawn, to the bit, since a draw depends on the tokens before it and its
// counter alone. The slots of the cache after that place are written again, as above.
//
// A dialogue may promise its next turn, for example because a server writes it. Until the promise is kept its row keeps its part
// of the cache and is in no pass; the other rows go on.
//
// Prefix sharing: a prompt that several dialogues of one policy share is computed once and cached once, without its last token.
// That one is each dialogue's own, so a dialogue that joins later also has logits to sample from.
//
// Token sharing: as long as dialogues of one policy have said the same, a pass computes their next token once (pass-tokens.ts).
import { DecodeSteps } from "./decode-steps.ts";
import type { Dialogue, Text } from "./dialogue.ts";
import { boundsOf, type DialogueBounds } from "./dialogue-bounds.ts";
import type { GenerateSettings, Model, Pass } from "./generate-settings.ts";
import { type HistoryNames, pass } from "./generation-pass.ts";
import { KvCache } from "./kv-cache.ts";
import type { Row } from "./pass-tokens.ts";
import {
  admit,
  beginRow,
  beginText,
  cacheSlots,
  ensureRoom,
  firstOf,
  slotsFor,
  takeArrived,
} from "./rows-under-way.ts";
import { StepsPerRead } from "./steps-per-read.ts";

/**
 * Runs all dialogues to their end, and reads all texts. Answers are handed over when they are finished, in an unspecified order.
 * Dialogues and texts enter the batch in the order given, and each is asked for at most one ahead of that. So an iterable that
 * makes them on demand needs memory for those under way alone; it must be given with `settings.bounds`.
 * @param dialogues  null: none now; it is asked again after `settings.between`
 */
export async function generate(
  model: Model,
  dialogues: Iterable<Dialogue | Text | null>,
  settings: GenerateSettings,
): Promise<void> {
  const isPenalised = (settings.warping?.repetitionPenalty ?? 1) !== 1;
  const seenVocabulary = isPenalised ? model.config.vocabSize : null;
  const { incoming, bounds } = boundedBy(dialogues, settings);
  if (bounds.count === 0 && bounds.texts === undefined) return;
  const rows = Math.max(1, Math.min(settings.maxRows, bounds.count));
  const { stepsPerRead } = settings;
  if (stepsPerRead !== undefined && !(Number.isInteger(stepsPerRead) && stepsPerRead >= 1))
    throw new Error(`generate: stepsPerRead: expected a whole number from 1 on, got ${stepsPerRead}.`);
  const names: HistoryNames = { next: 0 };
  const pace = new StepsPerRead(model.backend, isPenalised ? 1 : stepsPerRead, settings.maxNewTokens);
  let cache = new KvCache(model.backend, model.config, cacheSlots(model, bounds, rows), model.weights.operands);
  let decode: DecodeSteps | null = null;
  const makeDecode = (): DecodeSteps => new DecodeSteps(model, cache, settings, rows, pace.most);
  // Rows that wait to be admitted, the next one last: preempted ones, and at most one new one.
  const waiting: Row[] = [];
  let isExhausted = false;
  const nextRow = (): Row | undefined => {
    if (waiting.length === 0 && !isExhausted) {
      const { done, value } = incoming.next();
      if (done) isExhausted = true;
      else if (value !== null) waiting.push("wanted" in value ? beginText(value) : beginRow(value, seenVocabulary));
    }
    return waiting.at(-1);
  };
  try {
    decode = makeDecode();
    const active: Row[] = [];
    /** Dialogues under way, and the slots of texts. */
    const held = { dialogues: 0, textSlots: 0 };
    const hold = ({ text, own }: Row, sign: 1 | -1): void => {
      if (text === null) held.dialogues += sign;
      else held.textSlots += sign * own.length;
    };
    /** Texts have slots of their own, so that they take no dialogue's place; one alone may be longer than that. */
    const hasPlace = ({ text, tokens }: Row): boolean =>
      text === null
        ? held.dialogues < rows
        : held.textSlots === 0 || held.textSlots + tokens.length <= (bounds.texts?.slots ?? 0);
    const leave = (row: Row): void => {
      active.splice(active.indexOf(row), 1);
      hold(row, -1);
      cache.release(row.own);
      cache.releasePrefix(row.prefixKey);
    };
    for (;;) {
      settings.signal?.throwIfAborted();
      const over = takeArrived(active);
      for (const row of over) leave(row);
      if (over.length > 0) settings.onPass?.({ ...noPass, finished: over.length });
      const isIdle = active.length === 0 && nextRow() === undefined && !isExhausted;
      const hasHappened = (await settings.between?.(isIdle)) ?? false;
      if (active.length === 0 && nextRow() === undefined) {
        if (isExhausted) break;
        if (!hasHappened) throw new Error("generate: no dialogue is under way, and none comes");
        continue;
      }
      // A row that outgrew its run is preempted if there is no longer run: it waits for other rows to leave and is
      // recomputed.
      for (const row of active.filter((one) => one.coming === null && !ensureRoom(cache, one))) {
        leave(row);
        waiting.push(row);
      }
      for (let next = nextRow(); next !== undefined && hasPlace(next) && admit(cache, next); next = nextRow()) {
        active.push(next);
        hold(next, 1);
        waiting.pop();
      }
      if (active.length === 0) {
        // A dialogue that is alone in the cache has outgrown it, by a turn that nobody could expect. Nothing uses the cache now.
        const slots = slotsFor(model, waiting.at(-1), cache.slots);
        decode.free();
        cache.free();
        cache = new KvCache(model.backend, model.config, slots, model.weights.operands);
        decode = makeDecode();
        continue;
      }
      if (active.every(({ coming }) => coming !== null)) {
        await firstOf(active, settings.signal);
        continue;
      }
      // Rows of one policy are contiguous, so that each policy's weights are used by one range of rows. The sort is
      // stable: the row that computes a prefix stays before the rows that share it.
      active.sort((one, other) => one.dialogue.policy - other.dialogue.policy);
      for (const row of await pass(model, cache, active, settings, { pace, places: rows, decode, names })) leave(row);
    }
  } finally {
    decode?.free();
    cache.free();
  }
}

/** What `onPass` is told when dialogues end between two passes. */
const noPass: Pass = { tokens: 0, sampled: 0, finished: 0, drafted: 0, spared: 0, rows: 0, places: 0 };

/** The dialogues one after another, and their bounds; without bounds from the caller, all dialogues are collected first. */
function boundedBy(
  dialogues: Iterable<Dialogue | Text | null>,
  { bounds, maxRows, maxTokens }: GenerateSettings,
): { incoming: Iterator<Dialogue | Text | null>; bounds: DialogueBounds } {
  if (bounds !== undefined) return { incoming: dialogues[Symbol.iterator](), bounds };
  const found = [...dialogues].filter((dialogue) => dialogue !== null);
  const texts = found.filter((one): one is Text => "wanted" in one);
  const own = boundsOf(
    found.filter((one): one is Dialogue => !("wanted" in one)),
    maxRows,
  );
  const slots = texts.length === 0 ? {} : { texts: slotsOfTexts(texts, maxTokens) };
  return { incoming: found[Symbol.iterator](), bounds: { ...own, ...slots } };
}

/** Slots of the cache for as many texts as a pass reads. */
function slotsOfTexts(
  texts: Iterable<Pick<Text, "prompt" | "ids">>,
  maxTokens: number,
): { readonly slots: number; readonly longest: number } {
  let [sum, longest] = [0, 0];
  for (const { prompt, ids } of texts) {
    sum += prompt.length + ids.length;
    longest = Math.max(longest, ids.length + 1);
  }
  return { slots: Math.min(sum, Math.max(maxTokens, longest)), longest };
}
