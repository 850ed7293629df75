// Maps around checkpoints of another training: the same run folder as a study's, without the training. The checkpoints stay
// where they are, and the folder keeps a reference to each (files/given-checkpoints.ts).
import { formatDuration, type Progress, SettingsError, settingsError } from "../engine/host/index.ts";
import { adapterLine, type Backend, openBackend, preferTiles } from "../engine/index.ts";
import { type LocatedModel, loadChat, loadTokenizer, openConfig } from "../model/index.ts";
import {
  checkOrigin,
  checkSettings,
  claimFolder,
  type Environment,
  environmentDescription,
  episodeList,
  episodeProblems,
  expectTemplate,
  hasProvenance,
  modelDigest,
  openEnvironment,
  openRunFolder,
  originOf,
  readProvenance,
  sayStopped,
  stateFolder,
  Timings,
} from "../rl/index.ts";
import { directionProblems } from "./direction-settings.ts";
import {
  expectSameGiven,
  findCheckpoints,
  type GivenCheckpoint,
  locateGiven,
  readGiven,
  roundingWarning,
  writeGiven,
} from "./files/given-checkpoints.ts";
import { growthOf, setAside } from "./files/growth.ts";
import { figuresFolder, reportPath } from "./files/layout.ts";
import { studyDeclaration } from "./files/run-settings.ts";
import { bf16Difference, expectOneFamily } from "./measure/checkpoint-family.ts";
import type { DirectionPlace } from "./measure/directions/kinds.ts";
import { expectDirections } from "./measure/directions.ts";
import { freshUses } from "./measure/fresh-prompts.ts";
import { furtherParts } from "./measure/further-parts.ts";
import { klFromToMeasure, measureKlFrom } from "./measure/kl-from.ts";
import { expectSweepMemory } from "./measure/memory-plan.ts";
import { slicesToSweep, sweepCheckpoints } from "./measure/sweep-checkpoints.ts";
import { diskWarning } from "./plan/disk.ts";
import { handOut } from "./queue/hand-out.ts";
import { rayProblems } from "./ray-settings.ts";
import { runText } from "./report/edge-scales.ts";
import { drawRun, summariseRun } from "./report/report.ts";
import { klFromProblems, type StudySettings, studySettings } from "./settings.ts";
import { computeAllUpdates, updatesToCompute } from "./weights/updates.ts";

interface Located {
  given: GivenCheckpoint;
  located: LocatedModel;
}

/** The settings with the steps of the checkpoints that they name. */
export function withGivenSteps(settings: StudySettings): StudySettings {
  if (settings.checkpoints.length === 0)
    throw new SettingsError(
      "checkpoints: expected at least one checkpoint: --checkpoints 'out/checkpoint-*', or a folder, or ORG/NAME@REVISION",
    );
  const steps = findCheckpoints(settings.checkpoints).map(({ step }) => step);
  const landscape = { ...settings.landscape, steps };
  const problems = [
    ...directionProblems(landscape, steps),
    ...rayProblems(landscape, steps),
    ...klFromProblems(landscape.klFrom, steps),
  ];
  if (problems.length > 0) throw settingsError(problems);
  // Nothing is trained.
  return {
    ...settings,
    train: { ...settings.train, steps: 0, checkpoints: [0] },
    landscape: { ...settings.landscape, steps },
  };
}

/**
 * Measures maps around given checkpoints, and writes statistics and report. The same command continues where an earlier one
 * stopped.
 * @returns the table for the terminal
 * @throws as `runStudy`; CheckpointError when the checkpoints are not of one training
 */
