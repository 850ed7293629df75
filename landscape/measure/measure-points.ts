// Measures points around a checkpoint: at each of them R from fresh rollouts, J and KL on the reference completions. Several
// points share one generation loop. Then each point is scored and at once written to cells.jsonl. Rollouts that finish before
// their point does are kept too (under-way.jsonl), so that stopping a sweep loses only the conversations under way, and a
// kill loses only the last seconds. A resumed sweep ends with the same bytes as an undisturbed one.
import { existsSync } from "node:fs";
import { killPoint, type Phase, type Values } from "../../engine/host/index.ts";
import type { DirectionStep } from "../../engine/index.ts";
import type { Model } from "../../model/index.ts";
import { expectTemplate, Occupancy, type RolloutRequest, rollOutEach } from "../../rl/index.ts";
import { type CellRecord, openCells } from "../files/cells.ts";
import { slicePaths } from "../files/layout.ts";
import { dropEarlier, type StayingPlace } from "../files/set-aside.ts";
import type { PointPlace } from "../grid.ts";
import type { studySettings } from "../settings.ts";
import { measureContinuously, type Take } from "./continuous.ts";
import { DraftSource, mostDraftBytes, type PointDistance } from "./drafts.ts";
import { EarlierCells } from "./earlier-cells.ts";
import { keepRollout, ownAnswers, recordOf } from "./measured-point.ts";
import { pointWeights } from "./perturbed-weights.ts";
import { boundsAtPoints, surveyPrompts } from "./prompt-survey.ts";
import { type Reference, scorePoints } from "./reference.ts";
import { promptSet, rolloutSettings, type SweepContext, type SweepTiming, withPolicy } from "./sweep-context.ts";
import { SweepProgress } from "./sweep-progress.ts";
import { type RolloutKey, UnderWay } from "./under-way.ts";

type Settings = Values<(typeof studySettings)["tree"]>;

/** Points around a checkpoint that are measured into one folder. */
export interface PointSet<P extends PointPlace> {
  /** All of them, in the order of measurement. */
  readonly points: readonly P[];
  /** The steps from a tensor of the checkpoint to that of a point. */
  stepsTo(point: P): (name: string) => readonly DirectionStep[];
  /** By it the finished points are chosen whose answers are a point's drafts; squared grid steps unless given. */
  readonly distance?: PointDistance;
  /**
   * The points in the order in which they begin, `points` unless given: a point whose neighbours have ended has better drafts. They
   * reach the disk in the order of measurement all the same.
   */
  inBeginOrder?(points: readonly P[]): P[];
  free(): void;
}

export interface PointJob<P extends PointPlace> {
  readonly context: SweepContext;
  readonly folder: string;
  readonly reference: Reference;
  /** Counts points. */
  readonly phase: Phase;
  /** Points that `phase` has already counted. */
  readonly before: number;
  /** For messages: "49 grid points of this map" is what a stop keeps a part of. */
  readonly whole: string;
  /** @param hasBegun  whether an earlier process has measured some of the points */
  prepare(hasBegun: boolean): Promise<PointSet<P>>;
  /** By what points that were set aside are found again; by default, that of a slice. */
  readonly placeOf?: StayingPlace;
}

/**
 * Measures the missing points of a set: some at a time, each on disk as soon as it is scored.
 * @returns points that `phase` has counted afterwards
 */
export async function measurePoints<P extends PointPlace>(job: PointJob<P>): Promise<number> {
  const { context, folder, reference, phase, before, whole } = job;
  const { model, settings, signal, say } = context;
  const { landscape } = settings;
  const writer = openCells(folder, say);
  const underWay = new UnderWay(
    slicePaths(folder).underWay,
    landscape.rollouts.rollouts,
    context.keepEveryMs ?? 10_000,
    say,
  );
  const measured = new Set(writer.done.map(({ i, j }) => `${i},${j}`));
  const progress = progressOf(landscape, reference, phase, before);
  const announceStop = (): void =>
    say(
      `The sweep stops ${progress.stopText()}. Kept: ${measured.size} of ${whole} and ` +
        `${underWay.length} finished rollouts of the points under way.`,
    );
  signal.addEventListener("abort", announceStop);
  let free = (): void => {};
  try {
    const set = await job.prepare(
      writer.done.length > 0 || underWay.length > 0 || existsSync(slicePaths(folder).earlier),
    );
    free = () => set.free();
    const todo = set.points.filter(({ i, j }) => !measured.has(`${i},${j}`));
    const earlier = new EarlierCells(folder, landscape, say, job.placeOf);
    const size = Math.min(landscape.pointsAtOnce, todo.filter((cell) => !earlier.isWhole(cell)).length);
    const drafts =
      landscape.drafts === "on"
        ? new DraftSource(ownAnswers(reference), landscape.rollouts.rollouts, mostDraftBytes, set.distance)
        : null;
    await withPolicy(context, async (policy) => {
      const weights = pointWeights(model.weights, size, landscape);
      try {
        const takeOne: Take = (record, conversations) => {
          killPoint("cells");
          writer.append(record, conversations);
          measured.add(`${record.i},${record.j}`);
        };
        if (landscape.refill === "on") {
          for (const cell of writer.done) underWay.drop(cell);
          const both = { policy, perturbed: { backend: model.backend, config: model.config, weights } };
          await measureContinuously(context, both, todo, (cell) => set.stepsTo(cell), {
            ...{
              inBeginOrder: set.inBeginOrder,
              reference,
              earlier,
              underWay,
              drafts,
              progress,
              slots: size,
              take: takeOne,
            },
          });
          return;
        }
        for (const batch of earlier.batches(todo, size)) {
          signal.throwIfAborted();
          const take = earlier.inOrder(batch, takeOne);
          const cells = batch.filter((cell) => !earlier.isWhole(cell));
          progress.took(batch.length - cells.length);
          if (cells.length === 0) continue;
          weights.placeAlong(cells.map((cell) => set.stepsTo(cell)));
          earlier.giveRollouts(cells, underWay);
          const both = { policy, perturbed: { backend: model.backend, config: model.config, weights } };
          await measureBatch(context, both, cells, reference, earlier, underWay, drafts, progress, take);
          underWay.clear();
          drafts?.finish(todo.filter(({ i, j }) => !measured.has(`${i},${j}`)));
        }
      } finally {
        weights.free();
      }
    });
    underWay.clear();
    if (measured.size >= set.points.length) dropEarlier(folder);
    return before + todo.length;
  } finally {
    signal.removeEventListener("abort", announceStop);
    free();
    writer.close();
    underWay.write();
    underWay.close();
  }
}

