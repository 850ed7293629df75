// A whole study, from the starting model to the report: train, sweep, summarise, draw. A part whose output exists is skipped, so
// the same command continues wherever an earlier one stopped.
import { existsSync } from "node:fs";
import { formatDuration, killPoint, type Progress } from "../engine/host/index.ts";
import { loadModel, openConfig } from "../model/index.ts";
import {
  checkpointFolder,
  evaluationLine,
  expectMemoryOfTraining,
  expectSound,
  isTrained,
  metricsPath,
  type OpenedRun,
  readMetrics,
  settleRun,
  stateFolder,
  trainRun,
  withRun,
} from "../rl/index.ts";
import { countCells, writeReference } from "./files/cells.ts";
import { figuresFolder, reportPath, type SlicePlace, sliceFolder, slicePaths } from "./files/layout.ts";
import { studyDeclaration } from "./files/run-settings.ts";
import { directionLine, type SliceFacts } from "./files/slice-facts.ts";
import { measureAllRays } from "./measure/checkpoint-rays.ts";
import type { DirectionPlace } from "./measure/directions/kinds.ts";
import { expectDirections } from "./measure/directions.ts";
import { expectSweepMemory } from "./measure/memory-plan.ts";
import { raysToMeasure } from "./measure/rays.ts";
import { prepareReference, type SweepTiming, sweep } from "./measure/sweep.ts";
import { drawRun, type SummarisedRun, summariseRun } from "./report/report.ts";
import { summaryText } from "./report/table.ts";
import type { StudySettings } from "./settings.ts";

type Part = OpenedRun<StudySettings>;

/**
 * @throws RunFolderError when the folder belongs to another study, adapter or model, or is in use; the folder is then
 * unchanged
 */
export function runStudy(settings: StudySettings, progress: Progress, signal: AbortSignal): Promise<void> {
  const start = performance.now();
  const { reference, rollouts, steps, episodeSeed: seed } = settings.landscape;
  return withRun(
    studyDeclaration,
    settings,
    {
      episodes:
        steps.length === 0
          ? []
          : [
              { setting: "landscape.reference.prompts", count: reference.prompts, seed, isDistinct: true },
              { setting: "landscape.rollouts.prompts", count: rollouts.prompts, seed, isDistinct: true },
            ],
      isFinished: () =>
        isTrained(settings) &&
        slicesToSweep(settings.out, settings).length === 0 &&
        raysToMeasure(settings.out, settings).length === 0,
      expectMemory: expectMemoryOfAllParts,
      work: (part, isFinished) => studyParts(part, isFinished, start),
    },
    progress,
    signal,
  );
}

async function studyParts(part: Part, isFinished: boolean, start: number): Promise<void> {
  const { folder, settings, progress, timings } = part;
  if (isFinished) progress.line("Training and landscape are complete: only the report is written again.");
  await trainRun(part);
  const stateNote = settleRun(part);
  await sweepPart(part);
  await measureAllRays({ ...part, placeOf: (step) => placeOf(part, step) });
  const { slices, trends } = await reportPart(part);
  const share = timings.finish((performance.now() - start) / 1000);
  if (slices.length > 0) process.stdout.write(`${summaryText(slices, trends)}\n`);
  if (!isFinished) progress.line(share);
  if (stateNote !== null) progress.line(stateNote);
  const evaluation = evaluationLine(
    readMetrics(metricsPath(folder), () => {}),
    settings.evaluate.episodes,
  );
  if (evaluation !== null) progress.line(evaluation);
  progress.line(`Maps and curves: ${figuresFolder(folder)}`);
  progress.line(`Report: ${reportPath(folder)}   (${formatDuration(performance.now() - start)})`);
}

/**
 * Plans the memory of all remaining work before the first part begins, so a sweep that cannot fit is refused before
 * hours of training.
 * @throws OutOfMemoryError with the numbers, and the settings that would make it fit
 */
async function expectMemoryOfAllParts(part: Part): Promise<void> {
  const { backend, chat, environment, settings, folder, modelFolder, signal } = part;
  // A checkpoint has the configuration of the model that it was trained from.
  const job = { config: (await openConfig(modelFolder)).config, chat, environment, settings };
  if (slicesToSweep(folder, settings).length > 0 || raysToMeasure(folder, settings).length > 0) {
    await expectDirections(job.config, settings.landscape);
    await expectSweepMemory(backend, job, signal, false);
  }
  await expectMemoryOfTraining(part);
}

async function sweepPart(part: Part): Promise<void> {
  const { backend, chat, environment, settings, folder, progress, signal, timings } = part;
  const todo = slicesToSweep(folder, settings);
  if (todo.length === 0) return;
  let done = todo.reduce((sum, slice) => sum + slice.done, 0);
  const phase = progress.phase("landscape", todo.length * settings.landscape.points ** 2, "cells", done);
  const drafts = { tokens: 0, drafted: 0, spared: 0 };
  for (const step of new Set(todo.map((one) => one.step))) {
    signal.throwIfAborted();
    expectSound(folder, step);
    const place = checkpointFolder(folder, step);
    const { config: kept } = await openConfig(place);
    await expectSweepMemory(backend, { config: kept, chat, environment, settings }, signal);
    const { config, weights } = await loadModel(backend, place, {
      forwardCopies: settings.landscape.precision === "f32",
    });
    try {
      const context = {
        model: { backend, config, weights },
        chat,
        environment,
        settings,
        place: placeOf(part, step),
        signal,
        say: (line: string) => progress.line(line),
        onDirections: (facts: SliceFacts) => progress.line(directionLine(step, facts)),
        onTiming: (record: SweepTiming) => {
          drafts.tokens += record.tokens ?? 0;
          drafts.drafted += record.drafted ?? 0;
          drafts.spared += record.spared ?? 0;
          timings.record({ step, ...record });
        },
      };
      await timings.measure(`landscape ${step}`, async () => {
        const { prompts, rollouts } = settings.landscape.reference;
        const drawing = phase.phase("reference", prompts * rollouts, "completions");
        const reference = await prepareReference(context, drawing);
        drawing.done();
        writeReference(folder, step, reference.set);
        for (const one of todo)
          if (one.step === step)
            done = await sweep(context, one.slice, sliceFolder(folder, one), reference, phase, done);
      });
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

/** Where the directions around a checkpoint of this run find other checkpoints and the optimiser's state. */
function placeOf({ folder, settings }: Part, step: number): DirectionPlace {
  return {
    step,
    trajectory: [...settings.train.checkpoints].sort((a, b) => a - b),
    state: stateFolder(folder),
    folderOf: (other) => {
      expectSound(folder, other);
      return checkpointFolder(folder, other);
    },
  };
}

/** Slices with cells left to measure, and how many. */
function slicesToSweep(folder: string, settings: StudySettings): (SlicePlace & { done: number })[] {
  const { steps, slices, points } = settings.landscape;
  return steps
    .flatMap((step) => Array.from({ length: slices }, (_, slice) => ({ step, slice })))
    .map((place) => ({ ...place, done: countCells(folder, place) }))
    .filter((place) => place.done < points ** 2 || existsSync(slicePaths(sliceFolder(folder, place)).underWay));
}

async function reportPart({ settings, folder, progress, signal, timings }: Part): Promise<SummarisedRun> {
  return timings.measure("statistics and report", async () => {
    const say = (line: string): void => progress.line(line);
    const run = await summariseRun(folder, settings, say, signal);
    killPoint("report");
    await drawRun(folder, settings, run, signal);
    return run;
  });
}
