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
// Prefix sharing: a prompt that several dialogues of one policy share is computed once and cached once. Each dialogue
// computes the prompt's last token itself, so a dialogue that joins later also has logits to sample from.
import {
  type Backend,
  fromArray,
  markSeen,
  NumericalError,
  noSample,
  type RowGroup,
  readTensors,
  type SampledTokens,
  sampleTokens,
  scope,
  scopeAsync,
  seenWords,
  type Tensor,
  tokenCounterRow,
  type Warping,
  type Weights,
} from "../engine/index.ts";
import type { Batch, BatchOutputs } from "./batch.ts";
import type { Dialogue, NextTurn } from "./dialogue.ts";
import { boundsOf, type DialogueBounds, prefixKeyOf } from "./dialogue-bounds.ts";
import { draftFor, seenAlong } from "./drafts.ts";
import { type CacheRun, KvCache } from "./kv-cache.ts";
import { finalStates, headWeight, type LanguageModel } from "./language-model.ts";
import { type ComingTurn, type Drawing, nowhere, PassTokens, type Row } from "./pass-tokens.ts";
import { StepsPerRead } from "./steps-per-read.ts";

export interface Model {
  readonly backend: Backend;
  readonly config: LanguageModel;
  readonly weights: Weights;
}

export interface GenerateSettings {
  /** Maximum tokens per answer. */
  maxNewTokens: number;
  /** Sampling temperature; 0 is greedy. */
  temperature: number;
  /** Repetition penalty (over prompt and all turns), top-k and top-p. Default: none. */
  warping?: Warping;
  /** Philox key of the sampling noise. */
  noiseKey: readonly [number, number];
  /** Tokens that end an answer; empty to continue to maxNewTokens. */
  stopIds: readonly number[];
  /** Maximum dialogues in the batch at a time. */
  maxRows: number;
  /** Maximum tokens per pass; a longer prompt runs by itself. */
  maxTokens: number;
  /** The bounds of the dialogues, if the caller knows them. Default: all dialogues are collected first. */
  bounds?: DialogueBounds;
  /**
   * Largest number of decode steps between two reads of sampled tokens. It changes no result. With a repetition penalty
   * it is 1, because the host keeps the set of seen ids. Default: chosen by measured times (steps-per-read.ts).
   */
  stepsPerRead?: number;
  signal?: AbortSignal;
  /**
   * Called before dialogues enter the batch, and waited for. It may compute, and let the iterable have further dialogues.
   * @param isIdle  whether no dialogue is under way, and none comes now
   * @returns whether anything has happened: if not while nothing is under way, there would be no end
   */
  between?: (isIdle: boolean) => Promise<boolean>;
  /**
   * Called after each pass, and for each of several decode steps. `tokens`: computed. `sampled`: drawn and used, so not
   * those after the end of an answer. `drafted`: those of them that a draft proposed. `spared`: those of them that were
   * drawn from a draft's tokens, each of which spares its row a decode step. `rows`: dialogues whose tokens were drawn and
   * used. `places`: dialogues that the batch holds at most: `maxRows`, or all if they are fewer.
   */
  onPass?: (pass: Pass) => void;
}

/** What a forward pass did. */
export interface Pass {
  readonly tokens: number;
  readonly sampled: number;
  readonly finished: number;
  readonly drafted: number;
  readonly spared: number;
  readonly rows: number;
  readonly places: number;
}

/**
 * Runs all dialogues to their end. Answers are handed over when they are finished, in an unspecified order. Dialogues
 * enter the batch in the order given, and each is asked for only then. So an iterable that makes them on demand needs
 * memory for those under way alone; it must be given with `settings.bounds`.
 * @param dialogues  null: none now; it is asked again after `settings.between`
 */
