// Sweeps around given checkpoints in this process, small enough for a test: 3 × 3 points, two prompts, a few tokens.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Phase, Progress } from "../../engine/host/index.ts";
import type { StudySettings } from "../../landscape/settings.ts";
import { runSweep } from "../../landscape/sweep-study.ts";
import { openCheckpoint, writeCheckpoint } from "../../model/index.ts";
import { fixturePath } from "../support.ts";
import { settingsOf } from "./study-settings.ts";
import { type Ended, start } from "./tiny-study.ts";

export const warmModel = fixturePath("tiny-warm-start");

/** Writes a folder as TRL's trainers do, of the warm model with every weight times `factor`. */
export async function trlFolder(folder: string, factor: number): Promise<void> {
  const checkpoint = await openCheckpoint(warmModel);
  const tensors: { name: string; data: Float32Array }[] = [];
  for (const name of checkpoint.shapes.keys()) {
    const parts: number[] = [];
    for await (const { data } of checkpoint.chunks(name, 2 ** 20)) parts.push(...data);
    tensors.push({ name, data: Float32Array.from(parts, (value) => value * factor) });
  }
  await checkpoint.close();
  const configJson = JSON.parse(readFileSync(join(warmModel, "config.json"), "utf8"));
  await writeCheckpoint(folder, { configJson, tensors, filesFrom: warmModel });
  for (const name of ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"])
    writeFileSync(join(folder, name), "not read");
}

const small = {
  "landscape.points": 3,
  "landscape.pointsAtOnce": 5,
  "landscape.maxNewTokens": 4,
  "landscape.reference.prompts": 2,
  "landscape.reference.rollouts": 2,
  "landscape.rollouts.prompts": 2,
  "landscape.rollouts.rollouts": 1,
  "landscape.conversations": 1,
  "landscape.simulations": 0,
};

export type Given = Readonly<Record<string, unknown>>;

const silentPhase: Phase = { advance() {}, moveTo() {}, phase: () => silentPhase, done() {} };

/** Measures maps in a folder. @returns the lines of progress */
export async function sweepIn(out: string, checkpoints: readonly string[], flags: Given = {}): Promise<string> {
  const lines: string[] = [];
  const progress: Progress = { phase: () => silentPhase, line: (text) => void lines.push(text), close() {} };
  await runSweep(smallSweep({ ...flags, checkpoints, out }), progress, new AbortController().signal);
  return lines.join("\n");
}

/** The settings of a small sweep. */
export const smallSweep = (flags: Given): StudySettings => settingsOf({ ...small, ...flags });

/** The same as a subprocess, which may be killed. */
export function sweepCommand(
  out: string,
  checkpoints: readonly string[],
  flags: Given = {},
  environment: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  const values: Given = { ...small, ...flags, checkpoints: checkpoints.join(","), out };
  return start(
    [
      "landscape/sweep.ts",
      ...Object.entries(values).flatMap(([key, value]) =>
        value === true ? [`--${key}`] : [`--${key}`, String(value)],
      ),
    ],
    environment,
  ).ended;
}

/** What was computed at points of a run folder, by all processes together. */
export interface Measured {
  /** Assistant tokens that were sampled. */
  readonly tokens: number;
  /** Completions of checkpoints that were scored. */
  readonly completions: number;
}

export function measuredIn(folder: string): Measured {
  const lines = readFileSync(join(folder, "timings.jsonl"), "utf8").match(/\{.*/g) ?? [];
  return lines
    .map((line): Partial<Measured> & { phase?: string } => JSON.parse(line))
    .filter(({ phase }) => phase !== undefined)
    .reduce<Measured>(
      (sum, { tokens = 0, completions = 0 }) => ({
        tokens: sum.tokens + tokens,
        completions: sum.completions + completions,
      }),
      { tokens: 0, completions: 0 },
    );
}
