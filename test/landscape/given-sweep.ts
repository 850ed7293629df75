// Sweeps around given checkpoints in this process, small enough for a test: 3 × 3 points, two prompts, a few tokens.
import { type Phase, type Progress, resolveSettings } from "../../engine/host/index.ts";
import { type StudySettings, studySettings } from "../../landscape/settings.ts";
import { runSweep } from "../../landscape/sweep-study.ts";
import { fixturePath } from "../support.ts";
import { type Ended, start } from "./tiny-study.ts";

export const warmModel = fixturePath("tiny-warm-start");

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
  await runSweep(settingsOf({ ...flags, checkpoints, out }), progress, new AbortController().signal);
  return lines.join("\n");
}

/** The settings of a small sweep. */
export function settingsOf(flags: Given): StudySettings {
  const given = Object.entries({ ...small, ...flags }).map(([key, value]) => ({ key, value, where: "test" }));
  return resolveSettings(studySettings, [{ given, problems: [] }]);
}

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