export async function generate(
  model: Model,
  dialogues: Iterable<Dialogue | null>,
  settings: GenerateSettings,
): Promise<void> {
  const isPenalised = (settings.warping?.repetitionPenalty ?? 1) !== 1;
  const seenVocabulary = isPenalised ? model.config.vocabSize : null;
  const { incoming, bounds } = boundedBy(dialogues, settings);
  if (bounds.count === 0) return;
  const rows = Math.min(settings.maxRows, bounds.count);
  const { stepsPerRead } = settings;
  if (stepsPerRead !== undefined && !(Number.isInteger(stepsPerRead) && stepsPerRead >= 1))
    throw new Error(`generate: stepsPerRead: expected a whole number from 1 on, got ${stepsPerRead}.`);
  const pace = new StepsPerRead(model.backend, isPenalised ? 1 : stepsPerRead, settings.maxNewTokens);
  const cache = new KvCache(model.backend, model.config, cacheSlots(model, bounds, rows), model.weights.operands);
  // Rows that wait to be admitted, the next one last: preempted ones, and at most one new one.
  const waiting: Row[] = [];
  let isExhausted = false;
  const nextRow = (): Row | undefined => {
    if (waiting.length === 0 && !isExhausted) {
      const { done, value } = incoming.next();
      if (done) isExhausted = true;
      else if (value !== null) waiting.push(beginRow(value, seenVocabulary));
    }
    return waiting.at(-1);
  };
  try {
    const active: Row[] = [];
    const leave = (row: Row): void => {
      active.splice(active.indexOf(row), 1);
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
      while (active.length < rows) {
        const next = nextRow();
        if (next === undefined || !admit(cache, next)) break;
        active.push(next);
        waiting.pop();
      }
      if (active.length === 0) throw new Error(`generate: no dialogue fits the cache of ${cache.slots} slots`);
      if (active.every(({ coming }) => coming !== null)) {
        await firstOf(active, settings.signal);
        continue;
      }
      // Rows of one policy are contiguous, so that each policy's weights are used by one range of rows. The sort is
      // stable: the row that computes a prefix stays before the rows that share it.
      active.sort((one, other) => one.dialogue.policy - other.dialogue.policy);
      for (const row of await pass(model, cache, active, settings, { pace, places: rows })) leave(row);
    }
  } finally {
    cache.free();
  }
}

/** What `onPass` is told when dialogues end between two passes. */
const noPass: Pass = { tokens: 0, sampled: 0, finished: 0, drafted: 0, spared: 0, rows: 0, places: 0 };

/** Appends the promised turns that have arrived. @returns the rows whose dialogues are over */
function takeArrived(active: readonly Row[]): Row[] {
  return active.filter((row) => {
    const arrived = row.coming?.arrived ?? null;
    if (arrived === null) return false;
    row.coming = null;
    if ("thrown" in arrived) throw arrived.thrown;
    return !beginTurn(row, arrived.next);
  });
}

/** Waits until one of the promised turns has arrived, or the signal is aborted. */
async function firstOf(rows: readonly Row[], signal: AbortSignal | undefined): Promise<void> {
  let stop = (): void => {};
  const stopped = new Promise<void>((done) => {
    stop = done;
  });
  signal?.addEventListener("abort", stop, { once: true });
  await Promise.race([stopped, ...rows.map(({ coming }) => coming?.promise)]);
  signal?.removeEventListener("abort", stop);
}

/** The dialogues one after another, and their bounds; without bounds from the caller, all dialogues are collected first. */
function boundedBy(
  dialogues: Iterable<Dialogue | null>,
  { bounds, maxRows }: GenerateSettings,
): { incoming: Iterator<Dialogue | null>; bounds: DialogueBounds } {
  if (bounds !== undefined) return { incoming: dialogues[Symbol.iterator](), bounds };
  const found = [...dialogues].filter((dialogue) => dialogue !== null);
  return { incoming: found[Symbol.iterator](), bounds: boundsOf(found, maxRows) };
}

/**
 * Slots for `rows` dialogues at a time: the tokens of each, and the longest distinct prompts, as many as there are rows.
 */
function cacheSlots({ backend, config, weights }: Model, bounds: DialogueBounds, rows: number): number {
  const longestOwn = bounds.expectedTokens + 1;
  const prefixes = bounds.promptLengths.slice(0, rows);
  // A single dialogue may become twice as long as expected.
  const needed = Math.max(rows * longestOwn, 2 * longestOwn) + prefixes.reduce((sum, n) => sum + n, 0);
  return (
    needed +
    slotsLostAtCuts(
      KvCache.slotsPerSegment(backend, config, weights.operands),
      needed,
      Math.max(longestOwn, prefixes[0]),
    )
  );
}

