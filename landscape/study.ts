// A whole study, from the starting model to the report: train, sweep, summarise, draw. Each part is passed over where its
// output is there already, so the same command goes on wherever an earlier one stopped.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  ensureFolder,
  expectDiskSpace,
  formatDuration,
  killPoint,
  type Progress,
  readJournal,
  writeAtomic,
} from "../engine/host/index.ts";
import { type Backend, type OpenedBackend, openBackend, preferTiles } from "../engine/index.ts";
import { type Chat, loadChat, loadModel, loadTokenizer, locateModel, openConfig } from "../model/index.ts";
import {
  checkpointFolder,
  type Environment,
  type Episode,
  EpisodeList,
  expectPrecision,
  expectSound,
  expectTemplate,
  expectTrainingMemory,
  isKept,
  openEnvironment,
  train,
  trainedSteps,
} from "../rl/index.ts";
import {
  checkOrigin,
  checkSettings,
  claimFolder,
  embeddedModel,
  openRunFolder,
  originOf,
  readProvenance,
  type StudySettings,
} from "./files/run-folder.ts";
import { Timings } from "./files/timings.ts";
import { expectSweepMemory } from "./measure/memory-plan.ts";
import { cellSchema, prepareReference, sweep } from "./measure/sweep.ts";
import { summaryTable } from "./report/table.ts";
import { drawRun, referencePath, sliceFolder, summariseRun } from "./report.ts";
import type { MeasuredSlice } from "./statistics/summary.ts";

interface Part {
  backend: Backend;
  chat: Chat;
  environment: Environment;
  settings: StudySettings;
  folder: string;
  modelFolder: string;
  progress: Progress;
  signal: AbortSignal;
  timings: Timings;
}

/**
 * @throws RunFolderError when the folder is of another study, adapter or model, or in use; it is then as it was
 */
export async function runStudy(settings: StudySettings, progress: Progress, signal: AbortSignal): Promise<void> {
  const folder = settings.out;
  const start = performance.now();
  const release = openRunFolder(folder);
  let backend: Backend | undefined;
  try {
    checkSettings(folder, settings);
    const opened = await openBackend({ backend: settings.backend, adapter: settings.adapter, tune: settings.tune });
    backend = opened.backend;
    expectPrecision("--train.precision", settings.train.precision, opened);
    progress.line(adapterLine(opened));
    const model = await locateModel(settings.model.path === "" ? embeddedModel : settings.model.path, {
      progress,
      signal,
    });
    const modelFolder = model.folder;
    const origin = await originOf(backend, model, settings.environment.names);
    const isFinished = isTrained(folder, settings) && slicesToSweep(folder, settings).length === 0;
    checkOrigin(folder, origin, isFinished);
    const part: Part = {
      backend,
      chat: await loadChat(modelFolder, await loadTokenizer(modelFolder)),
      environment: await openEnvironment(settings.environment),
      settings,
      folder,
      modelFolder,
      progress,
      signal,
      timings: new Timings(folder, backend),
    };
    if (!isFinished) expectTemplate(part.chat, firstEpisodes(part), settings.environment.turn2Template);
    claimFolder(folder, settings, origin);
    // The plan that the run began with, whatever was measured today.
    preferTiles(backend, readProvenance(folder).products.tiles);
    if (isFinished) progress.line("Training and landscape are complete: only the report is made again.");
    await trainPart(part);
    await sweepPart(part);
    const slices = await reportPart(part);
    const share = part.timings.finish((performance.now() - start) / 1000);
    if (slices.length > 0) process.stdout.write(`${summaryTable(slices)}\n`);
    if (!isFinished) progress.line(share);
    progress.line(`Maps and curves: ${join(folder, "figures")}`);
    progress.line(`Report: ${join(folder, "report.html")}   (${formatDuration(performance.now() - start)})`);
  } finally {
    if (signal.aborted) {
      progress.close();
      progress.line("Stopped. The same command goes on from here.");
    }
    release();
    backend?.destroy();
  }
}

/** Episodes of each kind that the study rolls out, to see how many turns they take. */
function firstEpisodes({ environment, settings: { train, evaluate, landscape } }: Part): Episode[] {
  const { reference, rollouts } = landscape;
  const ofSeed = (seed: number, count: number): Episode[] => new EpisodeList(environment, seed).slice(0, count);
  return [
    ...ofSeed(train.episodeSeed, train.promptsPerStep),
    ...ofSeed(evaluate.episodeSeed, evaluate.episodes),
    ...ofSeed(landscape.episodeSeed, Math.max(reference.prompts, rollouts.prompts)),
  ];
}