export async function runSweep(asked: StudySettings, progress: Progress, signal: AbortSignal): Promise<string> {
  const start = performance.now();
  const settings = withGivenSteps(asked);
  const folder = settings.out;
  const environment = await openEnvironment(settings.environment, { progress, signal });
  await expectDistinct(environment, settings, signal);
  const release = openRunFolder(folder);
  let backend: Backend | undefined;
  let isBegun = false;
  try {
    await checkSettings(folder, studyDeclaration, settings);
    const growth = await growthOf(folder, settings);
    const checkpoints: Located[] = [];
    for (const named of findCheckpoints(settings.checkpoints)) {
      signal.throwIfAborted();
      const found = await locateGiven(named, { progress, signal });
      expectSameGiven(folder, found.given);
      checkpoints.push(found);
    }
    await expectOneFamily(checkpoints.map(({ given, located }) => ({ name: given.path, folder: located.folder })));
    const opened = await openBackend({ backend: settings.backend, adapter: settings.adapter, tune: settings.tune });
    backend = opened.backend;
    progress.line(adapterLine(opened));
    const task = environmentDescription(settings.environment);
    if (task !== null) progress.line(task);
    const base = baseOf(folder, checkpoints);
    const origin = await originOf(backend, base.located, environment);
    const isFinished =
      growth === null &&
      slicesToSweep(folder, settings).length === 0 &&
      furtherParts(folder, settings).length === 0 &&
      klFromToMeasure(folder, settings).length === 0 &&
      updatesToCompute(folder, settings).length === 0;
    checkOrigin(folder, origin, isFinished);
    const modelFolder = base.located.folder;
    const chat = await loadChat(modelFolder, await loadTokenizer(modelFolder));
    if (!isFinished) {
      const { episodeSeed, reference, rollouts } = settings.landscape;
      const count = Math.max(reference.prompts, rollouts.prompts);
      expectTemplate(chat, episodeList(environment, episodeSeed).slice(0, count), settings.environment.turn2Template);
      preferTiles(backend, (hasProvenance(folder) ? readProvenance(folder) : origin).products.tiles);
      const { config } = await openConfig(modelFolder);
      await expectDirections(config, settings.landscape);
      // Workers plan their own memory.
      if (settings.queue === "")
        await expectSweepMemory(backend, { config, chat, environment, settings }, signal, false);
      const warning = diskWarning({ config, chat, environment, settings }, folder, modelFolder);
      if (warning !== null) progress.line(warning);
    }
    signal.throwIfAborted();
    isBegun = true;
    if (growth !== null) await setAside(folder, growth, (line) => progress.line(line));
    claimFolder(folder, studySettings, settings, origin);
    await keepReferences(folder, checkpoints, progress, signal);
    const timings = new Timings(folder, backend);
    const placeAt = (step: number): DirectionPlace => ({
      step,
      trajectory: settings.landscape.steps.toSorted((a, b) => a - b),
      state: stateFolder(folder),
      folderOf: (other) => folderOf(checkpoints, other),
    });
    const parts = { backend, chat, environment, settings, folder, progress, signal, timings };
    const job = { ...parts, checkpointAt: (step: number) => folderOf(checkpoints, step), placeAt };
    if (settings.queue !== "") await handOut(job);
    await sweepCheckpoints(job);
    await measureKlFrom(job);
    await computeAllUpdates({ ...parts, folderOf: (step) => folderOf(checkpoints, step) });
    const say = (line: string): void => progress.line(line);
    const run = await summariseRun(folder, settings, say, signal);
    await drawRun(folder, settings, run, signal);
    const share = timings.finish((performance.now() - start) / 1000);
    progress.line(isFinished ? "All maps are complete: only the report is written again." : share);
    progress.line(`Maps and curves: ${figuresFolder(folder)}`);
    progress.line(`Report: ${reportPath(folder)}   (${formatDuration(performance.now() - start)})`);
    return runText(run);
  } finally {
    if (signal.aborted) sayStopped(progress, isBegun);
    release();
    backend?.destroy();
  }
}

/** The checkpoint that provenance.json names: that of the first step when the folder was begun. */
function baseOf(folder: string, checkpoints: readonly Located[]): Located {
  if (!hasProvenance(folder)) return checkpoints[0];
  const before = modelDigest(readProvenance(folder).model);
  const digest = ({ given: { sha256 } }: Located): string =>
    modelDigest({ name: "", commit: null, isEmbedded: false, sha256 });
  return checkpoints.find((one) => digest(one) === before) ?? checkpoints[0];
}

function folderOf(checkpoints: readonly Located[], step: number): string {
  const found = checkpoints.find(({ given }) => given.step === step);
  if (found === undefined) throw new Error(`sweep: no checkpoint of step ${step}`);
  return found.located.folder;
}

/** Writes the references of the checkpoints, and warns of those that hardly differ from the one before. */
async function keepReferences(
  folder: string,
  checkpoints: readonly Located[],
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  for (const [index, after] of checkpoints.entries()) {
    const before = checkpoints.at(index - 1);
    const kept = readGiven(folder, after.given.step);
    if (index === 0 || before === undefined) {
      if (kept === null || kept.bf16 !== null) writeGiven(folder, { ...(kept ?? after.given), bf16: null });
      continue;
    }
    const since = before.given.step;
    if (kept?.bf16?.since === since) continue;
    const share = await bf16Difference(before.located.folder, after.located.folder, signal);
    const warning = roundingWarning(before.given.path, after.given.path, share);
    if (warning !== null) progress.line(`Note: ${warning}`);
    writeGiven(folder, { ...(kept ?? after.given), bf16: { since, share } });
  }
}

/** @throws SettingsError when the maps ask for more different episodes than there are */
async function expectDistinct(environment: Environment, settings: StudySettings, signal: AbortSignal): Promise<void> {
  const { reference, rollouts, episodeSeed: seed } = settings.landscape;
  await episodeList(environment, seed).makeDistinct(Math.max(reference.prompts, rollouts.prompts), signal);
  const problems = episodeProblems(environment, [
    { setting: "landscape.reference.prompts", count: reference.prompts, seed },
    { setting: "landscape.rollouts.prompts", count: rollouts.prompts, seed },
    ...freshUses(settings),
  ]);
  if (problems.length > 0) throw settingsError(problems);
}