/** No run crosses a segment boundary, so each segment except the last may end in a gap too short for the next run. */
function slotsLostAtCuts(perSegment: number, needed: number, longest: number): number {
  const used = perSegment - (longest - 1);
  return used <= 0 || needed <= perSegment ? 0 : (Math.ceil(needed / used) - 1) * (longest - 1);
}

/** @param seenVocabulary  how many ids the row keeps track of; null for none */
function beginRow(dialogue: Dialogue, seenVocabulary: number | null): Row {
  const { prompt } = dialogue;
  const seen = seenVocabulary === null ? null : new Uint32Array(seenWords(seenVocabulary));
  if (seen !== null) markSeen(seen, Array.from(prompt));
  return {
    dialogue,
    prefixKey: prefixKeyOf(dialogue),
    prefix: nowhere,
    own: nowhere,
    tokens: [prompt[prompt.length - 1]],
    computed: 0,
    pendingPrefix: null,
    turn: 0,
    seen,
    answer: { ids: [], logProbs: [], entropies: [] },
    coming: null,
  };
}

/** Allocates a row's part of the cache; false if there is no room. None of the row's tokens are computed there yet. */
function admit(cache: KvCache, row: Row): boolean {
  const { prompt, expectedTokens } = row.dialogue;
  const shared = cache.sharePrefix(row.prefixKey, prompt.length - 1);
  if (shared === null) return false;
  const own = allocateRun(cache, row.tokens.length, Math.max(expectedTokens + 1, row.tokens.length));
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
function allocateRun(cache: KvCache, needed: number, wished: number): CacheRun | null {
  return cache.allocate(wished) ?? cache.allocate(Math.min(2 * needed, wished)) ?? cache.allocate(needed);
}

/**
 * Whether a row's tokens fit its run. A row that outgrew its run gets a longer one if possible, and is recomputed
 * there.
 */
function ensureRoom(cache: KvCache, row: Row): boolean {
  if (row.tokens.length <= row.own.length) return true;
  const longer = allocateRun(cache, row.tokens.length, row.tokens.length + row.dialogue.expectedTokens);
  if (longer === null) return false;
  cache.release(row.own);
  row.own = longer;
  row.computed = 0;
  return true;
}

/**
 * One forward pass over waiting tokens, and the sampled tokens of each row that was computed: one, or more with a draft
 * or in several decode steps. Returns the finished rows.
 */
async function pass(
  model: Model,
  cache: KvCache,
  active: readonly Row[],
  settings: GenerateSettings,
  { pace, places }: { pace: StepsPerRead; places: number },
): Promise<Row[]> {
  const tokens = new PassTokens();
  for (const row of active) {
    if (row.coming !== null) continue;
    const count = row.tokens.length - row.computed + (row.pendingPrefix?.length ?? 0);
    if (tokens.ids.length > 0 && tokens.ids.length + count > settings.maxTokens) break;
    const { policy } = row.dialogue;
    if (row.pendingPrefix !== null) {
      tokens.push(policy, row.pendingPrefix, 0, nowhere, row.prefix);
      row.pendingPrefix = null;
    }
    tokens.push(policy, row.tokens, row.computed, row.prefix, row.own);
    row.computed = row.tokens.length;
    // With a penalty, samples have their sets of seen ids, which are large: no more of them than rows are under way.
    const samples = row.seen === null ? Number.POSITIVE_INFINITY : settings.maxRows - tokens.sampledAt.length - 1;
    const room = Math.min(settings.maxTokens - tokens.ids.length, samples);
    const draft = draftFor(row, settings, model.config.vocabSize, room);
    if (draft.computed > 0) {
      const said = [...row.tokens, ...draft.ids.slice(0, draft.computed)];
      tokens.push(policy, said, row.computed, row.prefix, row.own);
    }
    tokens.draw(row, draft);
  }

  const { drawings } = tokens;
  const isDecode = tokens.ids.length === drawings.length;
  /** How many steps' tokens each row can use: it has slots for them, and its answer may become that long. */
  const usable = drawings.map(({ row: { own, tokens: said, answer } }) =>
    Math.min(own.length - said.length + 1, settings.maxNewTokens - answer.ids.length),
  );
  const steps = isDecode ? Math.max(1, Math.min(pace.count, Math.max(...usable))) : 1;
  model.backend.phase?.(isDecode ? "decode step" : "prefill");
  const begun = performance.now();
  const drawn = await scopeAsync(async () => drawTokens(model, cache, tokens, usable, steps, settings));
  if (isDecode) await pace.timed(steps, performance.now() - begun);

  const finished: Row[] = [];
  /** Rows whose answer goes on. */
  let under = drawings.map((_, i) => i);
  drawn.forEach((samples, step) => {
    if (step > 0) settings.signal?.throwIfAborted();
    under = under.filter((i) => step === 0 || step < usable[i]);
    const counts = { sampled: 0, drafted: 0, spared: 0 };
    const before = finished.length;
    const rows = under.length;
    under = under.filter((i) => {
      const { row } = drawings[i];
      if (step > 0) row.computed++;
      const { turn, answer } = row;
      const isOver = useSamples(drawings[i], samples, model.weights, settings, counts);
      if (isOver) finished.push(row);
      if (!isOver && row.turn === turn && row.coming === null) return true;
      pace.ended(answer.ids.length);
      return false;
    });
    settings.onPass?.({ tokens: tokens.ids.length, finished: finished.length - before, ...counts, rows, places });
  });
  return finished;
}

/** The message about logits that are not numbers. */
export function notNumbers(what: string, { operands = "f32" }: Weights): string {
  return (
    `${what}: the model's logits are not numbers: ` +
    (operands === "f16"
      ? "its weights hold NaN or infinite values, or an activation is beyond ±65504, the range of f16. Use f32 " +
        "(--precision f32; in a sweep --landscape.precision f32)."
      : "its weights hold NaN or infinite values.")
  );
}

/**
 * Adds a row's samples to its answer: all up to the first that its draft did not propose, or that ends the answer.
 * Returns true when the dialogue is over.
 */
function useSamples(
  { row, draft, first }: Drawing,
  { ids, logProbs, entropies }: Drawn,
  weights: Weights,
  settings: GenerateSettings,
  counts: { sampled: number; drafted: number; spared: number },
): boolean {
  const { turn } = row;
  for (let k = 0; ; k++) {
    const at = first + k;
    if (ids[at] === noSample) throw new NumericalError(notNumbers("generate", weights));
    const isDrafted = ids[at] === draft.ids[k];
    counts.sampled++;
    if (isDrafted) counts.drafted++;
    if (k > 0) {
      counts.spared++;
      row.computed++; // the sample before this one is in the cache, as a token of the draft
    }
    if (appendSample(row, ids[at], logProbs[at], entropies[at], settings)) return true;
    if (!isDrafted || row.turn !== turn || row.coming !== null || k === draft.computed) return false;
  }
}

/** The results of one step, in the order of the samples. */
interface Drawn {
  readonly ids: ArrayLike<number>;
  readonly logProbs: ArrayLike<number>;
  readonly entropies: ArrayLike<number>;
}

/** Not a slot of any cache: the keys and values of such a token are stored nowhere. */
const noSlot = 0xffffffff;

/**
 * Runs the pass and, if `steps` is above 1, further decode steps of its rows, each submitted by itself. One read.
 * @param usable  for each row, the steps that have slots in the cache; later ones repeat its last position, and their
 *                tokens are dropped
 */
async function drawTokens(
  { backend, config, weights }: Model,
  cache: KvCache,
  tokens: PassTokens,
  usable: readonly number[],
  steps: number,
  settings: GenerateSettings,
): Promise<Drawn[]> {
  const T = tokens.ids.length;
  const R = tokens.sampledAt.length;
  const isEachSampled = T === R;
  const groups = weights.isPerturbed ? tokens.groups : null;
  const sampledRows = weights.isPerturbed ? tokens.sampledGroups() : null;
  const positions = new Uint32Array(steps * T);
  // All that the host gives goes to the device in one write, each part from a multiple of four numbers on.
  const [spansAt, countersAt, idsAt] = [0, 4 * steps * T, 4 * steps * (T + R)];
  const slotsAt = idsAt + 4 * Math.ceil(T / 4);
  const given = new Uint32Array(slotsAt + steps * T);
  for (let step = 0; step < steps; step++) {
    for (let t = 0; t < T; t++) {
      const later = step === 0 ? 0 : Math.min(step, usable[t] - 1);
      const at = step * T + t;
      positions[at] = tokens.positions[t] + later;
      given[slotsAt + at] = later === step ? tokens.slots[t] + step : noSlot;
      for (let i = 0; i < 4; i++) given[spansAt + 4 * at + i] = tokens.spans[4 * t + i];
      given[spansAt + 4 * at + 3] += later;
    }
    tokens.drawings.forEach(({ row: { dialogue, turn, answer }, draft, first }, i) => {
      const later = step === 0 ? 0 : Math.min(step, usable[i] - 1);
      for (let k = 0; k <= draft.computed; k++) {
        const counter = tokenCounterRow({ position: answer.ids.length + later + k, turn, ...dialogue.noise });
        given.set(counter, countersAt + 4 * (step * R + first + k));
      }
    });
  }
  given.set(tokens.ids, idsAt);
  const uploaded = fromArray(backend, given, [given.length], "u32", "tokens");
  let ids: Batch["ids"] = { tensor: uploaded.sliceRows(idsAt, T), host: given.slice(idsAt, idsAt + T) };
  const drawn: SampledTokens[] = [];
  for (let step = 0; step < steps; step++) {
    if (step > 0) backend.flush(); // the device begins while the host builds the next step
    const fours = (at: number, rows: number): Tensor =>
      uploaded.sliceRows(at + 4 * step * rows, 4 * rows).view([rows, 4]);
    const sampled = scope(() => {
      const batch: Batch = {
        ids,
        positions: positions.subarray(step * T, (step + 1) * T),
        spans: fours(spansAt, T),
        querySpans: null,
        rows: groups,
        ...(isEachSampled ? {} : { outputs: sampledOutputs(backend, tokens, sampledRows) }),
      };
      const into = { keys: cache.keys, values: cache.values, slots: uploaded.sliceRows(slotsAt + step * T, T) };
      const last = finalStates(config, weights, batch, into); // [R, C]
      return sampleTokens(last, headWeight(config, weights), sampledRows, {
        counters: fours(countersAt, R),
        key: settings.noiseKey,
        temperature: settings.temperature,
        warping: settings.warping && { ...settings.warping, seen: seenTable(backend, tokens) },
      });
    });
    drawn.push(sampled);
    ids = { tensor: sampled.ids, host: null };
  }
  const read = await readTensors(drawn.flatMap(({ ids, logProbs, entropy }) => [ids, logProbs, entropy]));
  return drawn.map((_, step) => ({
    ids: read[3 * step],
    logProbs: read[3 * step + 1],
    entropies: read[3 * step + 2],
  }));
}

/** The tokens after which one is drawn: only their final states are read. */
function sampledOutputs(
  backend: Backend,
  { sampledAt, spans }: PassTokens,
  rows: readonly RowGroup[] | null,
): BatchOutputs {
  const own = new Uint32Array(4 * sampledAt.length);
  sampledAt.forEach((token, i) => void own.set(spans.slice(4 * token, 4 * token + 4), 4 * i));
  return {
    indices: Uint32Array.from(sampledAt),
    spans: fromArray(backend, own, [sampledAt.length, 4], "u32", "spans"),
    querySpans: null,
    rows,
  };
}

/** The ids that precede each sample in its row's text, as bits, [R, words]; null if rows do not keep track of them. */
function seenTable(backend: Backend, { drawings, sampledAt }: PassTokens): Tensor | null {
  const words = drawings[0].row.seen?.length;
  if (words === undefined) return null;
  const table = new Uint32Array(sampledAt.length * words);
  for (const { row, draft, first } of drawings)
    if (row.seen !== null) seenAlong(row.seen, draft, table.subarray(first * words));
  return fromArray(backend, table, [sampledAt.length, words], "u32", "seen ids");
}

/** Adds a sampled token to a row. Returns true when the dialogue is over. */
function appendSample(row: Row, id: number, logProb: number, entropy: number, settings: GenerateSettings): boolean {
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
