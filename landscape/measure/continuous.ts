// Measures points without batches: as soon as the last conversation of a point ends, its slot gets the weights of the next one,
// while the conversations of the other points go on. So no point waits for the longest answers of others. The checkpoint's own
// completions are read in the same passes (reading.ts), so that prompts and what both say alike are computed once.
//
// Points end in an order of their own. They are taken in the order of measurement all the same, so the files are those of
// batches: a point that ends before one ahead of it waits in memory, and its rollouts stay in under-way.jsonl until then.
import type { DirectionStep, PointWeights } from "../../engine/index.ts";
import type { Model, Text } from "../../model/index.ts";
import {
  expectFewFailures,
  expectTemplate,
  Occupancy,
  type RolloutRequest,
  rollOutEach,
  usualLimits,
} from "../../rl/index.ts";
import type { CellRecord } from "../files/cells.ts";
import type { PointPlace } from "../grid.ts";
import type { DraftSource } from "./drafts.ts";
import type { EarlierCells } from "./earlier-cells.ts";
import { keepRollout, ownAnswers, recordOf } from "./measured-point.ts";
import { boundsAtPoints, surveyPrompts, textSlots } from "./prompt-survey.ts";
import { ReferenceReader } from "./reading.ts";
import type { Reference } from "./reference.ts";
import { promptSet, rolloutSettings, type SweepContext } from "./sweep-context.ts";
import type { SweepProgress } from "./sweep-progress.ts";
import type { RolloutKey, UnderWay } from "./under-way.ts";

export type Take = (record: CellRecord, conversations: string) => void;

interface Continuous<P> {
  /** The points in the order in which they begin, if not that in which they are taken. */
  readonly inBeginOrder?: (points: readonly P[]) => P[];
  readonly reference: Reference;
  readonly earlier: EarlierCells;
  readonly underWay: UnderWay;
  readonly drafts: DraftSource | null;
  readonly progress: SweepProgress;
  /** How many points the weights hold. */
  readonly slots: number;
  /** Called in the order of the points. */
  readonly take: Take;
}

/** A point in a slot. */
interface Placed<P> {
  readonly cell: P;
  readonly nearest: ReturnType<DraftSource["nearest"]>;
  /** Rollouts that have not ended, and completions that were not read. */
  left: number;
  /** Of the rollouts of this process: how many there were, and why some failed. */
  drawn: number;
  readonly failures: string[];
}

interface Request extends RolloutRequest {
  readonly point: number;
  readonly key: RolloutKey;
}

