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
import { boundsOf, type DialogueBounds, prefixKeyOf } from "./dialogue-bounds.ts";
import { type CacheRun, KvCache } from "./kv-cache.ts";
import { finalStates, headWeight, type LanguageModel } from "./language-model.ts";
import { StepsPerRead } from "./steps-per-read.ts";

export interface Model {
  readonly backend: Backend;
  readonly config: LanguageModel;
  readonly weights: Weights;
}

/** The sampled tokens of one turn. */
export interface Answer {
  /** The turn's number, from 0. */
  readonly turn: number;
  /** The sampled ids, with the end token if one was sampled. */
  readonly ids: readonly number[];
  /** Log-probability of each id at the sampling temperature (1 when greedy), f32. */
  readonly logProbs: readonly number[];
  /** Entropy of the distribution that each id was drawn from, in nats, f32. */
  readonly entropies: readonly number[];
  /** True if maxNewTokens was reached before an end token. */
  readonly isTruncated: boolean;
}

export interface Dialogue {
  /** Which policy answers, if the weights hold several (`RowGroup.point`); 0 with plain weights. */
  readonly policy: number;
  /** The token ids before the first answer. */
  readonly prompt: ArrayLike<number>;
  /** Two words of the noise counter: the rollout and the prompt (docs/definitions.md, "Random numbers"). */
  readonly noise: { readonly rollout: number; readonly prompt: number };
  /**
   * Expected number of tokens after the prompt, over all turns. The cache reserves as many slots; a longer dialogue
   * must be computed again in a longer run of slots.
   */
  readonly expectedTokens: number;
  /** Receives an answer. Returns the tokens to append before the next answer, or null when the dialogue is over. */
  answered(answer: Answer): ArrayLike<number> | null;
  /** Called with each token as it is sampled. */
  sampled?(id: number): void;
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
   * Called after each pass, and for each of several decode steps. `tokens`: computed. `sampled`: drawn and used, so not
   * those after the end of an answer.
   */
  onPass?: (pass: { tokens: number; sampled: number; finished: number }) => void;
}

const nowhere: CacheRun = { start: 0, length: 0 };

interface Row {
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
}

/**
 * Runs all dialogues to their end. Answers are handed over when they are finished, in an unspecified order. Dialogues
 * enter the batch in the order given, and each is asked for only then. So an iterable that makes them on demand needs
 * memory for those under way alone; it must be given with `settings.bounds`.
 */
