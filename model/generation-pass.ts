// One forward pass of a generation (generation.ts): it collects the tokens that wait, computes them, and draws the next ones.
import {
  type Backend,
  fromArray,
  gatherRows,
  NumericalError,
  noSample,
  type RowGroup,
  readLogits,
  readTensors,
  scope,
  scopeAsync,
  type Tensor,
  tokenCounterRow,
  tokenSampler,
  type Weights,
} from "../engine/index.ts";
import { type Batch, type BatchOutputs, spansOf } from "./batch.ts";
import type { DecodeSteps, Drawn } from "./decode-steps.ts";
import { draftFor, seenAlong } from "./drafts.ts";
import type { GenerateSettings, Model, StatesUse } from "./generate-settings.ts";
import type { KvCache } from "./kv-cache.ts";
import { finalStates, headWeight } from "./language-model.ts";
import { type Drawing, endOf, PassTokens, placesIn, placesOf, type Row, type Sharing } from "./pass-tokens.ts";
import { appendSample } from "./rows-under-way.ts";
import type { StepsPerRead } from "./steps-per-read.ts";

/**
 * One forward pass over waiting tokens, and the sampled tokens of each row that was computed: one, or more with a draft
 * or in several decode steps. Returns the finished rows.
 */
export async function pass(
  model: Model,
  cache: KvCache,
  active: readonly Row[],
  settings: GenerateSettings,
  { pace, places, decode, names }: { pace: StepsPerRead; places: number; decode: DecodeSteps; names: HistoryNames },
): Promise<Row[]> {
  const tokens = new PassTokens(sharingOf(model, cache, active, settings, pace), names.next);
  const finished: Row[] = [];
  for (const row of active) {
    if (row.coming !== null) continue;
    const count = endOf(row) - row.computed + (row.pendingPrefix?.length ?? 0);
    const isFull = (more: number): boolean => tokens.ids.length > 0 && tokens.ids.length + more > settings.maxTokens;
    const isWhole = !isFull(count) || !isFull(tokens.needed(row));
    // A text may be read in parts: after its prompt it takes the room that is left. A row of its policy would wait for it.
    const left = settings.maxTokens - tokens.ids.length - (row.pendingPrefix?.length ?? 0);
    if (!isWhole && (row.text === null || left < 1)) break;
    tokens.add(row, isWhole ? Number.POSITIVE_INFINITY : left);
    if (row.text !== null) {
      if (row.computed === row.tokens.length) finished.push(row);
      continue;
    }
    // With a penalty, samples have their sets of seen ids, which are large: no more of them than rows are under way.
    const samples = row.seen === null ? Number.POSITIVE_INFINITY : settings.maxRows - tokens.sampledAt.length - 1;
    const room = Math.min(settings.maxTokens - tokens.ids.length, samples);
    tokens.draw(row, draftFor(row, settings, model.config.vocabSize, room));
  }
  names.next += tokens.ids.length;

  const { drawings } = tokens;
  const isDecode = decode.isStep(tokens);
  /** How many steps' tokens each row can use: it has slots for them, and its answer may become that long. */
  const usable = drawings.map(({ row: { own, tokens: said, answer } }) =>
    Math.min(own.length - said.length + 1, settings.maxNewTokens - answer.ids.length),
  );
  const isShared = tokens.copies.to.length > 0;
  const steps = isDecode && !isShared ? Math.max(1, Math.min(pace.count, Math.max(...usable))) : 1;
  model.backend.phase?.(isDecode ? "decode step" : "prefill");
  const begun = performance.now();
  const drawn = isDecode
    ? await decode.draw(tokens, usable, steps)
    : [await scopeAsync(async () => drawTokens(model, cache, tokens, settings))];
  if (isDecode) await pace.timed(steps, performance.now() - begun);

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
      const isOver = useSamples(tokens, drawings[i], samples, model.weights, settings, counts);
      if (isOver) finished.push(row);
      if (!isOver && row.turn === turn && row.coming === null) return true;
      pace.ended(answer.ids.length);
      return false;
    });
    // A pass that only reads texts has no place for a dialogue.
    const own = drawings.length === 0 ? 0 : places;
    settings.onPass?.({ tokens: tokens.ids.length, finished: finished.length - before, ...counts, rows, places: own });
  });
  return finished;
}

/** Histories get names that no other history of the generation has; from `next` on they are free. */
export interface HistoryNames {
  next: number;
}

/**
 * Which tokens a pass computes once that rows have in common (pass-tokens.ts). Not in decode steps of which several run between
 * two reads: rows could part in between. And not with a penalty, whose samples need sets of ids in the order of the rows.
 */
function sharingOf(
  { config }: Model,
  cache: KvCache,
  active: readonly Row[],
  settings: GenerateSettings,
  pace: StepsPerRead,
): Sharing {
  if (config.copiesSlots !== true || !cache.isWhole || active.some(({ seen }) => seen !== null)) return "none";
  const isRead =
    pace.count === 1 ||
    active.some((row) => row.tokens.length - row.computed > 1 || row.pendingPrefix !== null || row.dialogue.draft);
  return isRead ? (settings.sharesTokens ?? "all") : "none";
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
  tokens: PassTokens,
  drawing: Drawing,
  { ids, logProbs, entropies }: Drawn,
  weights: Weights,
  settings: GenerateSettings,
  counts: { sampled: number; drafted: number; spared: number },
): boolean {
  const { row, draft, first } = drawing;
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
      row.history = tokens.historyAt(drawing, k);
    }
    if (appendSample(row, ids[at], logProbs[at], entropies[at], settings)) return true;
    if (!isDrafted || row.turn !== turn || row.coming !== null || k === draft.computed) return false;
  }
}