/** @param points  all that are to be taken, in this order; those that `earlier` has whole are taken as they are */
export async function measureContinuously<P extends PointPlace>(
  context: SweepContext,
  { policy, perturbed }: { policy: Model; perturbed: Model & { readonly weights: PointWeights } },
  points: readonly P[],
  stepsTo: (point: P) => (name: string) => readonly DirectionStep[],
  { inBeginOrder = (all) => [...all], reference, earlier, underWay, drafts, progress, slots, take }: Continuous<P>,
): Promise<void> {
  const { settings, onTiming } = context;
  const { prompts, rollouts: perPrompt } = settings.landscape.rollouts;
  const episodes = promptSet(context).slice(0, prompts);
  const sampling = rolloutSettings(context);
  const ownAnswer = ownAnswers(reference);
  const todo = points.filter((cell) => !earlier.isWhole(cell));
  const takeNext = earlier.inOrder(points, take);
  progress.took(points.length - todo.length);
  if (todo.length === 0) return;
  const begins = inBeginOrder(todo);

  const reader = new ReferenceReader(policy, perturbed, reference, {
    maxTokens: settings.batch.tokens,
    clipLow: settings.train.clipLow,
    clipHigh: settings.train.clipHigh,
    known: (slot) => earlier.scoresAt(pointIn(slot).cell),
  });
  const first = begins.slice(0, slots);
  perturbed.weights.placeAlong(first.map(stepsTo));
  const placed = new Array<Placed<P> | null>(first.length).fill(null);
  const pointIn = (slot: number): Placed<P> => {
    const point = placed[slot];
    if (point === null) throw new Error(`sweep: slot ${slot} has no point`);
    return point;
  };
  const ended: number[] = [];
  const oneLess = (slot: number): Placed<P> => {
    const point = pointIn(slot);
    if (--point.left === 0) ended.push(slot);
    return point;
  };
  let begun = 0;
  const begin = (slot: number): { point: Placed<P>; textsOf: (prompt: number) => Iterable<Text> } => {
    const cell = begins[begun++];
    if (begun > first.length) perturbed.weights.replace(slot, stepsTo(cell));
    earlier.giveRollouts([cell], underWay);
    const kept = underWay.lengthAt(cell);
    const point = { cell, left: 0, nearest: drafts?.nearest(cell) ?? [], drawn: 0, failures: [] };
    progress.beginCell(kept);
    placed[slot] = point;
    const { count, textsOf } = reader.begin(slot);
    point.left = prompts * perPrompt - kept + count;
    if (point.left === 0) ended.push(slot);
    return { point, textsOf };
  };
  const requests = function* (): Iterable<Request | Text | null> {
    while (begun < todo.length) {
      // The first points are in their slots already.
      const slot = begun < first.length ? begun : placed.indexOf(null);
      if (slot < 0) {
        yield null;
        continue;
      }
      const { point, textsOf } = begin(slot);
      const { cell, nearest } = point;
      // Completions and rollouts of a prompt go into one pass, as far as possible.
      for (let prompt = 0; prompt < Math.max(prompts, reference.prompts); prompt++) {
        yield* textsOf(prompt);
        for (let rollout = 0; prompt < prompts && rollout < perPrompt; rollout++) {
          const key = { i: cell.i, j: cell.j, prompt, rollout };
          if (underWay.has(key)) continue;
          yield { episode: episodes[prompt], rollout, point: slot, key, draft: drafts?.draftOf(nearest, key) };
        }
      }
    }
  };

  /** Points that are scored and wait for one ahead of them. */
  const ready = new Map<P, [CellRecord, string]>();
  let taken = 0;
  const takeReady = (): void => {
    for (let next = ready.get(todo[taken]); next !== undefined; next = ready.get(todo[taken])) {
      takeNext(...next);
      ready.delete(todo[taken]);
      underWay.drop(todo[taken++]);
    }
  };
  let counts = { tokens: 0, drafted: 0, spared: 0, completions: 0 };
  let occupancy = new Occupancy();
  let since = performance.now();
  const timed = (phase: string, more: object = {}): void => {
    const now = performance.now();
    onTiming?.({ phase, seconds: (now - since) / 1000, ...more });
    since = now;
  };
  const recent: Pick<Placed<P>, "drawn" | "failures">[] = [];
  let scoredPoints = 0;
  /** As with batches, the share of failures counts over as many points as are measured together. */
  const expectFew = (point: Placed<P>): void => {
    recent.push(point);
    if (recent.length > placed.length) recent.shift();
    if (++scoredPoints < todo.length && recent.length < placed.length) return;
    expectFewFailures(
      recent.flatMap(({ failures }) => failures),
      recent.reduce((sum, { drawn }) => sum + drawn, 0),
      sampling.limits ?? usualLimits,
    );
  };
  /** Takes the points that have ended. @returns whether there were any */
  const takeEnded = (): boolean => {
    if (ended.length === 0) return false;
    const { share } = occupancy;
    timed("points", { ...counts, points: ended.length, ...(share !== null && { occupancy: share }) });
    counts = { tokens: 0, drafted: 0, spared: 0, completions: 0 };
    occupancy = new Occupancy();
    for (const slot of ended.splice(0)) {
      const point = pointIn(slot);
      expectFew(point);
      const { cell } = point;
      ready.set(cell, recordOf(context, cell, underWay, reference, reader.end(slot)));
      takeReady();
      drafts?.finish(begins.slice(begun), cell);
      progress.endCell();
      placed[slot] = null;
    }
    return true;
  };
  reader.onRead = (slot) => {
    counts.completions++;
    progress.completionRead();
    oneLess(slot);
  };

  expectTemplate(context.chat, episodes, sampling.turn2Template);
  const survey = await surveyPrompts(context.chat, episodes, sampling);
  const own = await surveyPrompts(context.chat, promptSet(context).slice(0, reference.prompts), sampling);
  try {
    await rollOutEach(
      perturbed,
      context.chat,
      requests(),
      {
        ...boundsAtPoints(survey, perPrompt, first.length, sampling.maxRows),
        texts: textSlots(own, reference.rolloutsPerPrompt, sampling.maxTokens),
      },
      {
        ...sampling,
        onStates: reader.onStates,
        between: async () => takeEnded(),
        onPass: (pass) => {
          counts.tokens += pass.sampled;
          counts.drafted += pass.drafted;
          counts.spared += pass.spared;
          occupancy.add(pass);
          progress.rolloutPass(pass.sampled, pass.drafted);
        },
      },
      (rollout, { point: slot, key }) => {
        keepRollout(context, rollout, key, ownAnswer, underWay, drafts);
        progress.rolloutEnded(rollout.tokens);
        const point = pointIn(slot);
        point.drawn++;
        if (rollout.failure !== null) point.failures.push(rollout.failure);
        oneLess(slot);
      },
    );
  } catch (thrown) {
    // Points that ended in the pass before a stop or a fault are whole.
    takeEnded();
    throw thrown;
  }
  takeEnded();
  if (taken !== todo.length) throw new Error(`sweep: ${todo.length - taken} points have no rollouts`);
}
