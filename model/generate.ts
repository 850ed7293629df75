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
  readTensors,
  type RowGroup,
  rotaryTables,
  sampleTokens,
  scopeAsync,
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
  /** Two words of the noise counter: which rollout, and which prompt (DEFINITIONS: first 4 bytes of SHA-256 of its text). */
  readonly noise: { readonly rollout: number; readonly prompt: number };
  /** Tokens expected after the prompt, all turns: what the cache sets aside. More are possible, at the price of a second prefill. */
  readonly expectedTokens: number;
  /** Takes an answer; gives the tokens to append before the next one, or null when the dialogue is over. */
  answered(answer: Answer): ArrayLike<number> | null;
}

export interface GenerateSettings {
  /** Of one answer. */
  maxNewTokens: number;
  /** 0: greedy. */
  temperature: number;
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

interface Row {
  readonly dialogue: Dialogue;
  readonly prefixKey: string;
  readonly prefix: CacheRun;
  own: CacheRun;
  /** All tokens after the prefix, and how many of them the cache holds. */
  readonly tokens: number[];
  computed: number;
  /** The prefix's tokens where this row is the one that computes them. */
  pendingPrefix: ArrayLike<number> | null;
  turn: number;
  answer: { ids: number[]; logProbs: number[]; entropies: number[] };
}

/** Runs all dialogues to their end. Answers are handed over as they come, in no promised order. */
export async function generate(model: Model, dialogues: Iterable<Dialogue>, settings: GenerateSettings): Promise<void> {
  const waiting = [...dialogues];
  if (waiting.length === 0) return;
  const longest = Math.max(...waiting.map((d) => d.prompt.length + d.expectedTokens));
  const rows = Math.min(settings.maxRows, waiting.length);
  const cache = new KvCache(model.backend, model.config, cacheSlots(waiting, rows, longest));
  try {
    const active: Row[] = [];
    waiting.reverse();
    while (waiting.length > 0 || active.length > 0) {
      settings.signal?.throwIfAborted();
      while (active.length < rows) {
        const next = waiting.at(-1);
        if (next === undefined) break;
        const row = admit(cache, next);
        if (row === null) break;
        waiting.pop();
        active.push(row);
      }
      if (active.length === 0)
        throw new Error(`generate: a dialogue of ${longest} tokens does not fit a cache of ${cache.slots} slots`);
      // Rows of one grid point stand together, so that each point's weights meet one run of rows. The sort is stable: a row
      // that computes a prefix stays before those that share it.
      active.sort((a, b) => a.dialogue.point - b.dialogue.point);
      const finished = await pass(model, cache, active, settings);
      for (const row of finished) {
        active.splice(active.indexOf(row), 1);
        cache.give(row.own);
        cache.leavePrefix(row.prefixKey);
      }
    }
  } finally {
    cache.free();
  }
}

/** Slots for `rows` dialogues at once: their own tokens and every distinct prompt among as many neighbours. */
function cacheSlots(waiting: readonly Dialogue[], rows: number, longest: number): number {
  const longestOwn = Math.max(...waiting.map((d) => d.expectedTokens)) + 1;
  const prompts = new Map<string, number>();
  for (const d of waiting) prompts.set(prefixKeyOf(d), d.prompt.length);
  const prefixes = [...prompts.values()].sort((a, b) => b - a).slice(0, rows);
  return Math.max(rows * longestOwn + prefixes.reduce((sum, n) => sum + n, 0), longest + 1);
}

function prefixKeyOf(dialogue: Dialogue): string {
  return `${dialogue.point}:${Array.from(dialogue.prompt).join()}`;
}

function admit(cache: KvCache, dialogue: Dialogue): Row | null {
  const { prompt } = dialogue;
  const prefixKey = prefixKeyOf(dialogue);
  const shared = cache.sharePrefix(prefixKey, prompt.length - 1);
  if (shared === null) return null;
  const own = cache.take(dialogue.expectedTokens + 1);
  if (own === null) {
    cache.leavePrefix(prefixKey);
    return null;
  }
  return {
    dialogue,
    prefixKey,
    prefix: shared.run,
    own,
    tokens: [prompt[prompt.length - 1]],
    computed: 0,
    pendingPrefix: shared.isNew && prompt.length > 1 ? Array.from(prompt).slice(0, -1) : null,
    turn: 0,
    answer: { ids: [], logProbs: [], entropies: [] },
  };
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

const nowhere: CacheRun = { start: 0, length: 0 };

/** One forward pass over waiting tokens, and a sampled token for each row that has no more of them. Gives the finished rows. */
async function pass(model: Model, cache: KvCache, active: readonly Row[], settings: GenerateSettings): Promise<Row[]> {
  const tokens = new PassTokens();
  for (const row of active) {
    const count = row.tokens.length - row.computed + (row.pendingPrefix?.length ?? 0);
    if (tokens.ids.length > 0 && tokens.ids.length + count > settings.maxTokens) break;
    makeRoom(cache, row);
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

  const sampled = await scopeAsync(async () => sampleAfter(model, cache, tokens, settings));
  const finished: Row[] = [];
  tokens.sampledRows.forEach((row, i) => {
    if (take(row, sampled.ids[i], sampled.logProbs[i], sampled.entropies[i], settings)) finished.push(row);
  });
  settings.onPass?.({ tokens: tokens.ids.length, sampled: tokens.sampledRows.length, finished: finished.length });
  return finished;
}

/** A row that has outgrown its run gets a longer one, and all its tokens are computed again there. */
function makeRoom(cache: KvCache, row: Row): void {
  if (row.tokens.length <= row.own.length) return;
  cache.give(row.own);
  const longer = cache.take(row.tokens.length + row.dialogue.expectedTokens) ?? cache.take(row.tokens.length);
  if (longer === null)
    throw new Error(
      `generate: a dialogue grew to ${row.tokens.length} tokens, the cache has no run of that length. Lower maxRows.`,
    );
  row.own = longer;
  row.computed = 0;
}

async function sampleAfter(
  { backend, config, weights }: Model,
  cache: KvCache,
  tokens: PassTokens,
  settings: GenerateSettings,
): Promise<{ ids: ArrayLike<number>; logProbs: ArrayLike<number>; entropies: ArrayLike<number> }> {
  const T = tokens.ids.length;
  const R = tokens.sampledRows.length;
  const rows = tokens.groups.length === 1 && tokens.groups[0].point === 0 ? null : tokens.groups;
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
    table.set([answer.ids.length | (turn << 24), dialogue.noise.rollout, dialogue.noise.prompt, 0], 4 * i);
  });
  const sampled = sampleTokens(last, headWeight(config, weights), rows === null ? null : sampledGroups, {
    counters: fromArray(backend, table, [R, 4], "u32", "noise counters"),
    key: settings.noiseKey,
    temperature: settings.temperature,
  });
  const [ids, logProbs, entropies] = await readTensors([sampled.ids, sampled.logProbs, sampled.entropy]);
  return { ids, logProbs, entropies };
}

/** Adds a sampled token to a row. True when its dialogue is over. */
function take(row: Row, id: number, logProb: number, entropy: number, settings: GenerateSettings): boolean {
  const { answer } = row;
  answer.ids.push(id);
  answer.logProbs.push(logProb);
  answer.entropies.push(entropy);
  row.tokens.push(id);
  const isStopped = settings.stopIds.includes(id);
  if (!isStopped && answer.ids.length < settings.maxNewTokens) return false;
  const next = row.dialogue.answered({ turn: row.turn, ...answer, isTruncated: !isStopped });
  if (next === null) return true;
  for (let i = 0; i < next.length; i++) row.tokens.push(next[i]);
  row.turn++;
  row.answer = { ids: [], logProbs: [], entropies: [] };
  return false;
}