/** Runs the pass, and reads what it drew. */
async function drawTokens(
  { backend, config, weights }: Model,
  cache: KvCache,
  tokens: PassTokens,
  settings: GenerateSettings,
): Promise<Drawn> {
  const T = tokens.ids.length;
  const P = tokens.sampledAt.length;
  const groups = weights.isPerturbed ? tokens.groups : null;
  // With a penalty or cuts, logits are warped for samples alone.
  const { indices, drawn, rowOf } = tokens.outputs(settings.warping !== undefined);
  const rowsOf = (tokensOfRows: Uint32Array): RowGroup[] | null =>
    weights.isPerturbed ? tokens.groupsOf(tokensOfRows) : null;
  const { from, to } = tokens.copies;
  // All that the host gives goes to the device in one write.
  const [spansAt, countersAt, idsAt, slotsAt, rowsAt, fromAt, toAt, end] = placesOf(
    ...[4 * T, 4 * P, T, T, rowOf === null ? 0 : P, from.length, to.length],
  );
  const given = new Uint32Array(end);
  given.set(tokens.spans, spansAt);
  given.set(tokens.ids, idsAt);
  given.set(tokens.slots, slotsAt);
  if (rowOf !== null) given.set(rowOf, rowsAt);
  given.set(from, fromAt);
  given.set(to, toAt);
  tokens.drawings.forEach(({ row: { dialogue, turn, answer }, draft, first }) => {
    const { rollout, prompt } = dialogue.noise;
    for (let k = 0; k <= draft.computed; k++)
      given.set(
        tokenCounterRow({ position: answer.ids.length + k, turn, rollout, prompt }),
        countersAt + 4 * (first + k),
      );
  });
  const uploaded = fromArray(backend, given, [given.length], "u32", "tokens");
  const fours = (at: number, rows: number): Tensor => uploaded.sliceRows(at, 4 * rows).view([rows, 4]);
  let use: StatesUse | null = null;
  const found = scope((): Tensor[] => {
    const batch: Batch = {
      ids: { tensor: uploaded.sliceRows(idsAt, T), host: given.slice(idsAt, idsAt + T) },
      positions: Uint32Array.from(tokens.positions),
      spans: fours(spansAt, T),
      querySpans: null,
      rows: groups,
      sequences: tokens.drawings.length + tokens.readings.length,
      ...(T === indices.length ? {} : { outputs: wantedOutputs(backend, tokens, indices, rowsOf(indices)) }),
    };
    const into = {
      ...{ keys: cache.keys, values: cache.values, slots: uploaded.sliceRows(slotsAt, T) },
      ...(to.length > 0 && {
        copies: { from: uploaded.sliceRows(fromAt, from.length), to: uploaded.sliceRows(toAt, to.length) },
      }),
    };
    const last = finalStates(config, weights, batch, into); // [R, C]
    const head = headWeight(config, weights);
    const drawnFrom = drawn === null ? last : gatherRows(last, drawn);
    const samplers =
      P === 0
        ? []
        : [
            tokenSampler(drawnFrom, head, {
              counters: fours(countersAt, P),
              rowOf: rowOf && uploaded.sliceRows(rowsAt, P),
              key: settings.noiseKey,
              temperature: settings.temperature,
              ...(settings.warping && { warping: { ...settings.warping, seen: seenTable(backend, tokens) } }),
            }),
          ];
    use = tokens.readings.length === 0 ? null : useStates(tokens, last, rowsOf(indices), indices, settings);
    const readers = use?.reader === undefined ? [] : [use.reader];
    const results =
      drawn === null
        ? readLogits(last, head, rowsOf(indices), [...samplers, ...readers])
        : [
            ...readLogits(drawnFrom, head, rowsOf(drawn.map((row) => indices[row])), samplers),
            ...readLogits(last, head, rowsOf(indices), readers),
          ];
    return [...results.flat(), ...(use?.tensors ?? [])];
  });
  const numbers = await readTensors(found);
  const [drawnIds = [], logProbs = [], entropies = []] = P === 0 ? [] : numbers.splice(0, 3);
  (use as StatesUse | null)?.take(numbers);
  return { ids: drawnIds, logProbs, entropies };
}

/** Hands the states that texts want to those who asked for them. */
function useStates(
  { readings }: PassTokens,
  hidden: Tensor,
  rows: RowGroup[] | null,
  indices: Uint32Array,
  { onStates }: GenerateSettings,
): StatesUse {
  if (onStates === undefined) throw new Error("generate: texts are read, and no onStates takes their states");
  const places = placesIn(
    indices,
    readings.flatMap(({ tokens }) => tokens),
  );
  let start = 0;
  return onStates({
    hidden,
    rows,
    texts: readings.map(({ text, first, tokens: wanted }) => {
      start += wanted.length;
      return { text, first, rowOf: [...places.subarray(start - wanted.length, start)] };
    }),
  });
}

/** The tokens whose final states are wanted. */
function wantedOutputs(
  backend: Backend,
  { spans, drawings, readings }: PassTokens,
  indices: Uint32Array,
  rows: readonly RowGroup[] | null,
): BatchOutputs {
  return {
    indices,
    spans: fromArray(backend, spansOf(indices, spans), [indices.length, 4], "u32", "spans"),
    querySpans: null,
    rows,
    sequences: drawings.length + readings.length,
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
