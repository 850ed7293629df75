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
// Lanes: on a software driver a large batch is run as two, each with its own cache, which take dialogues from one queue
// (lanes.ts). While the device computes a pass of one, the host takes the samples of the other and makes its next pass.
//
// Prefix sharing: a prompt that several dialogues of one policy share is computed once and cached once. Each dialogue
// computes the prompt's last token itself, so a dialogue that joins later also has logits to sample from.
import type { Dialogue } from "./dialogue.ts";
import { boundsOf, type DialogueBounds } from "./dialogue-bounds.ts";
import type { GenerateSettings, Model, Pass } from "./generate-settings.ts";
import { pass } from "./generation-pass.ts";
import { KvCache } from "./kv-cache.ts";
import { DialogueQueue, Lanes, rowsOfLanes } from "./lanes.ts";
import type { Row } from "./pass-tokens.ts";
import { admit, cacheSlots, ensureRoom, firstOf, takeArrived } from "./rows-under-way.ts";
import { StepsPerRead } from "./steps-per-read.ts";

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
  const { incoming, bounds } = boundedBy(dialogues, settings);
  if (bounds.count === 0) return;
  const { stepsPerRead } = settings;
  if (stepsPerRead !== undefined && !(Number.isInteger(stepsPerRead) && stepsPerRead >= 1))
    throw new Error(`generate: stepsPerRead: expected a whole number from 1 on, got ${stepsPerRead}.`);
  const pace = new StepsPerRead(model.backend, isPenalised ? 1 : stepsPerRead, settings.maxNewTokens);
  const queue = new DialogueQueue(incoming, isPenalised ? model.config.vocabSize : null);
  const shares = rowsOfLanes(model.backend, Math.min(settings.maxRows, bounds.count));
  const lanes = new Lanes(shares.length);
  const caches: KvCache[] = [];
  try {
    for (const rows of shares)
      caches.push(new KvCache(model.backend, model.config, cacheSlots(model, bounds, rows), model.weights.operands));
    await lanes.run((lane) =>
      runLane(model, caches[lane], queue, { settings, pace, places: shares[lane], lanes, lane }),
    );
  } finally {
    for (const cache of caches) cache.free();
  }
}

interface LaneSettings {
  readonly settings: GenerateSettings;
  readonly pace: StepsPerRead;
  /** Dialogues in the lane's batch at a time, at most. */
  readonly places: number;
  readonly lanes: Lanes;
  /** The number of this lane. */
  readonly lane: number;
}

/** Takes dialogues from the queue and runs them to their end, until there are no more. */
async function runLane(
  model: Model,
  cache: KvCache,
  queue: DialogueQueue,
  { settings, pace, places, lanes, lane }: LaneSettings,
): Promise<void> {
  const active: Row[] = [];
  /** Preempted rows, the next one last. */
  const waiting: Row[] = [];
  const nextRow = (): Row | undefined => waiting.at(-1) ?? queue.next() ?? undefined;
  const leave = (row: Row): void => {
    active.splice(active.indexOf(row), 1);
    cache.release(row.own);
    cache.releasePrefix(row.prefixKey);
  };
  for (;;) {
    settings.signal?.throwIfAborted();
    if (lanes.hasFailed) return;
    const over = takeArrived(active);
    for (const row of over) leave(row);
    if (over.length > 0) settings.onPass?.({ ...noPass, finished: over.length });
    const isEmpty = active.length === 0 && nextRow() === undefined;
    const isIdle = isEmpty && !queue.isExhausted && lanes.isAlone(lane);
    lanes.works(lane, true);
    const hasHappened = (await settings.between?.(isIdle)) ?? false;
    if (hasHappened) lanes.changed();
    if (active.length === 0 && nextRow() === undefined) {
      if (queue.isExhausted) break;
      lanes.works(lane, false);
      if (hasHappened) continue;
      if (lanes.isAlone(lane)) throw new Error("generate: no dialogue is under way, and none comes");
      await lanes.change();
      continue;
    }
    // A row that outgrew its run is preempted if there is no longer run: it waits for other rows to leave and is
    // recomputed.
    for (const row of active.filter((one) => one.coming === null && !ensureRoom(cache, one))) {
      leave(row);
      waiting.push(row);
    }
    while (active.length < places) {
      const next = nextRow();
      if (next === undefined || !admit(cache, next)) break;
      active.push(next);
      if (waiting.length > 0) waiting.pop();
      else queue.take();
    }
    if (active.length === 0) throw new Error(`generate: no dialogue fits the cache of ${cache.slots} slots`);
    if (active.every(({ coming }) => coming !== null)) {
      await Promise.race([firstOf(active, settings.signal), lanes.failure]);
      continue;
    }
    // Rows of one policy are contiguous, so that each policy's weights are used by one range of rows. The sort is
    // stable: the row that computes a prefix stays before the rows that share it.
    active.sort((one, other) => one.dialogue.policy - other.dialogue.policy);
    for (const row of await pass(model, cache, active, settings, { pace, places, lane })) leave(row);
    lanes.changed();
  }
}

/** What `onPass` is told when dialogues end between two passes. */
const noPass: Pass = { tokens: 0, sampled: 0, finished: 0, drafted: 0, spared: 0, rows: 0, places: 0, lane: 0 };

/** The dialogues one after another, and their bounds; without bounds from the caller, all dialogues are collected first. */
function boundedBy(
  dialogues: Iterable<Dialogue | null>,
  { bounds, maxRows }: GenerateSettings,
): { incoming: Iterator<Dialogue | null>; bounds: DialogueBounds } {
  if (bounds !== undefined) return { incoming: dialogues[Symbol.iterator](), bounds };
  const found = [...dialogues].filter((dialogue) => dialogue !== null);
  return { incoming: found[Symbol.iterator](), bounds: boundsOf(found, maxRows) };
}
