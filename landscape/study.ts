// A whole study, from the starting model to the report: train, sweep, summarise, draw. Each part is passed over where its
// output is there already, so the same command goes on wherever an earlier one stopped.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureFolder, formatDuration, killPoint, type Progress, readJson, writeAtomic } from "../engine/host/index.ts";
import { type Backend, type OpenedBackend, openBackend } from "../engine/index.ts";
import { type Chat, loadChat, loadModel, loadTokenizer } from "../model/index.ts";
import { checkpointFolder, type Environment, openEnvironment, train, trainedSteps } from "../rl/index.ts";
import { drawRun, type MeasuredSlice, notesOf, referencePath, sliceFolder, summariseRun } from "./report.ts";
import { claimProvenance, claimSettings, openRunFolder, type StudySettings } from "./run-folder.ts";
import { isSwept, prepareReference, referenceSchema, sweep } from "./sweep.ts";
import { summaryTable } from "./table.ts";
import { Timings } from "./timings.ts";

/** The model that comes with the program. */
export const embeddedModel = fileURLToPath(new URL("./presets/tiny/checkpoint", import.meta.url));

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

export async function runStudy(settings: StudySettings, progress: Progress, signal: AbortSignal): Promise<void> {
  const folder = settings.out;
  const start = performance.now();
  const opened = await openBackend({ backend: settings.backend, adapter: settings.adapter });
  progress.line(adapterLine(opened));
  const release = openRunFolder(folder);
  try {
    claimSettings(folder, settings);
    const modelFolder = settings.model.path === "" ? embeddedModel : settings.model.path;
    const part: Part = {
      backend: opened.backend,
      chat: await loadChat(modelFolder, await loadTokenizer(modelFolder)),
      environment: await openEnvironment(settings.environment),
      settings,
      folder,
      modelFolder,
      progress,
      signal,
      timings: new Timings(folder, opened.backend),
    };
    claimProvenance(folder, opened.backend, modelFolder);
    await trainPart(part);
    await sweepPart(part);
    const slices = reportPart(part);
    const share = part.timings.finish((performance.now() - start) / 1000);
    process.stdout.write(`${summaryTable(folder, slices)}\n`);
    progress.line(share);
    progress.line(`Report: ${join(folder, "report.html")}   (${formatDuration(performance.now() - start)})`);
  } finally {
    release();
    opened.backend.destroy();
  }
}

/** The first line of every run: what computes, and what would be faster. */
export function adapterLine({ backend, adapter, fasterHint }: OpenedBackend): string {
  const kind = adapter === null ? "no GPU" : adapter.kind;
  return `Adapter: ${backend.description} (${kind})${fasterHint === null ? "" : `\n  ${fasterHint}`}`;
}

async function trainPart(part: Part): Promise<void> {
  const { backend, chat, environment, settings, folder, modelFolder, progress, signal, timings } = part;
  const kept = settings.train.checkpoints.every((step) => existsSync(checkpointFolder(folder, step)));
  if (kept && trainedSteps(join(folder, "state")) === settings.train.steps) return;
  const { config, weights } = await loadModel(backend, modelFolder, { trainable: true });
  try {
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
  const { steps, slices, points } = settings.landscape;
  const todo = steps.flatMap((step) =>
    Array.from({ length: slices }, (_, slice) => ({ step, slice })).filter(
      ({ step: s, slice }) => !isWhole(part, s, slice),
    ),
  );
  if (todo.length === 0) return;
  const phase = progress.phase("landscape", todo.length * points ** 2, "cells");
  for (const step of new Set(todo.map((one) => one.step))) {
    signal.throwIfAborted();
    const { config, weights } = await loadModel(backend, checkpointFolder(folder, step));
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

function isWhole({ folder, settings }: Part, step: number, slice: number): boolean {
  return (
    existsSync(join(sliceFolder(folder, step, slice), "cells.jsonl")) &&
    existsSync(referencePath(folder, step)) &&
    readJson(referencePath(folder, step), referenceSchema).tokens.length === settings.landscape.reference.prompts &&
    isSwept(sliceFolder(folder, step, slice), settings)
  );
}

function reportPart({ settings, folder, timings }: Part): MeasuredSlice[] {
  return timings.measureNow("statistics and report", () => {
    const slices = summariseRun(folder, settings);
    killPoint("report");
    drawRun(folder, settings, slices, notesOf(folder, settings));
    return slices;
  });
}
