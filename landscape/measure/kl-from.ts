// KL of each cell of a map from the policies of other checkpoints, KL(π_s ‖ π_θ(α,β)), beside the KL from the checkpoint in the
// centre. The expectation is over the conversations of π_s, so each policy s has its own reference completions: those of its
// reference.json, sampled with the landscape's noise. A cell needs scoring alone, and no rollout.
//
// It runs after the maps. Each other checkpoint is loaded once, beside the one that is perturbed.
import { existsSync, rmSync } from "node:fs";
import { ensureFolder, explained, openJournalOf, readJournalOf } from "../../engine/host/index.ts";
import { loadModel } from "../../model/index.ts";
import { settleRecords } from "../files/arrived-records.ts";
import { type ByRollout, writeReference } from "../files/cells.ts";
import { countKlFrom, type KlFromRecord, klFromJournal, klFromRecord } from "../files/kl-from-files.ts";
import { earlierKlFromPath, klFromPath, type SlicePlace, sliceFolder } from "../files/layout.ts";
import { coordinatesOf } from "../files/set-aside.ts";
import { expectSameDirections, factsIn, isKnownGap, type SliceFacts } from "../files/slice-facts.ts";
import { type GridCell, gridCells, type PointPlace } from "../grid.ts";
import type { StudySettings } from "../settings.ts";
import { shardCells } from "../shard.ts";
import { stepsTo } from "./directions.ts";
import { expectSweepMemory, settingsThatFit } from "./memory-plan.ts";
import { pointWeights } from "./perturbed-weights.ts";
import { type Reference, scorePoint } from "./reference.ts";
import { sliceDirections } from "./sweep.ts";
import type { SweepJob } from "./sweep-checkpoints.ts";
import { type CheckpointModel, prepareReference, type SweepContext, withPolicy } from "./sweep-context.ts";

/** A slice and the step of the checkpoint that its KL is taken from. */
export interface KlFromPart extends SlicePlace {
  readonly from: number;
  readonly done: number;
}

/** The maps with cells whose KL from another checkpoint is missing. A checkpoint's KL from itself is in its cells. */
export function klFromToMeasure(folder: string, settings: StudySettings): KlFromPart[] {
  const { steps, slices, klFrom } = settings.landscape;
  const { length: cells } = cellsOf(settings);
  return (
    klFrom
      .flatMap((from) => steps.filter((step) => step !== from).map((step) => ({ from, step })))
      .flatMap((part) => Array.from({ length: slices }, (_, slice) => ({ ...part, slice })))
      // A map that is a known gap has no cells.
      .filter((part) => !isKnownGap(sliceFolder(folder, part)))
      .map((part) => ({ ...part, done: countKlFrom(folder, part, part.from) }))
      .filter(
        ({ done, from, ...place }) => done < cells || existsSync(earlierKlFromPath(sliceFolder(folder, place), from)),
      )
  );
}

/** The cells of the shard, in the order of the journal. */
function cellsOf({ shard, landscape }: StudySettings): GridCell[] {
  const own = new Set(shardCells(shard, landscape).map(({ i, j }) => `${i},${j}`));
  return gridCells(landscape).filter(({ i, j }) => own.has(`${i},${j}`));
}

export type KlFromJob = Omit<SweepJob, "checkpointAt">;

/** Measures what is missing. Does nothing if none is asked for. */
export async function measureKlFrom(run: KlFromJob): Promise<void> {
  const { backend, settings, folder, progress, signal, timings } = run;
  const todo = klFromToMeasure(folder, settings);
  if (todo.length === 0) return;
  const done = todo.reduce((sum, part) => sum + part.done, 0);
  const phase = progress.phase("KL from other checkpoints", todo.length * cellsOf(settings).length, "cells", done);
  const loaded = async <T>(step: number, body: (context: SweepContext, own: Reference) => Promise<T>): Promise<T> => {
    const place = run.placeAt(step);
    const { config, weights } = await loadModel(backend, place.folderOf(step), {
      forwardCopies: settings.landscape.precision === "f32",
    });
    try {
      const context: SweepContext = {
        ...{
          model: { backend, config, weights },
          chat: run.chat,
          environment: run.environment,
          settings,
          place,
          signal,
        },
        say: (line) => progress.line(line),
        onTiming: (record) => timings.record({ step, ...record }),
      };
      const { prompts, rollouts } = settings.landscape.reference;
      const drawing = phase.phase("reference", prompts * rollouts, "completions");
      const own = await prepareReference(context, drawing);
      drawing.done();
      writeReference(folder, step, own.set);
      return await body(context, own);
    } finally {
      weights.free();
    }
  };
  for (const from of new Set(todo.map((part) => part.from)))
    await timings.measure(`KL from ${from}`, () =>
      loaded(from, async (other, reference) => {
        const { chat, environment } = run;
        const job = { config: other.model.config, chat, environment, settings };
        const fitting = settingsThatFit(settings, await expectSweepMemory(backend, job, signal));
        const ofOther = todo.filter((part) => part.from === from);
        for (const step of new Set(ofOther.map((part) => part.step)))
          await loaded(step, async (context, own) => {
            for (const part of ofOther.filter((one) => one.step === step))
              await measureSlice({ ...context, settings: fitting }, folder, part, own, { other, reference }, () =>
                phase.advance(1),
              );
          });
      }),
    );
  phase.done();
}

