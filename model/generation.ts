// Batched generation over several turns. Each pass of the model takes whatever tokens are waiting: of a new dialogue its
// prompt, of one in mid-answer the token just sampled, of one whose turn ended the next user turn. Dialogues that finish
// leave the batch and waiting ones enter; by the reduction contract that changes no bit of what any of them says.
//
// A prompt that several dialogues share (at one grid point) is computed once and kept once. Its last token is computed by
// each dialogue for itself, so that one which joins later finds logits to begin with.
import {
  type Backend,
  fromArray,
  gatherRows,
  markSeen,
  NumericalError,
  noSample,
  type RowGroup,
  readTensors,
  rotaryTables,
  sampleTokens,
  scopeAsync,
  seenWords,
  type Tensor,
  tokenCounterRow,
  type Warping,
  type Weights,
} from "../engine/index.ts";
import type { Batch } from "./batch.ts";
import type { Qwen2Config } from "./config.ts";
import { type CacheRun, KvCache } from "./kv-cache.ts";
import { forward, headWeight } from "./qwen2.ts";

export interface Model {
  readonly backend: Backend;
  readonly config: Qwen2Config;
  readonly weights: Weights;
}

/** What was sampled in one turn. */
export interface Answer {
  /** From 0. */
  readonly turn: number;
  /** With the end token where one was sampled. */
  readonly ids: readonly number[];
  /** Log-probability of each id at the sampling temperature (1 when greedy), f32. */
  readonly logProbs: readonly number[];
  /** Entropy of the distribution each id was drawn from, in nats, f32. */
  readonly entropies: readonly number[];
  /** maxNewTokens came before an end token. */
  readonly isTruncated: boolean;
}

export interface Dialogue {
  /** The grid point whose weights speak; 0 with plain weights. */
  readonly point: number;
  /** Tokens up to the first answer. */
  readonly prompt: ArrayLike<number>;
  /** Two words of the noise counter: which rollout, and which prompt (docs/definitions.md, "Random numbers"). */
  readonly noise: { readonly rollout: number; readonly prompt: number };
  /** Tokens expected after the prompt, all turns: what the cache sets aside. More are possible, at the price of a second prefill. */
  readonly expectedTokens: number;
  /** Takes an answer; gives the tokens to append before the next one, or null when the dialogue is over. */
  answered(answer: Answer): ArrayLike<number> | null;
  /** Called with each token as it is sampled. */
  sampled?(id: number): void;
}

export interface GenerateSettings {
  /** Of one answer. */
  maxNewTokens: number;
  /** 0: greedy. */
  temperature: number;
  /** Repetition penalty (over prompt and all turns), top-k and top-p. Default: none. */
  warping?: Warping;
  /** Philox key of the sampling noise. */
  noiseKey: readonly [number, number];
  /** Tokens that end an answer; empty to go on to maxNewTokens. */
  stopIds: readonly number[];
  /** Dialogues in the batch at once. */
  maxRows: number;
  /** Tokens in one pass at most (a longer prompt goes alone). */
  maxTokens: number;
  signal?: AbortSignal;
  /** Called after each pass. */
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
  /** The prefix's tokens where this row is the one that computes them. */
  pendingPrefix: ArrayLike<number> | null;
  turn: number;
  /** The ids of its text so far, where the penalty asks for them. */
  seen: Uint32Array | null;
  answer: { ids: number[]; logProbs: number[]; entropies: number[] };
}

/** Runs all dialogues to their end. Answers are handed over as they come, in no promised order. */
export async function generate(model: Model, dialogues: Iterable<Dialogue>, settings: GenerateSettings): Promise<void> {
  const isPenalised = (settings.warping?.repetitionPenalty ?? 1) !== 1;
  const vocabulary = model.config.vocabSize;
  const waiting = Array.from(dialogues, (dialogue) => beginRow(dialogue, isPenalised ? vocabulary : null)).reverse();
  if (waiting.length === 0) return;
  const rows = Math.min(settings.maxRows, waiting.length);
  const cache = new KvCache(
    model.backend,
    model.config,
    cacheSlots(
      model,
      waiting.map(({ dialogue }) => dialogue),
      rows,
    ),
  );
  try {
    const active: Row[] = [];
    const leave = (row: Row): void => {
      active.splice(active.indexOf(row), 1);
      cache.give(row.own);
      cache.leavePrefix(row.prefixKey);
    };
    while (waiting.length > 0 || active.length > 0) {
      settings.signal?.throwIfAborted();
      // Rows that outgrew their run and find no longer one give way, and come back when others have left.
      for (const row of active.filter((one) => !hasRoom(cache, one))) {
        leave(row);
        waiting.push(row);
      }
      for (let next = waiting.at(-1); active.length < rows && next !== undefined; next = waiting.at(-1)) {
        if (!place(cache, next)) break;
        active.push(next);
        waiting.pop();
      }
      if (active.length === 0) throw new Error(`generate: no dialogue fits the cache of ${cache.slots} slots`);
      // Rows of one grid point stand together, so that each point's weights meet one run of rows. The sort is stable: a row
      // that computes a prefix stays before those that share it.
      active.sort((one, other) => one.dialogue.point - other.dialogue.point);
      for (const row of await pass(model, cache, active, settings)) leave(row);
    }
  } finally {
    cache.free();
  }
}

