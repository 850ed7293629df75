// A run folder without a GPU: made-up measurements, written by the same functions as a real run's.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CellRecord, openCells, type ReferenceSet, writeReference } from "../../landscape/files/cells.ts";
import { type SlicePlace, sliceFolder } from "../../landscape/files/layout.ts";
import { type GridCell, workOrder } from "../../landscape/grid.ts";
import { type StudySettings, studySettings } from "../../landscape/settings.ts";
import { metricsPath, timingsPath } from "../../rl/files/layout.ts";
import { claimFolder } from "../../rl/files/run-folder.ts";
import { openMetrics, openTensorBoard } from "../../rl/index.ts";
import { settingsOf } from "./study-settings.ts";
import { seeded } from "./synthetic-study.ts";

const prompts = 4;
const tokens = 20;
const step = 2;

export const syntheticPlace = { step, slice: 0 };

export interface SyntheticShape {
  readonly steps: readonly number[];
  readonly slices: number;
  readonly points: number;
}

/** 3 × 3 points around step 2. */
const small: SyntheticShape = { steps: [step], slices: 1, points: 3 };

export function syntheticSettings({ steps, slices, points }: SyntheticShape = small): StudySettings {
  const last = Math.max(...steps);
  return settingsOf({
    "train.steps": last,
    "train.checkpoints": [...new Set([0, ...steps])],
    "landscape.steps": [...steps],
    "landscape.slices": slices,
    "landscape.points": points,
    "landscape.reference.prompts": prompts,
    "landscape.reference.rollouts": 2,
    "landscape.rollouts.prompts": prompts,
    "landscape.rollouts.rollouts": 1,
    "landscape.simulations": 2,
  });
}

function syntheticCells(settings: StudySettings, seed: number): { cells: CellRecord[]; reference: ReferenceSet } {
  const random = seeded(seed);
  const each = <T>(of: (p: number) => T): T[] => Array.from({ length: prompts }, (_, p) => of(p));
  const cells = workOrder(settings.landscape).map(({ i, j, alpha, beta, squaredSteps }): CellRecord => {
    const scored = (value: () => number) => each(() => [value(), value()]);
    return {
      ...{ i, j, alpha, beta },
      rollouts: {
        reward: each(() => [0.8 * random() - 0.1 * squaredSteps]),
        tokens: each(() => [tokens]),
        entropy: each(() => [random()]),
        truncated: each(() => [0]),
        formatFailed: each(() => [0]),
      },
      reference: {
        kl: scored(() => tokens * 0.01 * squaredSteps * (1 + random())),
        k1: scored(random),
        k3: scored(random),
        objective: scored(random),
        entropy: scored(random),
      },
    };
  });
  const reference: ReferenceSet = {
    tokens: each(() => [tokens, tokens]),
    reward: each(() => [0, 1]),
    advantage: each((p) => (p === 0 ? [0, 0] : [-1, 1])),
  };
  return { cells, reference };
}

/** The files of a training of so many steps. */
function writeTraining(folder: string, settings: StudySettings): void {
  mkdirSync(folder, { recursive: true });
  claimFolder(folder, studySettings, settings, {
    adapter: "made up",
    backend: "cpu",
    model: { name: "made-up", commit: null, isEmbedded: true, sha256: { "model.safetensors": "0".repeat(64) } },
    products: { order: "made up", tiles: {} },
    names: null,
    files: {},
  });
  const metrics = openMetrics(metricsPath(folder), -1);
  for (let at = 0; at <= settings.train.steps; at++) {
    const evaluated = { "eval/reward": 0.1 + 0.05 * at, "eval/reward_standard_error": 0.03 };
    metrics.append(at === 0 ? { step: at, ...evaluated } : { step: at, reward: 0.1 * at, ...evaluated });
  }
  metrics.close();
  const board = openTensorBoard(join(folder, "tensorboard"), 1_700_000_000, 0);
  board.scalar("reward", 0.1, 1, 1_700_000_001);
  board.close();
  writeFileSync(timingsPath(folder), '{"part":"training","seconds":1.5}\n');
}

/** Writes the folder. @param measured  how many grid points of each map are measured, by default all */
export function writeSyntheticRun(
  folder: string,
  measured = Number.POSITIVE_INFINITY,
  shape: SyntheticShape = small,
): void {
  const settings = syntheticSettings(shape);
  writeTraining(folder, settings);
  for (const at of shape.steps)
    for (let slice = 0; slice < shape.slices; slice++) {
      const { cells, reference } = syntheticCells(settings, 5 + at + 100 * slice);
      writeReference(folder, at, reference);
      const writer = openCells(sliceFolder(folder, { step: at, slice }), console.error);
      for (const [index, cell] of cells.slice(0, measured).entries()) writer.append(cell, conversationsAt(index));
      writer.close();
    }
}

