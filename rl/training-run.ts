// A run in its folder, as rl/train.ts and landscape/run.ts open it: everything is checked before anything is written, and
// the folder is claimed only then. Training is the same in both, so a folder that one of them began, the other can take up:
// landscape/run.ts adds its settings and measures around the kept checkpoints.
import { existsSync } from "node:fs";
import { expectDiskSpace, type Progress, type SettingsTree, settingsError, type Values } from "../engine/host/index.ts";
import { adapterLine, type Backend, openBackend, preferTiles } from "../engine/index.ts";
import { type Chat, loadChat, loadModel, loadTokenizer, locateModel, openConfig } from "../model/index.ts";
import { expectTrainable, settleState, trainedSteps } from "./checkpoint.ts";
import { type Environment, episodeList, episodeProblems } from "./environments/environment.ts";
import { environmentDescription, openEnvironment } from "./environments/registry.ts";
import { stateFolder } from "./files/layout.ts";
import type { MetricsRow } from "./files/metrics.ts";
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
} from "./files/run-folder.ts";
import type { RunDeclaration } from "./files/run-settings.ts";
import { Timings } from "./files/timings.ts";
import { bytesOfWeights } from "./folder-size.ts";
import { isKept } from "./kept-checkpoints.ts";
import { expectPrecision } from "./loss-scale.ts";
import { positionsNote } from "./openings.ts";
import { expectTrainingMemory } from "./plan.ts";
import { expectTemplate } from "./rollout.ts";
import type { RunValues } from "./run-settings.ts";
import { trainSettings } from "./settings.ts";
import { reachOfMean } from "./statistics/distributions.ts";
import { train } from "./trainer.ts";
import { stateTensors } from "./training-settings.ts";

/** What every part of a run works with. */
export interface OpenedRun<V extends RunValues = RunValues> {
  readonly backend: Backend;
  readonly chat: Chat;
  readonly environment: Environment;
  readonly settings: V;
  readonly folder: string;
  readonly modelFolder: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly timings: Timings;
}

/** Episodes that a part of a run rolls out. */
export interface EpisodeUse {
  /** The setting of their number, for messages. */
  readonly setting: string;
  readonly count: number;
  readonly seed: number;
  /** Whether their first messages must differ. */
  readonly isDistinct: boolean;
}

export interface RunParts<V extends RunValues> {
  /** Besides those of training and evaluation. */
  readonly episodes?: readonly EpisodeUse[];
  /** Whether nothing is left to compute. The folder is locked, and the settings are compared with its own. */
  isFinished(): boolean | Promise<boolean>;
  /** @throws OutOfMemoryError with the numbers, and the settings that would make it fit */
  expectMemory(run: OpenedRun<V>): Promise<void>;
  /** Changes what the folder holds so that it fits the settings, when all is checked and before they are recorded. */
  adapt?(run: OpenedRun<V>): Promise<void>;
  work(run: OpenedRun<V>, isFinished: boolean): Promise<void>;
}

/**
 * Opens the run folder, checks everything, claims the folder and does the work.
 * @throws RunFolderError when the folder belongs to another run, adapter or model, or is in use; the folder is then
 * unchanged
 */
