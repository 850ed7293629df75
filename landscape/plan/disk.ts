// The size of a study's folder: that of its training (rl/folder-size.ts), and the files of the landscapes. Measurements are random
// numbers, written in their format, and counted.
import { existsSync } from "node:fs";
import { formatBytes, freeDiskBytes } from "../../engine/host/index.ts";
import type { Chat, LanguageModel } from "../../model/index.ts";
import {
  conversationBytes,
  type DiskPlan,
  type Environment,
  type Lengths,
  labelledRandom,
  stateFolder,
  trainingDisk,
  writtenPrompts,
} from "../../rl/index.ts";
import { countCells } from "../files/cells.ts";
import type { StudySettings } from "../settings.ts";
import { furtherWork } from "./further-work.ts";
import { plannedCells } from "./probed-time.ts";
import { workOf } from "./work.ts";

/** The report and the claims of a study with few maps, and the figures of the study as a whole; figures and page of a map. */
const reportBytes = 1_900_000;
const figuresPerMap = 400_000;
/** Of tokenLengths, compressed. */
const bytesPerTokenLength = 0.5;

/** @param modelFolder  the model's folder, whose other files are copied into every checkpoint; null if it is not at hand */
export function diskOf(
  config: LanguageModel,
  environment: Environment,
  settings: StudySettings,
  lengths: { landscape: Lengths },
  modelFolder: string | null,
): DiskPlan {
  const { landscape } = settings;
  const { slices, steps, rollouts, reference } = landscape;
  const cells = plannedCells(settings);
  // The first rollout of these prompts is kept, with the length of each token's text.
  const kept = Math.min(landscape.conversations, rollouts.prompts);
  const said =
    kept === 0
      ? 0
      : conversationBytes(environment, landscape.episodeSeed, kept, 1) +
        kept * lengths.landscape.answer.right * bytesPerTokenLength;
  // Given checkpoints are not copied, and nothing is trained.
  const training =
    settings.checkpoints.length > 0 ? { parts: [], peak: 0 } : trainingDisk(config, environment, settings, modelFolder);
  const further = furtherBytes(settings, lengths.landscape.answer.right, said);
  const own = new Map<string, number>([
    ["cells", cells * cellBytes(rollouts, reference, lengths.landscape.answer.right)],
    ["conversations of cells", cells * said],
    ...(further === 0 ? [] : ([["rays, lines, pairs and noise floors", further]] as const)),
    ["figures and report", reportBytes + steps.length * slices * figuresPerMap + Math.min(1_000_000, cells * said)],
  ]);
  const added = [...own.values()].reduce((sum, bytes) => sum + bytes, 0);
  return { parts: new Map([...training.parts, ...own]), peak: training.peak + added };
}

/** What a plan of the disk is made of. */
export interface PlannedJob {
  readonly config: LanguageModel;
  readonly chat: Chat;
  readonly environment: Environment;
  readonly settings: StudySettings;
}

/**
 * A warning before a sweep: its maps' files will hardly fit on the disk. An estimate: lengths of answers are not known. It
 * counts the grid points that are left and, before its first step, the training; rays, lines and pairs come on top.
 * @returns null if there is room
 */
export function diskWarning(
  { config, chat, environment, settings }: PlannedJob,
  folder: string,
  modelFolder: string,
  free = freeDiskBytes(folder),
): string | null {
  const { lengths } = workOf(config, chat, environment, settings);
  const { steps, slices } = settings.landscape;
  const measured = steps
    .flatMap((step) => Array.from({ length: slices }, (_, slice) => countCells(folder, { step, slice })))
    .reduce((sum, cells) => sum + cells, 0);
  const planned = plannedCells(settings);
  const left = Math.max(0, planned - measured);
  if (left === 0) return null;
  const { parts } = diskOf(config, environment, settings, lengths, modelFolder);
  const bytesOf = (name: string): number => parts.get(name) ?? 0;
  const maps = ((bytesOf("cells") + bytesOf("conversations of cells")) * left) / planned;
  const isTrained = settings.checkpoints.length > 0 || existsSync(stateFolder(folder));
  const training = isTrained ? 0 : trainingDisk(config, environment, settings, modelFolder).peak;
  const needed = maps + bytesOf("figures and report") + training;
  if (needed <= free) return null;
  return (
    `Note: the files of ${left} grid points${isTrained ? "" : " and of the training"} need about ` +
    `${formatBytes(needed)} in ${folder}, where ${formatBytes(free)} are free. If the disk becomes full, the command stops ` +
    "and keeps what it measured; with room again, the same command goes on."
  );
}

/** What is measured besides maps; fresh prompts as if every direction improved. */
function furtherBytes(settings: StudySettings, answerTokens: number, said: number): number {
  const { rollouts, reference, rays, steps, pairs } = settings.landscape;
  const { points, draws, freshPoints } = furtherWork(settings);
  const scored = pairs ? steps.length * (steps.length - 1) : 0;
  const none = { prompts: 0, rollouts: 0 };
  return (
    points * (cellBytes(rollouts, reference, answerTokens) + said) +
    // Of a draw the rewards alone are kept, one of five quantities.
    (draws * cellBytes(rollouts, none, answerTokens)) / 5 +
    freshPoints * cellBytes({ ...rollouts, prompts: rays.freshPrompts }, none, answerTokens) +
    scored * cellBytes(none, reference, answerTokens)
  );
}

/** A line of cells.jsonl for a cell, as JSON of random numbers. */
export function cellBytes(
  rollouts: { readonly prompts: number; readonly rollouts: number },
  reference: { readonly prompts: number; readonly rollouts: number },
  answerTokens: number,
): number {
  const random = labelledRandom("plan|cell");
  const set = (
    { prompts, rollouts: each }: { readonly prompts: number; readonly rollouts: number },
    quantities: Readonly<Record<string, () => number>>,
  ): number => {
    const made = Math.min(prompts, writtenPrompts);
    if (made === 0) return 0;
    const values = Object.fromEntries(
      Object.entries(quantities).map(([name, value]) => [
        name,
        Array.from({ length: made }, () => Array.from({ length: each }, value)),
      ]),
    );
    return (JSON.stringify(values).length * prompts) / made;
  };
  const long = (): number => random.random() * answerTokens;
  return (
    250 +
    set(rollouts, {
      reward: () => (random.random() < 0.5 ? Math.round(random.random()) : random.random()),
      tokens: () => Math.round(answerTokens),
      entropy: long,
      truncated: () => 0,
      formatFailed: () => 0,
    }) +
    set(reference, { kl: long, k1: long, k3: long, objective: long, entropy: long })
  );
}