export async function generate(model: Model, dialogues: Iterable<Dialogue>, settings: GenerateSettings): Promise<void> {
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
  const nextRow = (): Row | undefined => {
    if (waiting.length === 0) {
      const { done, value } = incoming.next();
      if (!done) waiting.push(beginRow(value, seenVocabulary));
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
    while (active.length > 0 || nextRow() !== undefined) {
      settings.signal?.throwIfAborted();
      // A row that outgrew its run is preempted if there is no longer run: it waits for other rows to leave and is
      // recomputed.
      for (const row of active.filter((one) => !ensureRoom(cache, one))) {
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
      // Rows of one policy are contiguous, so that each policy's weights are used by one range of rows. The sort is
      // stable: the row that computes a prefix stays before the rows that share it.
      active.sort((one, other) => one.dialogue.policy - other.dialogue.policy);
      for (const row of await pass(model, cache, active, settings, pace)) leave(row);
    }
  } finally {
    cache.free();
  }
}

/** The dialogues one after another, and their bounds; without bounds from the caller, all dialogues are collected first. */
function boundedBy(
  dialogues: Iterable<Dialogue>,
  { bounds, maxRows }: GenerateSettings,
): { incoming: Iterator<Dialogue>; bounds: DialogueBounds } {
  const found = bounds === undefined ? [...dialogues] : dialogues;
  return { incoming: found[Symbol.iterator](), bounds: bounds ?? boundsOf(found, maxRows) };
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

/** The tokens of one pass, while they are collected. */
class PassTokens {
  readonly ids: number[] = [];
  readonly positions: number[] = [];
  readonly slots: number[] = [];
  readonly spans: number[] = [];
  readonly groups: OpenGroup[] = [];
  readonly sampledRows: Row[] = [];
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

  /** Which policy each sampled row belongs to. */
  sampledGroups(): RowGroup[] {
    const groups: OpenGroup[] = [];
    for (const { dialogue } of this.sampledRows) extendGroups(groups, dialogue.policy, 1);
    return groups;
  }
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

/**
 * One forward pass over waiting tokens, and a sampled token for each row that was computed; or several decode steps.
 * Returns the finished rows.
 */
async function pass(
  model: Model,
  cache: KvCache,
  active: readonly Row[],
  settings: GenerateSettings,
  pace: StepsPerRead,
): Promise<Row[]> {
  const tokens = new PassTokens();
  for (const row of active) {
    const count = row.tokens.length - row.computed + (row.pendingPrefix?.length ?? 0);
    if (tokens.ids.length > 0 && tokens.ids.length + count > settings.maxTokens) break;
    const { policy } = row.dialogue;
    if (row.pendingPrefix !== null) {
      tokens.push(policy, row.pendingPrefix, 0, nowhere, row.prefix);
      row.pendingPrefix = null;
    }
    tokens.push(policy, row.tokens, row.computed, row.prefix, row.own);
    row.computed = row.tokens.length;
    tokens.sampledRows.push(row);
    tokens.sampledAt.push(tokens.ids.length - 1);
  }

  const rows = tokens.sampledRows;
  const isDecode = tokens.ids.length === rows.length;
  /** How many steps' tokens each row can use: it has slots for them, and its answer may become that long. */
  const usable = rows.map(({ own, tokens: { length }, answer }) =>
    Math.min(own.length - length + 1, settings.maxNewTokens - answer.ids.length),
  );
  const steps = isDecode ? Math.max(1, Math.min(pace.count, Math.max(...usable))) : 1;
  model.backend.phase?.(isDecode ? "decode step" : "prefill");
  const begun = performance.now();
  const drawn = await scopeAsync(async () => drawTokens(model, cache, tokens, usable, steps, settings));
  if (isDecode) await pace.timed(steps, performance.now() - begun);

  const finished: Row[] = [];
  /** Rows whose answer goes on. */
  let under = rows.map((_, i) => i);
  drawn.forEach(({ ids, logProbs, entropies }, step) => {
    if (step > 0) settings.signal?.throwIfAborted();
    under = under.filter((i) => step === 0 || step < usable[i]);
    const sampled = under.length;
    const before = finished.length;
    under = under.filter((i) => {
      if (ids[i] === noSample) throw new NumericalError(notNumbers("generate", model.weights));
      const row = rows[i];
      if (step > 0) row.computed++;
      const { turn, answer } = row;
      const isOver = appendSample(row, ids[i], logProbs[i], entropies[i], settings);
      if (isOver) finished.push(row);
      if (!isOver && row.turn === turn) return true;
      pace.ended(answer.ids.length);
      return false;
    });
    settings.onPass?.({ tokens: tokens.ids.length, sampled, finished: finished.length - before });
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

/** The results of one step, in the order of the rows. */
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
  const R = tokens.sampledRows.length;
  const isDecode = T === R;
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
    tokens.sampledRows.forEach(({ dialogue, turn, answer }, i) => {
      const later = step === 0 ? 0 : Math.min(step, usable[i] - 1);
      const row = tokenCounterRow({ position: answer.ids.length + later, turn, ...dialogue.noise });
      given.set(row, countersAt + 4 * (step * R + i));
    });
  }
  given.set(tokens.ids, idsAt);
  const uploaded = fromArray(backend, given, [given.length], "u32", "tokens");
  let ids: Batch["ids"] = { tensor: uploaded.sliceRows(idsAt, T), host: given.slice(idsAt, idsAt + T) };
  const seen = seenTable(backend, tokens.sampledRows);
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
        ...(isDecode ? {} : { outputs: sampledOutputs(backend, tokens, sampledRows) }),
      };
      const into = { keys: cache.keys, values: cache.values, slots: uploaded.sliceRows(slotsAt + step * T, T) };
      const last = finalStates(config, weights, batch, into); // [R, C]
      return sampleTokens(last, headWeight(config, weights), sampledRows, {
        counters: fours(countersAt, R),
        key: settings.noiseKey,
        temperature: settings.temperature,
        warping: settings.warping && { ...settings.warping, seen },
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

/** The last token of each row: only its final state is read. */
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

/** The ids that each row has seen, as bits, [R, words]; null if rows do not keep track of them. */
function seenTable(backend: Backend, rows: readonly Row[]): Tensor | null {
  const words = rows[0].seen?.length;
  if (words === undefined) return null;
  const table = new Uint32Array(rows.length * words);
  rows.forEach(({ seen }, i) => {
    if (seen !== null) table.set(seen, i * words);
  });
  return fromArray(backend, table, [rows.length, words], "u32", "seen ids");
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
  if (next === null) return true;
  append(row, next);
  row.turn++;
  row.answer = { ids: [], logProbs: [], entropies: [] };
  return false;
}

function append(row: Row, ids: ArrayLike<number>): void {
  for (let i = 0; i < ids.length; i++) row.tokens.push(ids[i]);
  if (row.seen !== null) markSeen(row.seen, Array.from(ids));
}
