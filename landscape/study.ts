// A whole study, from the starting model to the report: train, sweep, summarise, draw. A part whose output exists is skipped, so
// the same command continues wherever an earlier one stopped.
import { formatDuration, killPoint, type Progress, SettingsError } from "../engine/host/index.ts";
import { openConfig } from "../model/index.ts";
import {
  checkpointFolder,
  evaluationLine,
  expectRoomForTraining,
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
import { growthOf, setAside } from "./files/growth.ts";
import { figuresFolder, reportPath } from "./files/layout.ts";
import type { Growth } from "./files/part-growth.ts";
import { studyDeclaration } from "./files/run-settings.ts";
import type { DirectionPlace } from "./measure/directions/kinds.ts";
import { expectDirections } from "./measure/directions.ts";
import { freshUses } from "./measure/fresh-prompts.ts";
import { furtherParts } from "./measure/further-parts.ts";
import { klFromToMeasure, measureKlFrom } from "./measure/kl-from.ts";
import { expectSweepMemory } from "./measure/memory-plan.ts";
import { type SweepJob, slicesToSweep, sweepCheckpoints } from "./measure/sweep-checkpoints.ts";
import { diskWarning } from "./plan/disk.ts";
import { handOut } from "./queue/hand-out.ts";
import { runText } from "./report/edge-scales.ts";
import { drawRun, type SummarisedRun, summariseRun } from "./report/report.ts";
import type { StudySettings } from "./settings.ts";
import { computeAllUpdates, updatesToCompute } from "./weights/updates.ts";

type Part = OpenedRun<StudySettings>;

/**
 * @throws RunFolderError when the folder belongs to another study, adapter or model, or is in use; the folder is then
 * unchanged
 */
export function runStudy(settings: StudySettings, progress: Progress, signal: AbortSignal): Promise<void> {
  const start = performance.now();
  const { reference, rollouts, steps, episodeSeed: seed } = settings.landscape;
  expectOwnTraining(settings);
  let growth: Growth | null = null;
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
              ...freshUses(settings).map((use) => ({ ...use, isDistinct: true })),
            ],
      isFinished: async () => {
        growth = await growthOf(settings.out, settings);
        return isTrained(settings) && !hasLeft(settings.out, settings, growth !== null);
      },
      expectMemory: (part) => expectMemoryOfAllParts(part, growth !== null),
      adapt: async ({ folder }) => {
        if (growth !== null) await setAside(folder, growth, (line) => progress.line(line));
      },
      work: (part, isFinished) => studyParts(part, isFinished, start),
    },
    progress,
    signal,
  );
}

/** Whether points of maps, rays or lines are left to measure. */
const hasLeft = (folder: string, settings: StudySettings, grows: boolean): boolean =>
  grows ||
  slicesToSweep(folder, settings).length > 0 ||
  furtherParts(folder, settings).length > 0 ||
  klFromToMeasure(folder, settings).length > 0 ||
  updatesToCompute(folder, settings).length > 0;

async function studyParts(part: Part, isFinished: boolean, start: number): Promise<void> {
  const { folder, settings, progress, timings } = part;
  if (isFinished) progress.line("Training and landscape are complete: only the report is written again.");
  await trainRun(part);
  const stateNote = settleRun(part);
  const job: SweepJob = {
    ...part,
    checkpointAt: (step) => soundCheckpoint(folder, step),
    placeAt: (step) => placeOf(part, step),
  };
  if (settings.queue !== "") await handOut(job);
  await sweepCheckpoints(job);
  await measureKlFrom(job);
  await computeAllUpdates({ ...part, folderOf: (step) => soundCheckpoint(folder, step) });
  const run = await reportPart(part);
  const share = timings.finish((performance.now() - start) / 1000);
  process.stdout.write(runText(run));
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
async function expectMemoryOfAllParts(part: Part, grows: boolean): Promise<void> {
  const { backend, chat, environment, settings, folder, modelFolder, progress, signal } = part;
  // A checkpoint has the configuration of the model that it was trained from.
  const job = { config: (await openConfig(modelFolder)).config, chat, environment, settings };
  if (hasLeft(folder, settings, grows)) {
    await expectDirections(job.config, settings.landscape);
    // Workers plan their own memory.
    if (settings.queue === "") await expectSweepMemory(backend, job, signal, false);
  }
  await expectRoomForTraining(part);
  const warning = diskWarning(job, folder, modelFolder);
  if (warning !== null) progress.line(warning);
}

/** The folder of a checkpoint of this run. @throws RunFolderError when it changed since it was written */
function soundCheckpoint(folder: string, step: number): string {
  expectSound(folder, step);
  return checkpointFolder(folder, step);
}

/** Where the directions around a checkpoint of this run find other checkpoints and the optimiser's state. */
function placeOf({ folder, settings }: Part, step: number): DirectionPlace {
  return {
    step,
    trajectory: [...settings.train.checkpoints].sort((a, b) => a - b),
    state: stateFolder(folder),
    folderOf: (other) => soundCheckpoint(folder, other),
  };
}

/** @throws SettingsError for settings of `landscape/sweep.ts`: a study has its own checkpoints, and every shard would train */
export function expectOwnTraining({ checkpoints, shard }: StudySettings): void {
  if (checkpoints.length > 0)
    throw new SettingsError(
      "checkpoints: a study measures around the checkpoints of its own training. For others: node landscape/sweep.ts " +
        `--checkpoints ${checkpoints.map((one) => `'${one}'`).join(",")}`,
    );
  if (shard !== "")
    throw new SettingsError(
      "shard: every shard of a study would train for itself. Train once, without maps (--landscape.steps=), then give its " +
        `checkpoints to every shard: node landscape/sweep.ts --checkpoints 'RUN/checkpoints/step-*' --shard ${shard} --out OTHER`,
    );
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