/** Slots for `rows` dialogues at once: their own tokens and every distinct prompt among as many neighbours. */
function cacheSlots({ backend, config }: Model, dialogues: readonly Dialogue[], rows: number): number {
  const longestOwn = Math.max(...dialogues.map((d) => d.expectedTokens)) + 1;
  const prompts = new Map(dialogues.map((d) => [prefixKeyOf(d), d.prompt.length]));
  const prefixes = [...prompts.values()].sort((a, b) => b - a).slice(0, rows);
  // One dialogue alone may be twice as long as expected.
  const needed = Math.max(rows * longestOwn, 2 * longestOwn) + prefixes.reduce((sum, n) => sum + n, 0);
  return needed + slotsLostAtCuts(KvCache.slotsPerSegment(backend, config), needed, Math.max(longestOwn, ...prefixes));
}

/** No run crosses a segment, so each segment but the last may end in a gap that is too short for the next one. */
function slotsLostAtCuts(perSegment: number, needed: number, longest: number): number {
  const used = perSegment - (longest - 1);
  return used <= 0 || needed <= perSegment ? 0 : (Math.ceil(needed / used) - 1) * (longest - 1);
}

function prefixKeyOf(dialogue: Dialogue): string {
  return `${dialogue.point}:${Array.from(dialogue.prompt).join()}`;
}

/** @param seenVocabulary  how many ids the row keeps account of; null: of none */
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

/** Finds room in the cache for a row that has none. Nothing of it is computed there yet. */
function place(cache: KvCache, row: Row): boolean {
  const { prompt, expectedTokens } = row.dialogue;
  const shared = cache.sharePrefix(row.prefixKey, prompt.length - 1);
  if (shared === null) return false;
  const own = takeRun(cache, row.tokens.length, Math.max(expectedTokens + 1, row.tokens.length));
  if (own === null) {
    cache.leavePrefix(row.prefixKey);
    return false;
  }
  row.prefix = shared.run;
  row.own = own;
  row.computed = 0;
  row.pendingPrefix = shared.isNew && prompt.length > 1 ? Array.from(prompt).slice(0, -1) : null;
  return true;
}

/** A run of the slots wished for, or of fewer that will do: of twice those needed, lest a row be computed again at every token. */
function takeRun(cache: KvCache, needed: number, wished: number): CacheRun | null {
  return cache.take(wished) ?? cache.take(Math.min(2 * needed, wished)) ?? cache.take(needed);
}

/** Whether a row's tokens fit its run; one that has outgrown it gets a longer one, and is computed again there. */
function hasRoom(cache: KvCache, row: Row): boolean {
  if (row.tokens.length <= row.own.length) return true;
  const longer = takeRun(cache, row.tokens.length, row.tokens.length + row.dialogue.expectedTokens);
  if (longer === null) return false;
  cache.give(row.own);
  row.own = longer;
  row.computed = 0;
  return true;
}

/** The tokens of one pass, as they are put together. */
class PassTokens {
  readonly ids: number[] = [];
  readonly positions: number[] = [];
  readonly slots: number[] = [];
  readonly spans: number[] = [];
  readonly groups: RowGroup[] = [];
  readonly sampledRows: Row[] = [];
  readonly sampledAt: number[] = [];

  /** Tokens first … first + count − 1 of a run that begins after `prefix`. */
  push(point: number, ids: ArrayLike<number>, first: number, prefix: CacheRun, own: CacheRun): void {
    for (let i = first; i < ids.length; i++) {
      const position = prefix.length + i;
      this.ids.push(ids[i]);
      this.positions.push(position);
      this.slots.push(own.start + i);
      this.spans.push(prefix.start, prefix.length, own.start, position + 1);
    }
    extendGroups(this.groups, point, ids.length - first);
  }
}

function extendGroups(groups: RowGroup[], point: number, count: number): void {
  const last = groups.at(-1);
  if (last !== undefined && last.point === point) groups[groups.length - 1] = { ...last, count: last.count + count };
  else groups.push({ start: last === undefined ? 0 : last.start + last.count, count, point });
}