/** The first line of every run: what computes, and what would be faster. */
export function adapterLine({ backend, adapter, fasterHint }: OpenedBackend): string {
  const kind = adapter === null ? "no GPU" : adapter.kind;
  return `Adapter: ${backend.description} (${kind})${fasterHint === null ? "" : `\n  ${fasterHint}`}`;
}

function isTrained(folder: string, { train: { checkpoints, steps } }: StudySettings): boolean {
  return checkpoints.every((step) => isKept(folder, step)) && trainedSteps(join(folder, "state")) === steps;
}

async function trainPart(part: Part): Promise<void> {
  const { backend, chat, environment, settings, folder, modelFolder, progress, signal, timings } = part;
  if (isTrained(folder, settings)) return;
  await expectTrainingMemory(backend, { config: (await openConfig(modelFolder)).config, chat, environment, settings });
  const { config, weights } = await loadModel(backend, modelFolder, {
    trainable: true,
    precision: settings.train.precision,
  });
  try {
    const missing = settings.train.checkpoints.filter((step) => !isKept(folder, step)).length;
    // A state is the weights and both moments; a slot is whole beside the one that is replaced.
    const states = existsSync(join(folder, "state")) ? 1 : 3;
    expectDiskSpace(folder, (missing + 3 * states) * weights.memory().values, "training");
    await timings.measure("training", () =>
      train({
        model: { backend, config, weights },
        chat,
        environment,
        settings,
        folder,
        modelFolder,
        progress,
        signal,
        onTiming: (record) => timings.record(record),
      }),
    );
  } finally {
    weights.free();
  }
}

async function sweepPart(part: Part): Promise<void> {
  const { backend, chat, environment, settings, folder, progress, signal, timings } = part;
  const todo = slicesToSweep(folder, settings);
  if (todo.length === 0) return;
  const done = todo.reduce((sum, slice) => sum + slice.done, 0);
  const phase = progress.phase("landscape", todo.length * settings.landscape.points ** 2, "cells", done);
  for (const step of new Set(todo.map((one) => one.step))) {
    signal.throwIfAborted();
    expectSound(folder, step);
    const place = checkpointFolder(folder, step);
    await expectSweepMemory(backend, { config: (await openConfig(place)).config, chat, environment, settings });
    const { config, weights } = await loadModel(backend, place);
    try {
      const context = {
        model: { backend, config, weights },
        chat,
        environment,
        settings,
        signal,
        onTiming: (record: { phase: string; seconds: number }) => timings.record({ step, ...record }),
      };
      await timings.measure(`landscape ${step}`, async () => {
        const reference = await prepareReference(context);
        ensureFolder(dirname(referencePath(folder, step)));
        writeAtomic(referencePath(folder, step), `${JSON.stringify(reference.set)}\n`);
        for (const one of todo)
          if (one.step === step)
            await sweep(context, one.slice, sliceFolder(folder, step, one.slice), reference, phase);
      });
    } finally {
      weights.free();
    }
  }
  phase.done();
}

/** Slices with cells to measure, and how many each has. */
function slicesToSweep(folder: string, settings: StudySettings): { step: number; slice: number; done: number }[] {
  const { steps, slices, points } = settings.landscape;
  return steps
    .flatMap((step) =>
      Array.from({ length: slices }, (_, slice) => ({ step, slice, done: cellsDone(folder, step, slice) })),
    )
    .filter(({ done }) => done < points ** 2);
}

function cellsDone(folder: string, step: number, slice: number): number {
  const path = join(sliceFolder(folder, step, slice), "cells.jsonl");
  if (!existsSync(path) || !existsSync(referencePath(folder, step))) return 0;
  return readJournal(path, cellSchema).records.length;
}

async function reportPart({ settings, folder, signal, timings }: Part): Promise<MeasuredSlice[]> {
  return timings.measure("statistics and report", async () => {
    const slices = await summariseRun(folder, settings, signal);
    killPoint("report");
    await drawRun(folder, settings, slices, signal);
    return slices;
  });
}