/** Two conversations: the first is the checkpoint's (index 0) for a few words, the second is the same everywhere. */
function conversationsAt(index: number): string {
  const words = ["<answer>", "one ", "two ", "three ", "four", "</answer>"];
  const changed = words.map((word, k) => (index > 0 && k > index % 5 ? word.toUpperCase() : word));
  const line = (question: string, answer: readonly string[]): string => {
    const messages = [
      { role: "user", content: `${question}\u2028` },
      { role: "assistant", content: answer.join("") },
    ];
    const tokenLengths = [[...answer.map(({ length }) => length), 0]];
    return `${JSON.stringify({ episode: 0, reward: 1, failure: null, messages, tokenLengths })}\n`;
  };
  return line("Count to four.", changed) + line("Again.", words);
}

/** The size of a made-up study. */
export interface StudyShape {
  checkpoints: number;
  /** Grid points per side. */
  points: number;
  prompts: number;
  /** Per prompt, of the rollouts at a grid point and of the reference completions. */
  rollouts: number;
  simulations: number;
}

/** 16 checkpoints of the `study` preset, whose numbers are made up: a hill of reward, a bowl of KL, easy and hard prompts. */
export const STUDY_SIZE: StudyShape = { checkpoints: 16, points: 21, prompts: 64, rollouts: 16, simulations: 200 };

/** Writes the folder of a study of this size: about 135 kB per cell at the size of the `study` preset. */
export function writeStudySizedRun(folder: string, shape: StudyShape): void {
  const steps = Array.from({ length: shape.checkpoints }, (_, k) => 10 * k);
  const settings = settingsOf({
    "train.steps": steps[steps.length - 1],
    "train.checkpoints": steps,
    "landscape.steps": steps,
    "landscape.points": shape.points,
    "landscape.reference.prompts": shape.prompts,
    "landscape.reference.rollouts": shape.rollouts,
    "landscape.rollouts.prompts": shape.prompts,
    "landscape.rollouts.rollouts": shape.rollouts,
    "landscape.simulations": shape.simulations,
  });
  writeTraining(folder, settings);
  for (const [k, step] of steps.entries()) writeStudySizedSlice(folder, settings, { step, slice: 0 }, seeded(100 + k));
}

function writeStudySizedSlice(
  folder: string,
  { landscape }: StudySettings,
  place: SlicePlace,
  random: () => number,
): void {
  const { rollouts: group, prompts } = landscape.rollouts;
  const table = (value: (p: number, g: number) => number): number[][] =>
    Array.from({ length: prompts }, (_, p) => Array.from({ length: group }, (_, g) => value(p, g)));
  const ease = Array.from({ length: prompts }, random);
  const tilt = Array.from({ length: prompts }, random);
  const lengths = table(() => 12 + Math.floor(60 * random()));
  const rewards = table((p) => (random() < ease[p] ? 1 : random()));
  writeReference(folder, place.step, {
    tokens: lengths,
    reward: rewards,
    advantage: rewards.map((of) => of.map((reward) => reward - of.reduce((a, b) => a + b, 0) / group)),
  });
  const cellAt = ({ i, j, alpha, beta, squaredSteps }: GridCell): CellRecord => {
    const u = (2 * i) / (landscape.points - 1) - 1;
    const far = squaredSteps / ((landscape.points - 1) / 2) ** 2; // 0 at the centre, 2 at the corners
    const kl = (p: number): number => 0.04 * far * (1 + 0.4 * (tilt[p] - 0.3) * u);
    const perToken = (value: (p: number) => number) => table((p, g) => lengths[p][g] * value(p));
    return {
      ...{ i, j, alpha, beta },
      rollouts: {
        reward: table((p) => (random() < 0.2 + 0.7 * ease[p] - 0.25 * far + 0.05 * u ? 1 : random() ** 2)),
        tokens: table(() => 12 + Math.floor(60 * random())),
        entropy: table(() => 9 * random()),
        truncated: table(() => (random() < 0.02 ? 1 : 0)),
        formatFailed: table(() => (random() < 0.1 ? 1 : 0)),
      },
      reference: {
        kl: perToken((p) => kl(p) * (0.5 + random())),
        k1: perToken((p) => kl(p) * (3 * random() - 0.5)),
        k3: perToken((p) => kl(p) * 2 * random()),
        objective: perToken((p) => 0.01 * (random() - 0.5) - 0.2 * kl(p) ** 2 + 0.003 * u),
        entropy: perToken(() => 0.3 * random()),
      },
      firstDifference: table((p, g) => (random() < Math.exp(-9 * far) ? -1 : Math.floor(lengths[p][g] * random()))),
    };
  };
  const writer = openCells(sliceFolder(folder, place), console.error);
  for (const cell of workOrder(landscape)) {
    const said = Array.from({ length: landscape.conversations }, (_, episode) => {
      const names = Array.from({ length: 4 }, () => `Name${Math.floor(9 * random())}`);
      const list = names.map((name, k) => `${k + 1}. ${name}`).join("\n");
      const messages = [
        { role: "user", content: `Sort these names alphabetically (${episode}):\nAda, Bo, Cy, Di` },
        { role: "assistant", content: `<alphabetical_sorted>\n${list}\n</alphabetical_sorted>` },
      ];
      return `${JSON.stringify({ episode, reward: random(), failure: null, messages })}\n`;
    });
    writer.append(cellAt(cell), said.join(""));
  }
  writer.close();
}