/** @param before  points that `phase` has already counted */
export function progressOf(
  { rollouts }: Settings["landscape"],
  reference: Reference,
  phase: Phase,
  before: number,
): SweepProgress {
  return new SweepProgress(phase, before, {
    rolloutsPerCell: rollouts.prompts * rollouts.rollouts,
    scoredPerCell: reference.rollouts.length,
    meanTokens: reference.rollouts.reduce((sum, { tokens }) => sum + tokens, 0) / reference.rollouts.length,
  });
}

/**
 * Measures some grid points; point k of the perturbed weights is cells[k]. Each is passed on as soon as it is scored.
 */
export async function measureBatch(
  context: SweepContext,
  { policy, perturbed }: { policy: Model; perturbed: Model },
  cells: readonly PointPlace[],
  reference: Reference,
  earlier: EarlierCells,
  underWay: UnderWay,
  drafts: DraftSource | null,
  progress: SweepProgress,
  take: (record: CellRecord, conversations: string) => void,
): Promise<void> {
  const { settings, onTiming } = context;
  const start = performance.now();
  const drawn = await rollOutCells(context, perturbed, cells, reference, underWay, drafts, progress);
  const middle = performance.now();
  onTiming?.({ phase: "rollouts", seconds: (middle - start) / 1000, ...drawn });
  const completionsOf = new Map<number, number>();
  const scoring = scorePoints(policy, perturbed, [...cells.keys()], reference, {
    maxTokens: settings.batch.tokens,
    signal: context.signal,
    clipLow: settings.train.clipLow,
    clipHigh: settings.train.clipHigh,
    known: (point) => earlier.scoresAt(cells[point]),
    onPass: (completions, points) => {
      for (const point of points) completionsOf.set(point, (completionsOf.get(point) ?? 0) + completions);
      const last = points[points.length - 1];
      const together = points.reduce((sum, point) => sum + (completionsOf.get(point) ?? 0), 0);
      progress.scoringPass(last, together - (points.length - 1) * reference.rollouts.length);
    },
  });
  for await (const { point, scored } of scoring) take(...recordOf(context, cells[point], underWay, reference, scored));
  progress.endBatch();
  const completions = [...completionsOf.values()].reduce((sum, count) => sum + count, 0);
  onTiming?.({ phase: "scoring", seconds: (performance.now() - middle) / 1000, completions });
}

/**
 * Samples the rollouts of some grid points that no earlier process finished. `underWay` then holds all of them. Requests
 * are made when they are admitted, so memory grows with the batch and with the numbers that are kept of a rollout.
 */
export async function rollOutCells(
  context: SweepContext,
  perturbed: Model,
  cells: readonly PointPlace[],
  reference: Reference,
  underWay: UnderWay,
  drafts: DraftSource | null,
  progress: SweepProgress,
): Promise<Pick<SweepTiming, "tokens" | "drafted" | "spared" | "occupancy">> {
  const { landscape } = context.settings;
  const { prompts, rollouts: perPrompt } = landscape.rollouts;
  const episodes = promptSet(context).slice(0, prompts);
  const settings = rolloutSettings(context);
  expectTemplate(context.chat, episodes, settings.turn2Template);
  const survey = await surveyPrompts(context.chat, episodes, settings);
  const bounds = boundsAtPoints(survey, perPrompt, cells.length, settings.maxRows);
  const kept = cells.reduce((sum, cell) => sum + underWay.lengthAt(cell), 0);
  progress.beginBatch(cells.length, kept);
  const nearest = cells.map((cell) => drafts?.nearest(cell) ?? []);
  const missing = function* (): Iterable<RolloutRequest & { key: RolloutKey }> {
    for (const [point, { i, j }] of cells.entries())
      for (const [prompt, episode] of episodes.entries())
        for (let rollout = 0; rollout < perPrompt; rollout++) {
          const key = { i, j, prompt, rollout };
          if (!underWay.has(key)) yield { episode, rollout, point, key, draft: drafts?.draftOf(nearest[point], key) };
        }
  };
  const counts = { tokens: 0, drafted: 0, spared: 0 };
  const occupancy = new Occupancy();
  const own = ownAnswers(reference);
  await rollOutEach(
    perturbed,
    context.chat,
    missing(),
    { ...bounds, count: bounds.count - kept },
    {
      ...settings,
      onPass: (pass) => {
        const { sampled, drafted, spared } = pass;
        occupancy.add(pass);
        counts.tokens += sampled;
        counts.drafted += drafted;
        counts.spared += spared;
        progress.rolloutPass(sampled, drafted);
      },
    },
    (rollout, { key }) => {
      keepRollout(context, rollout, key, own, underWay, drafts);
      progress.rolloutEnded(rollout.tokens);
    },
  );
  return { ...counts, ...(occupancy.share !== null && { occupancy: occupancy.share }) };
}
