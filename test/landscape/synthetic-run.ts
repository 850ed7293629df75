// A run folder without a GPU: made-up measurements, written by the same functions as a real run's.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { resolveSettings } from "../../engine/host/index.ts";
import { type CellRecord, openCells, type ReferenceSet, writeReference } from "../../landscape/files/cells.ts";
import { sliceFolder } from "../../landscape/files/layout.ts";
import { workOrder } from "../../landscape/grid.ts";
import { type StudySettings, studySettings } from "../../landscape/settings.ts";
import { metricsPath, timingsPath } from "../../rl/files/layout.ts";
import { claimFolder } from "../../rl/files/run-folder.ts";
import { openMetrics, openTensorBoard } from "../../rl/index.ts";
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
  const values: Record<string, unknown> = {
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
  };
  const given = Object.entries(values).map(([key, value]) => ({ key, value, where: "test" }));
  return resolveSettings(studySettings, [{ given, problems: [] }]);
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

/** Writes the folder. @param measured  how many grid points of each map are measured, by default all */
export function writeSyntheticRun(
  folder: string,
  measured = Number.POSITIVE_INFINITY,
  shape: SyntheticShape = small,
): void {
  mkdirSync(folder, { recursive: true });
  const settings = syntheticSettings(shape);
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
