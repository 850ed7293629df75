// Where each file of a training run is in its folder (docs/formats.md says what it holds). All code that reads or writes
// such a file gets its path here, or from rl/kept-checkpoints.ts for checkpoints. landscape/files adds the files of a study.
import { join } from "node:path";
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
export const stateFolder = (folder: string): string => join(folder, "state");
