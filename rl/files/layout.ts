// Where each file of a training run is in its folder (docs/formats.md says what it holds). All code that reads or writes
// such a file gets its path here, or from rl/kept-checkpoints.ts for checkpoints. landscape/files adds the files of a study.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { explained } from "../../engine/host/index.ts";
import { stepName } from "../kept-checkpoints.ts";

export const configPath = (folder: string): string => join(folder, "config.toml");
export const provenancePath = (folder: string): string => join(folder, "provenance.json");
export const metricsPath = (folder: string): string => join(folder, "metrics.jsonl");
export const timingsPath = (folder: string): string => join(folder, "timings.jsonl");
/** TensorBoard's events. */
export const boardFolder = (folder: string): string => join(folder, "tensorboard");
/** All conversations of a training step. */
export const trainingRolloutsPath = (folder: string, step: number): string =>
  join(folder, "rollouts", `${stepName(step)}.jsonl.gz`);
/** All conversations of the evaluation after a training step. */
export const evaluationRolloutsPath = (folder: string, step: number): string =>
  join(folder, "evaluations", `${stepName(step)}.jsonl.gz`);
/** The steps that a folder of conversations has a file of, ascending. */
export function stepsOf(place: string): number[] {
  return (existsSync(place) ? explained(place, () => readdirSync(place)) : [])
    .flatMap((name) => /^step-(\d+)\.jsonl\.gz$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}
export const stateFolder = (folder: string): string => join(folder, "state");
