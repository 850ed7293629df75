// `--dry-run` of a study: what it will compute, how long it will take, and what memory and disk it needs. Nothing is
// trained, written or downloaded (rl/dry-run.ts).
import { existsSync } from "node:fs";
import { expectFolderPlace, formatBytes, type Progress, resolvedToml } from "../../engine/host/index.ts";
import { adapterLine, OutOfMemoryError, openBackend } from "../../engine/index.ts";
import { type MemoryLimit, memoryLimit } from "../../model/index.ts";
import {
  checkSettings,
  expectPrecision,
  openEnvironment,
  type PlannedMemory,
  plannedModel,
  printDisk,
  printMemory,
  printModel,
  printTime,
  probeRates,
  probeSizes,
  secondsOf,
  stateFolder,
  trainedSteps,
  trainingMemory,
  workTable,
} from "../../rl/index.ts";
import { countCells } from "../files/cells.ts";
import { findCheckpoints } from "../files/given-checkpoints.ts";
import { growthOf } from "../files/growth.ts";
import { studyDeclaration } from "../files/run-settings.ts";
import { expectOneFamily } from "../measure/checkpoint-family.ts";
import { expectDirections } from "../measure/directions.ts";
import { expectHostMemoryOf, type SweepPlan, settingsThatFit, sweepMemory } from "../measure/memory-plan.ts";
import { probeCell } from "../measure/probe-cell.ts";
import { type StudySettings, studySettings } from "../settings.ts";
import { diskOf } from "./disk.ts";
import { furtherWork } from "./further-work.ts";
import { plannedCells, probedTime } from "./probed-time.ts";
import { workOf } from "./work.ts";

/** Prints the plan of a study on standard output. @throws as the study itself would on settings that are refused */
export async function printPlan(settings: StudySettings, progress: Progress, signal: AbortSignal): Promise<void> {
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const environment = await openEnvironment(settings.environment, { progress, signal, isDryRun: true });
  expectFolderPlace(settings.out);
  await checkSettings(settings.out, studyDeclaration, settings);
  await growthOf(settings.out, settings);
  const checkpoints = findCheckpoints(settings.checkpoints);
  const path = checkpoints.at(0)?.path ?? settings.model.path;
  const atHand = checkpoints.filter((one) => existsSync(one.path));
  await expectOneFamily(atHand.map((one) => ({ name: one.path, folder: one.path })));
  const model = await plannedModel(path);
  const { config, chat, folder } = model;
  const opened = await openBackend({ backend: settings.backend, adapter: settings.adapter, tune: "off" });
  const { backend } = opened;
  try {
    print(`# Settings\n\n${resolvedToml(studySettings, settings)}\n`);
    print("# Plan of the whole study (nothing is written, trained or downloaded by --dry-run)\n");
    progress.line(adapterLine(opened));
    const isTraining = settings.checkpoints.length === 0;
    if (isTraining) expectPrecision("--train.precision", settings.train.precision, opened);
    printModel(path, model, print);
    const done = alreadyDone(settings);
    if (done !== null) print(`  ${done}`);
    const { parts, lengths, knowsRight } = workOf(config, chat, environment, settings);
    for (const line of workTable(parts, knowsRight)) print(line);
    print("");
    const job = { config, chat, environment, settings };
    const sweeps = settings.landscape.steps.length > 0;
    if (sweeps) await expectDirections(config, settings.landscape);
    const check = { compiles: false, refusesHost: false };
    let heap: ReadonlyMap<string, number> = new Map();
    let why = "";
    let fitting = settings;
    const landscape: PlannedMemory = {
      name: "landscape",
      async plan(limit) {
        const planned = (within: MemoryLimit | null): Promise<SweepPlan> =>
          sweepMemory(backend, job, signal, { ...check, limit: within });
        // Without a limit what is asked for is a plan, not a refusal: it is that of the run, if one fits.
        const plan = await planned(limit ?? memoryLimit(backend)).catch((thrown) => {
          if (limit !== null || !(thrown instanceof OutOfMemoryError)) throw thrown;
          return planned(null);
        });
        heap = plan.heap;
        why = plan.why;
        fitting = settingsThatFit(settings, plan);
        return plan;
      },
      more() {
        const bytes = [...heap.values()].reduce((sum, one) => sum + one, 0);
        return `${why}\n  Node's own memory: ${formatBytes(bytes)} (${[...heap].map(([part, one]) => `${part} ${formatBytes(one)}`).join(", ")})`;
      },
    };
    const planned = [...(isTraining ? [trainingMemory(backend, job)] : []), ...(sweeps ? [landscape] : [])];
    const fits = await printMemory(backend, planned, print, async () => {
      if (sweeps) await expectHostMemoryOf(job, signal);
    });
    progress.line("Measuring this adapter …");
    const longest = sweeps ? lengths.landscape : lengths.train;
    const rates = await probeRates(backend, config, probeSizes(settings, parts, longest), fits, signal);
    const expected = parts.reduce((sum, part) => sum + secondsOf(part, rates).right, 0);
    const further = furtherWork(settings);
    const points = plannedCells(settings) + further.points + further.draws;
    if (!isTraining && folder !== null && fits && expected / points < mostSecondsOfProbe) {
      const probe = await probeCell(backend, { ...job, settings: fitting }, folder, signal);
      for (const line of probedTime(probe, settings)) print(line);
      print("");
      printDisk(diskOf(config, environment, settings, lengths, folder), settings.out, print);
      return;
    }
    if (!isTraining)
      print(
        `No grid point was measured here: ${folder === null ? "the checkpoint is not at hand" : fits ? "one would take too long" : "the sweep does not fit"}. Drafts are not counted, so the sweep may take less.`,
      );
    const uncounted = "Not counted: loading, writing perturbed weights, files, statistics and figures.";
    printTime(parts, rates, knowsRight, uncounted, print);
    printDisk(diskOf(config, environment, settings, lengths, folder), settings.out, print);
  } finally {
    backend.destroy();
  }
}

/** A grid point that takes longer by the adapter's rates is not measured. */
const mostSecondsOfProbe = 120;

/** What the run folder already holds, in a sentence; null for nothing. */
function alreadyDone(settings: StudySettings): string | null {
  const { out, train, checkpoints } = settings;
  const { steps, slices } = settings.landscape;
  const trained = trainedSteps(stateFolder(out));
  const measured = steps
    .flatMap((step) => Array.from({ length: slices }, (_, slice) => countCells(out, { step, slice })))
    .reduce((sum, cells) => sum + cells, 0);
  if (trained === null && measured === 0) return null;
  const training = checkpoints.length > 0 ? "" : `${trained ?? 0} of ${train.steps} training steps and `;
  return (
    `${out} already holds ${training}${measured} of ${plannedCells(settings)} grid points. The plan below is of the whole ` +
    "study; the run continues there."
  );
}
