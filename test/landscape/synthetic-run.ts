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

/** 3 × 3 points around step 2. */
export function syntheticSettings(): StudySettings {
  const values: Record<string, unknown> = {
    "train.steps": step,
    "train.checkpoints": [0, step],
    "landscape.steps": [step],
    "landscape.points": 3,
    "landscape.reference.prompts": prompts,
    "landscape.reference.rollouts": 2,
    "landscape.rollouts.prompts": prompts,
    "landscape.rollouts.rollouts": 1,
    "landscape.simulations": 2,
  };
  const given = Object.entries(values).map(([key, value]) => ({ key, value, where: "test" }));
  return resolveSettings(studySettings, [{ given, problems: [] }]);
}

function syntheticCells(settings: StudySettings): { cells: CellRecord[]; reference: ReferenceSet } {
  const random = seeded(7);
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

/** Writes the folder. @param measured  how many of the 9 grid points are measured */
export function writeSyntheticRun(folder: string, measured = 9): void {
  mkdirSync(folder, { recursive: true });
  const settings = syntheticSettings();
  claimFolder(folder, studySettings, settings, {
    adapter: "made up",
    backend: "cpu",
    model: { name: "made-up", commit: null, isEmbedded: true, sha256: { "model.safetensors": "0".repeat(64) } },
    products: { order: "made up", tiles: {} },
    names: null,
    files: {},
  });
  const metrics = openMetrics(metricsPath(folder), -1);
  for (let at = 0; at <= step; at++) {
    const evaluated = { "eval/reward": 0.1 + 0.05 * at, "eval/reward_standard_error": 0.03 };
    metrics.append(at === 0 ? { step: at, ...evaluated } : { step: at, reward: 0.1 * at, ...evaluated });
  }
  metrics.close();
  const board = openTensorBoard(join(folder, "tensorboard"), 1_700_000_000, 0);
  board.scalar("reward", 0.1, 1, 1_700_000_001);
  board.close();
  writeFileSync(timingsPath(folder), '{"part":"training","seconds":1.5}\n');
  const { cells, reference } = syntheticCells(settings);
  writeReference(folder, step, reference);
  const writer = openCells(sliceFolder(folder, syntheticPlace), console.error);
  for (const [index, cell] of cells.slice(0, measured).entries()) {
    const messages = [
      { role: "user", content: `What is ${index} + 1?\u2028` },
      { role: "assistant", content: `<answer>${index + 1}</answer>` },
    ];
    writer.append(cell, `${JSON.stringify({ episode: 0, reward: 1, failure: null, messages })}\n`);
  }
  writer.close();
}
