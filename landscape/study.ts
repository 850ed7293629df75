// A whole study, from the starting model to the report: train, sweep, summarise, draw. A part whose output exists is skipped, so
// the same command continues wherever an earlier one stopped.
import { existsSync } from "node:fs";
import {
  expectDiskSpace,
  formatDuration,
  killPoint,
  type Progress,
  SettingsError,
  settingsError,
} from "../engine/host/index.ts";
import { adapterLine, type Backend, openBackend, preferTiles } from "../engine/index.ts";
import { type Chat, loadChat, loadModel, loadTokenizer, locateModel, openConfig } from "../model/index.ts";
import {
  checkpointFolder,
  type Environment,
  type Episode,
  environmentDescription,
  episodeList,
  episodeProblems,
  expectPrecision,
  expectSound,
  expectTemplate,
  expectTrainable,
  expectTrainingMemory,
  isKept,
  openEnvironment,
  settleState,
  train,
  trainedSteps,
} from "../rl/index.ts";
import { figuresFolder, reportPath, stateFolder } from "./files/layout.ts";
import { expectGrowable } from "./files/regrid.ts";
import {
  checkModel,
  checkOrigin,
  checkSettings,
  claimFolder,
  embeddedModel,
  hasProvenance,
  openRunFolder,
  originOf,
  readProvenance,
  type StudySettings,
} from "./files/run-folder.ts";
import { Timings } from "./files/timings.ts";
import { expectSweepMemory } from "./measure/memory-plan.ts";
import { slicesToSweep, sweepCheckpoints } from "./measure/sweep-checkpoints.ts";
import type { TrainingRow } from "./report/figures/figure-data.ts";
import { drawRun, type SummarisedRun, summariseRun } from "./report/report.ts";
import { summaryText } from "./report/table.ts";
import { studySettings } from "./settings.ts";

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
 * @throws RunFolderError when the folder belongs to another study, adapter or model, or is in use; the folder is then
 * unchanged
 */
export async function runStudy(settings: StudySettings, progress: Progress, signal: AbortSignal): Promise<void> {
  const folder = settings.out;
  const start = performance.now();
  const environment = await openEnvironment(settings.environment);
  await expectDistinctEpisodes(environment, settings, progress, signal);
  const release = openRunFolder(folder);
  let backend: Backend | undefined;
  let isBegun = false;
  try {
    await checkSettings(folder, settings);
    await expectGrowable(folder, settings);
    const opened = await openBackend({ backend: settings.backend, adapter: settings.adapter, tune: settings.tune });
    backend = opened.backend;
    expectPrecision("--train.precision", settings.train.precision, opened);
    progress.line(adapterLine(opened));
    const task = environmentDescription(settings.environment);
    if (task !== null) progress.line(task);
    const model = await locateModel(settings.model.path === "" ? embeddedModel : settings.model.path, {
      progress,
      signal,
    });
    const modelFolder = model.folder;
    const origin = await originOf(backend, model, environment);
    checkModel(settings, origin);
    const isFinished = isTrained(folder, settings) && slicesToSweep(folder, settings).length === 0;
    checkOrigin(folder, origin, isFinished);
    if (!isTrained(folder, settings)) {
      expectTrainedForShard(settings);
      expectTrainable(stateFolder(folder));
    }
    const part: Part = {
      backend,
      chat: await loadChat(modelFolder, await loadTokenizer(modelFolder)),
      environment,
      settings,
      folder,
      modelFolder,
      progress,
      signal,
      timings: new Timings(folder, backend),
    };
    if (!isFinished) expectTemplate(part.chat, firstEpisodes(part), settings.environment.turn2Template);
    // The choice of tiles that the run began with, even if other tiles are faster now.
    preferTiles(backend, (hasProvenance(folder) ? readProvenance(folder) : origin).products.tiles);
    await expectMemoryOfAllParts(part);
    signal.throwIfAborted();
    isBegun = true;
    claimFolder(folder, settings, origin);
    if (isEmbedded(settings) && settings.train.learningRate === studySettings.byKey.get("train.learningRate")?.default)
      progress.line(
        "Note: the embedded tiny model is trained with the default learning rate, which is for a model of 0.5 billion parameters. " +
          'Its own settings come with extends = "tiny", or with tiny before the name of your file.',
      );
    if (isFinished) progress.line("Training and landscape are complete: only the report is written again.");
    await trainPart(part);
    const stateNote = settleState(stateFolder(folder), settings.train.keepState);
    await sweepCheckpoints({ ...part, checkpointAt: (step) => soundCheckpoint(folder, step) });
    const { slices, trends, training } = await reportPart(part);
    const share = part.timings.finish((performance.now() - start) / 1000);
    if (slices.length > 0) process.stdout.write(`${summaryText(slices, trends)}\n`);
    if (!isFinished) progress.line(share);
    if (stateNote !== null) progress.line(stateNote);
    const evaluation = evaluationLine(training, settings.evaluate.episodes);
    if (evaluation !== null) progress.line(evaluation);
    progress.line(`Maps and curves: ${figuresFolder(folder)}`);
    progress.line(`Report: ${reportPath(folder)}   (${formatDuration(performance.now() - start)})`);
  } finally {
    if (signal.aborted) {
      progress.close();
      progress.line(
        isBegun
          ? "Stopped. The same command continues from here."
          : "Stopped while the run was planned. This command has changed nothing.",
      );
    }
    release();
    backend?.destroy();
  }
}