export async function withRun<D extends SettingsTree, V extends RunValues & Values<D>>(
  declaration: RunDeclaration<D>,
  settings: V,
  parts: RunParts<V>,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const folder = settings.out;
  const environment = await openEnvironment(settings.environment, { progress, signal });
  const uses = [...usesOf(settings), ...(parts.episodes ?? [])];
  await expectDistinctEpisodes(environment, uses, progress, signal);
  const release = openRunFolder(folder);
  let backend: Backend | undefined;
  let isBegun = false;
  try {
    await checkSettings(folder, declaration, settings);
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
    const isFinished = await parts.isFinished();
    checkOrigin(folder, origin, isFinished);
    if (!isTrained(settings)) expectTrainable(stateFolder(folder));
    const run: OpenedRun<V> = {
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
    if (!isFinished) {
      const episodes = uses.flatMap(({ seed, count }) => episodeList(environment, seed).slice(0, count));
      expectTemplate(run.chat, episodes, settings.environment.turn2Template);
      await sayPositions(run);
    }
    // The choice of tiles that the run began with, even if other tiles are faster now.
    preferTiles(backend, (hasProvenance(folder) ? readProvenance(folder) : origin).products.tiles);
    await parts.expectMemory(run);
    signal.throwIfAborted();
    isBegun = true;
    await parts.adapt?.(run);
    claimFolder(folder, declaration.settings, settings, origin);
    if (
      settings.model.path === "" &&
      settings.train.method === "grpo" &&
      settings.train.learningRate === trainSettings.learningRate.default
    )
      progress.line(
        "Note: the embedded tiny model is trained with the default learning rate, which is for a model of 0.5 billion parameters. " +
          'Its own settings come with extends = "tiny", or with tiny before the name of your file.',
      );
    await parts.work(run, isFinished);
  } finally {
    if (signal.aborted) sayStopped(progress, isBegun);
    release();
    backend?.destroy();
  }
}

/** The last line of a stopped command. @param isBegun  whether it has written to the run folder */
export function sayStopped(progress: Progress, isBegun: boolean): void {
  progress.close();
  progress.line(
    isBegun
      ? "Stopped. The same command continues from here."
      : "Stopped while the run was planned. This command has changed nothing.",
  );
}

/** Says if the conversations of training and its evaluations can be longer than the model was made for. */
async function sayPositions({ chat, environment, settings, modelFolder, progress }: OpenedRun): Promise<void> {
  const { config } = await openConfig(modelFolder);
  const note = positionsNote(
    usesOf(settings).flatMap(({ seed, count }) => episodeList(environment, seed).firstDistinct(count)),
    chat,
    {
      maxNewTokens: settings.train.maxNewTokens,
      positions: config.maxPositionEmbeddings,
      cure: "a lower --train.maxNewTokens, shorter prompts, or fewer turns",
    },
  );
  if (note !== null) progress.line(note);
}

function usesOf({ train, evaluate }: RunValues): EpisodeUse[] {
  return [
    { setting: "train.promptsPerStep", count: train.promptsPerStep, seed: train.episodeSeed, isDistinct: false },
    { setting: "evaluate.episodes", count: evaluate.episodes, seed: evaluate.episodeSeed, isDistinct: true },
  ];
}

/**
 * @throws SettingsError when a part asks for more different episodes than there are
 * @throws the signal's reason once it is aborted
 */
async function expectDistinctEpisodes(
  environment: Environment,
  uses: readonly EpisodeUse[],
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const distinct = uses.filter(({ isDistinct }) => isDistinct);
  try {
    for (const { seed, count } of distinct) await episodeList(environment, seed).makeDistinct(count, signal);
  } finally {
    if (signal.aborted) progress.line("Stopped while the prompts were made. This command has changed nothing.");
  }
  const problems = episodeProblems(environment, distinct);
  if (problems.length > 0) throw settingsError(problems);
}

/** Whether the run's last step is done and every checkpoint kept. */
export function isTrained({ out, train: { checkpoints, steps } }: RunValues): boolean {
  return checkpoints.every((step) => isKept(out, step)) && trainedSteps(stateFolder(out)) === steps;
}

/**
 * That the training fits into memory and on the disk. It is asked before the folder is claimed: a folder of settings that do not
 * fit would refuse those that do.
 * @throws OutOfMemoryError with the numbers, and the settings that would make it fit
 * @throws FileError with the bytes that are missing
 */
export async function expectRoomForTraining(run: OpenedRun): Promise<void> {
  const { backend, chat, environment, settings, folder, modelFolder } = run;
  if (isTrained(settings)) return;
  const { config } = await openConfig(modelFolder);
  const missing = settings.train.checkpoints.filter((step) => !isKept(folder, step)).length;
  // A training state is the weights and, with GRPO, both moments; a new slot is written in full before the one it replaces is
  // deleted.
  const states = existsSync(stateFolder(folder)) ? 1 : 3;
  expectDiskSpace(folder, (missing + stateTensors(settings.train) * states) * bytesOfWeights(config), "training");
  await expectTrainingMemory(backend, { config, chat, environment, settings });
}

/** Trains to the last step, if that is not done. */
export async function trainRun(run: OpenedRun): Promise<void> {
  const { backend, chat, environment, settings, folder, modelFolder, progress, signal, timings } = run;
  if (isTrained(settings)) return;
  const { config, weights } = await loadModel(backend, modelFolder, {
    // Evolution strategies need neither gradients nor moments; without a step they would be memory for nothing.
    trainable: settings.train.method === "grpo" && settings.train.steps > 0,
    precision: settings.train.precision,
    note: (line) => progress.line(line),
  });
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

/** Drops the optimiser states that a finished run need not keep. @returns what a user should know of them, or null */
export function settleRun({ folder, settings }: OpenedRun): string | null {
  return settleState(stateFolder(folder), settings.train.keepState);
}

/** Reward on the evaluation episodes at the first and the last evaluated step; null if there are no two such steps. */
export function evaluationLine(rows: readonly MetricsRow[], episodes: number): string | null {
  const evaluated = rows.filter((row) => typeof row["eval/reward"] === "number");
  const [first, last] = [evaluated.at(0), evaluated.at(-1)];
  if (first === undefined || last === undefined || first === last) return null;
  const reward = (row: MetricsRow): string => {
    const error = row["eval/reward_standard_error"];
    const reach = typeof error === "number" ? reachOfMean(error, episodes) : null;
    return `${(row["eval/reward"] ?? 0).toFixed(2)}${reach === null ? "" : ` ± ${reach.toFixed(2)}`} at step ${row.step}`;
  };
  return `Evaluation on ${episodes} episodes: reward ${reward(first)}, ${reward(last)} (±: half of a 95% interval).`;
}
