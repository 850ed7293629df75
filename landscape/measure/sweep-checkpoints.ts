// Every measurement of a study: the checkpoints one after another. Each is loaded once, and draws its own completions once, for all
// its slices and whatever else is measured around it (further-parts.ts).
import { existsSync } from "node:fs";
import type { Progress } from "../../engine/host/index.ts";
import type { Backend } from "../../engine/index.ts";
import { type Chat, loadModel, openConfig } from "../../model/index.ts";
import type { Environment, Timings } from "../../rl/index.ts";
import { settleOrder } from "../files/arrived-cells.ts";
import { countCells, writeReference } from "../files/cells.ts";
import { type SlicePlace, sliceFolder, slicePaths } from "../files/layout.ts";
import { directionLine, isKnownGap, type SliceFacts } from "../files/slice-facts.ts";
import type { StudySettings } from "../settings.ts";
import { shardCells } from "../shard.ts";
import type { DirectionPlace } from "./directions/kinds.ts";
import { namingCheckpoint } from "./finite-weights.ts";
import { furtherParts, leftToMerged } from "./further-parts.ts";
import { expectSweepMemory, hasLess, settingsThatFit } from "./memory-plan.ts";
import { sweep } from "./sweep.ts";
import { prepareReference, type SweepContext, type SweepTiming } from "./sweep-context.ts";

export interface SweepJob {
  backend: Backend;
  chat: Chat;
  environment: Environment;
  settings: StudySettings;
  /** The run folder. */
  folder: string;
  /** The folder of a step's checkpoint, once it is verified. */
  checkpointAt(step: number): string | Promise<string>;
  /** Where the directions around a step's checkpoint find other checkpoints and the optimiser's state. */
  placeAt(step: number): DirectionPlace;
  progress: Progress;
  signal: AbortSignal;
  timings: Timings;
}

const cellsPerMap = ({ shard, landscape }: StudySettings): number => shardCells(shard, landscape).length;

/**
 * Measures what is missing of every slice and further part, one checkpoint after another.
 * @throws RunFolderError when a checkpoint changed since it was kept
 */
export async function sweepCheckpoints(job: SweepJob): Promise<void> {
  const { backend, chat, environment, settings, folder, progress, signal, timings } = job;
  const slices = slicesToSweep(folder, settings);
  const further = furtherParts(folder, settings);
  const todo = [...slices, ...further];
  if (todo.length === 0) return;
  const left = leftToMerged(settings);
  if (left !== null)
    progress.line(
      `A shard leaves to the merged folder: ${left}. The sweep without --shard, in that folder, measures it.`,
    );
  let done = todo.reduce((sum, part) => sum + part.done, 0);
  const total = slices.length * cellsPerMap(settings) + further.reduce((sum, { points }) => sum + points, 0);
  const phase = progress.phase("landscape", total, further.length === 0 ? "cells" : "points", done);
  const drafts = { tokens: 0, drafted: 0, spared: 0 };
  const isWanted = new Set(todo.map((one) => one.step));
  for (const step of settings.landscape.steps.filter((one) => isWanted.has(one))) {
    signal.throwIfAborted();
    const place = await job.checkpointAt(step);
    const { config: kept } = await openConfig(place);
    const plan = await expectSweepMemory(backend, { config: kept, chat, environment, settings }, signal);
    const fitting = settingsThatFit(settings, plan);
    if (hasLess(settings, plan)) progress.line(plan.why);
    const { config, weights } = await loadModel(backend, place, {
      forwardCopies: settings.landscape.precision === "f32",
    });
    try {
      const context: SweepContext = {
        model: { backend, config, weights },
        chat,
        environment,
        settings: fitting,
        place: job.placeAt(step),
        signal,
        say: (line: string) => progress.line(line),
        onDirections: (facts: SliceFacts) => progress.line(directionLine(step, facts)),
        onTiming: (record: SweepTiming) => {
          if (record.phase === "points" || record.phase === "rollouts") {
            drafts.tokens += record.tokens ?? 0;
            drafts.drafted += record.drafted ?? 0;
            drafts.spared += record.spared ?? 0;
          }
          timings.record({ step, ...record });
        },
      };
      const measured = async (): Promise<void> => {
        const { prompts, rollouts } = settings.landscape.reference;
        const drawing = phase.phase("reference", prompts * rollouts, "completions");
        const reference = await prepareReference(context, drawing);
        drawing.done();
        writeReference(folder, step, reference.set);
        for (const one of slices)
          if (one.step === step) {
            const own = sliceFolder(folder, one);
            await settleOrder(own, shardCells(settings.shard, settings.landscape), context.say);
            done = await sweep(context, one.slice, own, reference, phase, done);
          }
        for (const part of further)
          if (part.step === step) done = await part.measure({ context, folder, reference, phase, before: done });
      };
      await timings.measure(`landscape ${step}`, () => namingCheckpoint(step, place, measured));
    } finally {
      weights.free();
    }
  }
  phase.done();
  const percent = (part: number): string => `${((100 * part) / Math.max(1, drafts.tokens)).toFixed(0)}%`;
  if (settings.landscape.drafts === "on")
    progress.line(
      `Drafts: ${percent(drafts.drafted)} of ${drafts.tokens} assistant tokens at grid points were as a neighbouring point had ` +
        `said them; ${percent(drafts.spared)} needed no decode step (--landscape.drafts).`,
    );
}

/** Slices with cells left to measure, and how many are measured. */
export function slicesToSweep(folder: string, settings: StudySettings): (SlicePlace & { done: number })[] {
  const { steps, slices } = settings.landscape;
  const cells = cellsPerMap(settings);
  return steps
    .flatMap((step) => Array.from({ length: slices }, (_, slice) => ({ step, slice })))
    .map((place) => ({ ...place, done: countCells(folder, place) }))
    .filter((place) => {
      if (isKnownGap(sliceFolder(folder, place))) return false;
      const { underWay, earlier } = slicePaths(sliceFolder(folder, place));
      return place.done < cells || existsSync(underWay) || existsSync(earlier);
    });
}