/**
 * @throws SettingsError when an evaluation or the landscape asks for more different episodes than there are
 * @throws the signal's reason once it is aborted
 */
async function expectDistinctEpisodes(
  environment: Environment,
  { evaluate, landscape }: StudySettings,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const { reference, rollouts, episodeSeed: seed } = landscape;
  try {
    await episodeList(environment, evaluate.episodeSeed).makeDistinct(evaluate.episodes, signal);
    if (landscape.steps.length > 0)
      await episodeList(environment, seed).makeDistinct(Math.max(reference.prompts, rollouts.prompts), signal);
  } finally {
    if (signal.aborted) progress.line("Stopped while the prompts were made. This command has changed nothing.");
  }
  const problems = episodeProblems(environment, [
    { setting: "evaluate.episodes", count: evaluate.episodes, seed: evaluate.episodeSeed },
    ...(landscape.steps.length === 0
      ? []
      : [
          { setting: "landscape.reference.prompts", count: reference.prompts, seed },
          { setting: "landscape.rollouts.prompts", count: rollouts.prompts, seed },
        ]),
  ]);
  if (problems.length > 0) throw settingsError(problems);
}

/** Episodes of each kind that the study rolls out, to see how many turns they take. */
function firstEpisodes({ environment, settings: { train, evaluate, landscape } }: Part): Episode[] {
  const { reference, rollouts } = landscape;
  const ofSeed = (seed: number, count: number): Episode[] => episodeList(environment, seed).slice(0, count);
  return [
    ...ofSeed(train.episodeSeed, train.promptsPerStep),
    ...ofSeed(evaluate.episodeSeed, evaluate.episodes),
    ...ofSeed(landscape.episodeSeed, Math.max(reference.prompts, rollouts.prompts)),
  ];
}

function isTrained(folder: string, { train: { checkpoints, steps } }: StudySettings): boolean {
  return checkpoints.every((step) => isKept(folder, step)) && trainedSteps(stateFolder(folder)) === steps;
}

/**
 * Plans the memory of all remaining work before the first part begins, so a sweep that cannot fit is refused before
 * hours of training.
 * @throws OutOfMemoryError with the numbers, and the settings that would make it fit
 */
async function expectMemoryOfAllParts({
  backend,
  chat,
  environment,
  settings,
  folder,
  modelFolder,
  signal,
}: Part): Promise<void> {
  // A checkpoint has the configuration of the model that it was trained from.
  const job = { config: (await openConfig(modelFolder)).config, chat, environment, settings };
  if (slicesToSweep(folder, settings).length > 0) await expectSweepMemory(backend, job, signal, false);
  if (!isTrained(folder, settings)) await expectTrainingMemory(backend, job);
}

async function trainPart(part: Part): Promise<void> {
  const { backend, chat, environment, settings, folder, modelFolder, progress, signal, timings } = part;
  if (isTrained(folder, settings)) return;
  const { config, weights } = await loadModel(backend, modelFolder, {
    trainable: true,
    precision: settings.train.precision,
    note: (line) => progress.line(line),
  });
  try {
    const missing = settings.train.checkpoints.filter((step) => !isKept(folder, step)).length;
    // A training state is the weights and both moments; a new slot is written in full before the one it replaces is
    // deleted.
    const states = existsSync(stateFolder(folder)) ? 1 : 3;
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

/** The folder of a checkpoint of this run. @throws RunFolderError when it changed since it was written */
function soundCheckpoint(folder: string, step: number): string {
  expectSound(folder, step);
  return checkpointFolder(folder, step);
}

/** Every shard would train for itself. @throws SettingsError for a shard of a study that is not trained */
function expectTrainedForShard({ shard, out }: StudySettings): void {
  if (shard !== "")
    throw new SettingsError(
      `shard: ${shard} of a study whose training is not finished in ${out}. Train once, without maps (--landscape.steps=), then give ` +
        "its checkpoints to every shard: node landscape/sweep.ts --checkpoints 'RUN/checkpoints/step-*' --shard " +
        `${shard} --out OTHER`,
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

const isEmbedded = ({ model }: StudySettings): boolean => model.path === "";

/** Reward on the evaluation episodes at the first and the last evaluated step; null if there are no two such steps. */
function evaluationLine(training: readonly TrainingRow[], episodes: number): string | null {
  const evaluated = training.filter(({ evalReward }) => typeof evalReward === "number");
  const [first, last] = [evaluated.at(0), evaluated.at(-1)];
  if (first === undefined || last === undefined || first === last) return null;
  const reward = ({ step, evalReward, evalRewardReach }: TrainingRow): string =>
    `${(evalReward ?? 0).toFixed(2)}${typeof evalRewardReach === "number" ? ` ± ${evalRewardReach.toFixed(2)}` : ""} at step ${step}`;
  return `Evaluation on ${episodes} episodes: reward ${reward(first)}, ${reward(last)} (±: half of a 95% interval).`;
}
