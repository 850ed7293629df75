// The checkpoints that a run keeps for good: Hugging Face folders, and beside each the sums of its files as sha256sum writes
// and checks them (`cd checkpoints && sha256sum -c *.sha256`). What was measured around a checkpoint is worth what the
// checkpoint is, so one that changed since it was written is refused.
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { RunFolderError, readText, sha256File, writeAtomic } from "../engine/host/index.ts";
import type { ParameterArena } from "../engine/index.ts";
import { saveWeights } from "../model/index.ts";

export function checkpointFolder(folder: string, step: number): string {
  return join(folder, "checkpoints", `step-${String(step).padStart(6, "0")}`);
}

function sumsPath(folder: string, step: number): string {
  return `${checkpointFolder(folder, step)}.sha256`;
}

function sumsOf(checkpoint: string): string {
  return readdirSync(checkpoint)
    .sort()
    .map((name) => `${sha256File(join(checkpoint, name))}  ${basename(checkpoint)}/${name}\n`)
    .join("");
}

/**
 * Writes the checkpoint of a step, then its sums.
 * @param modelFolder  where tokenizer and configuration come from
 * @param endTokenIds  what ended an answer in training, so that other programs stop there too
 */
export async function keepCheckpoint(
  folder: string,
  step: number,
  weights: ParameterArena,
  modelFolder: string,
  endTokenIds: readonly number[],
): Promise<void> {
  const checkpoint = checkpointFolder(folder, step);
  await saveWeights(weights, checkpoint, modelFolder, endTokenIds);
  writeAtomic(sumsPath(folder, step), sumsOf(checkpoint));
}

/** Whether the checkpoint is there; not whether it is sound. */
export function isKept(folder: string, step: number): boolean {
  return existsSync(checkpointFolder(folder, step)) && existsSync(sumsPath(folder, step));
}

/** @throws RunFolderError when a file of the checkpoint is missing, or is not what was written */
export function expectSound(folder: string, step: number): void {
  const checkpoint = checkpointFolder(folder, step);
  const damaged = readText(sumsPath(folder, step))
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => ({ sum: line.slice(0, 64), path: join(folder, "checkpoints", line.slice(66)) }))
    .find(({ sum, path }) => !existsSync(path) || sha256File(path) !== sum);
  if (damaged === undefined) return;
  throw new RunFolderError(
    `${damaged.path}: ${existsSync(damaged.path) ? "not what was written (SHA-256 differs)" : "missing"}. Restore it from ` +
      `a copy; or delete ${checkpoint} and ${join(folder, "state")}, and the same command trains again from the start, to ` +
      "the same weights.",
  );
}