/** One forward pass over waiting tokens, and a sampled token for each row that has no more of them. Gives the finished rows. */
async function pass(model: Model, cache: KvCache, active: readonly Row[], settings: GenerateSettings): Promise<Row[]> {
  const tokens = new PassTokens();
  for (const row of active) {
    const count = row.tokens.length - row.computed + (row.pendingPrefix?.length ?? 0);
    if (tokens.ids.length > 0 && tokens.ids.length + count > settings.maxTokens) break;
    const { point } = row.dialogue;
    if (row.pendingPrefix !== null) {
      tokens.push(point, row.pendingPrefix, 0, nowhere, row.prefix);
      row.pendingPrefix = null;
    }
    tokens.push(point, row.tokens, row.computed, row.prefix, row.own);
    row.computed = row.tokens.length;
    tokens.sampledRows.push(row);
    tokens.sampledAt.push(tokens.ids.length - 1);
  }

  model.backend.phase?.(tokens.ids.length > tokens.sampledRows.length ? "prefill" : "decode step");
  const sampled = await scopeAsync(async () => sampleAfter(model, cache, tokens, settings));
  const finished: Row[] = [];
  tokens.sampledRows.forEach((row, i) => {
    if (sampled.ids[i] === noSample)
      throw new NumericalError(
        "generate: the model's logits are not numbers: its weights hold NaN or infinite values.",
      );
    if (take(row, sampled.ids[i], sampled.logProbs[i], sampled.entropies[i], settings)) finished.push(row);
  });
  settings.onPass?.({ tokens: tokens.ids.length, sampled: tokens.sampledRows.length, finished: finished.length });
  return finished;
}

async function sampleAfter(
  { backend, config, weights }: Model,
  cache: KvCache,
  tokens: PassTokens,
  settings: GenerateSettings,
): Promise<{ ids: ArrayLike<number>; logProbs: ArrayLike<number>; entropies: ArrayLike<number> }> {
  const T = tokens.ids.length;
  const R = tokens.sampledRows.length;
  const rows = weights.get("model.norm.weight").kind === "slots" ? tokens.groups : null;
  const { cos, sin } = rotaryTables(tokens.positions, config.headDim, config.ropeTheta);
  const half = config.headDim / 2;
  const host = Uint32Array.from(tokens.ids);
  const batch: Batch = {
    ids: { tensor: fromArray(backend, host, [T], "u32", "ids"), host },
    cos: fromArray(backend, cos, [T, half], "f32", "cos"),
    sin: fromArray(backend, sin, [T, half], "f32", "sin"),
    spans: fromArray(backend, tokens.spans, [T, 4], "u32", "spans"),
    querySpans: null,
    rows,
  };
  const slots = fromArray(backend, tokens.slots, [T], "u32", "slots");
  const hidden = forward(config, weights, batch, { keys: cache.keys, values: cache.values, slots }); // [T, C]
  const last = gatherRows(hidden, tokens.sampledAt); // [R, C]
  const sampledGroups: RowGroup[] = [];
  const table = new Uint32Array(R * 4);
  tokens.sampledRows.forEach(({ dialogue, turn, answer }, i) => {
    extendGroups(sampledGroups, dialogue.point, 1);
    table.set(tokenCounterRow({ position: answer.ids.length, turn, ...dialogue.noise }), 4 * i);
  });
  const sampled = sampleTokens(last, headWeight(config, weights), rows === null ? null : sampledGroups, {
    counters: fromArray(backend, table, [R, 4], "u32", "noise counters"),
    key: settings.noiseKey,
    temperature: settings.temperature,
    warping: settings.warping && { ...settings.warping, seen: seenTable(backend, tokens.sampledRows) },
  });
  const [ids, logProbs, entropies] = await readTensors([sampled.ids, sampled.logProbs, sampled.entropy]);
  return { ids, logProbs, entropies };
}

/** What each row has seen, [R, words]; null where rows keep no account. */
function seenTable(backend: Backend, rows: readonly Row[]): Tensor | null {
  const words = rows[0].seen?.length;
  if (words === undefined) return null;
  const table = new Uint32Array(rows.length * words);
  rows.forEach(({ seen }, i) => {
    if (seen !== null) table.set(seen, i * words);
  });
  return fromArray(backend, table, [rows.length, words], "u32", "seen ids");
}

/** Adds a sampled token to a row. True when its dialogue is over. */
function take(row: Row, id: number, logProb: number, entropy: number, settings: GenerateSettings): boolean {
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