/** Another checkpoint, from whose policy KL is taken. */
export interface OtherPolicy {
  readonly other: SweepContext;
  /** The other checkpoint's own completions. */
  readonly reference: Reference;
}

async function measureSlice(
  context: SweepContext,
  folder: string,
  part: KlFromPart,
  ownReference: Reference,
  other: OtherPolicy,
  onCell: () => void,
): Promise<void> {
  const { settings, signal, say } = context;
  const { from, slice } = part;
  const own = sliceFolder(folder, part);
  ensureFolder(own);
  const cells = cellsOf(settings);
  // Workers of a queue may have left cells in another order.
  settleRecords(klFromJournal(folder, part, from, cells, settings.landscape), say);
  const measured = new Set<string>();
  const pathOfEarlier = earlierKlFromPath(own, from);
  const earlier = new Map<string, KlFromRecord>();
  if (existsSync(pathOfEarlier))
    readJournalOf(pathOfEarlier, klFromRecord, say, (record) => void earlier.set(coordinatesOf(record), record));
  const { journal } = openJournalOf(
    klFromPath(own, from),
    klFromRecord,
    (message) => say(`${message} What was cut off is measured again.`),
    ({ i, j }) => measured.add(`${i},${j}`),
  );
  try {
    await withKlFrom(context, slice, ownReference, other, factsIn(own, say), async ({ facts, klAt }) => {
      expectSameDirections(own, facts, say);
      for (const cell of cells) {
        if (measured.has(`${cell.i},${cell.j}`)) continue;
        signal.throwIfAborted();
        const { i, j, alpha, beta } = cell;
        const before = earlier.get(coordinatesOf(cell))?.kl ?? [];
        const isKnown = before.length >= settings.landscape.reference.prompts;
        journal.append({ i, j, alpha, beta, kl: isKnown ? before : await klAt(cell, before) });
        onCell();
      }
    });
    explained(pathOfEarlier, () => rmSync(pathOfEarlier, { force: true }));
  } finally {
    journal.close();
  }
}

/** The map along whose directions KL is taken, ready for any of its cells. */
export interface OpenKlFrom {
  readonly facts: SliceFacts;
  /** A cell's KL from the other policy. @param before  that of the first prompts, which is not computed again */
  klAt(cell: PointPlace, before: ByRollout): Promise<ByRollout>;
}

/** @param known  facts of the slice of an earlier time, as `sliceDirections` takes them */
export async function withKlFrom(
  context: SweepContext,
  slice: number,
  ownReference: Reference,
  { other, reference }: OtherPolicy,
  known: SliceFacts | null,
  body: (open: OpenKlFrom) => Promise<void>,
): Promise<void> {
  const { settings, signal, onTiming } = context;
  const { model }: { readonly model: CheckpointModel } = context;
  const start = performance.now();
  let completions = 0;
  const { directions, facts } = await sliceDirections(context, slice, ownReference, known);
  try {
    await withPolicy(other, async (policy) => {
      const weights = pointWeights(model.weights, 1, settings.landscape);
      const perturbed = { backend: model.backend, config: model.config, weights };
      const { clipLow, clipHigh } = settings.train;
      const onPass = (count: number): void => {
        completions += count;
      };
      const klAt = async (cell: PointPlace, before: ByRollout): Promise<ByRollout> => {
        weights.placeAlong([(name) => stepsTo(cell, directions, name)]);
        // Only KL is kept.
        const sums = () => ({ kl: before, k1: [], k3: [], objective: [], entropy: [] });
        const scoring = { maxTokens: settings.batch.tokens, signal, clipLow, clipHigh, known: sums, onPass };
        return (await scorePoint(policy, perturbed, 0, reference, scoring)).kl;
      };
      try {
        await body({ facts, klAt });
      } finally {
        weights.free();
      }
    });
  } finally {
    directions.free();
  }
  onTiming?.({ phase: "KL from", seconds: (performance.now() - start) / 1000, completions });
}
