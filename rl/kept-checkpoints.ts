// The checkpoints that a run keeps: Hugging Face folders, each with a file of checksums in the format of sha256sum
// (`cd checkpoints && sha256sum -c *.sha256`). Measurements around a checkpoint depend on every bit of it, so a
// checkpoint that changed after it was written is refused.
import { existsSync, readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { RunFolderError, readText, sha256File, writeAtomic } from "../engine/host/index.ts";
import type { ParameterArena } from "../engine/index.ts";
import { saveWeights } from "../model/index.ts";

/** The name of files and folders of one step in a run folder: "step-000020". */
export function stepName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

export function checkpointFolder(folder: string, step: number): string {
  return join(folder, "checkpoints", stepName(step));
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
 * Writes the checkpoint of a step, then its checksums.
 * @param modelFolder  the source of tokenizer and configuration
 * @param endTokenIds  the tokens that ended an answer in training, so that other programs stop there too
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

/** The checksums of a checkpoint's files as the run keeps them; null without a checkpoint. They are not compared with the files. */
export function keptSums(folder: string, step: number): string | null {
  return isKept(folder, step) ? readText(sumsPath(folder, step)) : null;
}

/** Whether the checkpoint exists. Its content is not checked. */
export function isKept(folder: string, step: number): boolean {
  return existsSync(checkpointFolder(folder, step)) && existsSync(sumsPath(folder, step));
}

/** The steps whose checkpoints are kept, ascending. */
export function keptSteps(folder: string): number[] {
  const place = dirname(checkpointFolder(folder, 0));
  if (!existsSync(place)) return [];
  return readdirSync(place)
    .flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? [])
    .map(Number)
    .filter((step) => isKept(folder, step))
    .sort((a, b) => a - b);
}

/**
 * Verifies a checkpoint: every listed file has its checksum, and every file of the model is listed.
 * @throws RunFolderError when a file of the checkpoint is missing or has changed, or the list of checksums is damaged
 */
export function expectSound(folder: string, step: number): void {
  const checkpoint = checkpointFolder(folder, step);
  const mend =
    `Restore it from a copy; or delete ${checkpoint} and ${join(folder, "state")}, and the same command trains again from ` +
    "the start, to the same weights.";
  const path = sumsPath(folder, step);
  const sums = readSums(path, basename(checkpoint), mend);
  for (const [name, sum] of sums) {
    const file = join(checkpoint, name);
    if (!existsSync(file)) throw new RunFolderError(`${file}: missing. ${mend}`);
    if (sha256File(file) !== sum)
      throw new RunFolderError(`${file}: changed since it was written (SHA-256 differs from ${path}). ${mend}`);
  }
  // Other files, such as a note or a cache, do not affect measurements.
  const unlisted = readdirSync(checkpoint).find(
    (name) => !sums.has(name) && /\.(safetensors|json|jinja|txt)$/.test(name),
  );
  if (unlisted !== undefined)
    throw new RunFolderError(
      `${path}: does not list ${unlisted}, which is in the folder of the checkpoint. ` +
        `If the file was added later, remove it. If not, the list of sums was cut short. ${mend}`,
    );
}

/** The checksum of each file, by the file's name. */
function readSums(path: string, checkpoint: string, mend: string): Map<string, string> {
  const lines = readText(path).split("\n");
  const isCut = lines.pop() !== "";
  const sums = new Map<string, string>();
  for (const [index, line] of lines.entries()) {
    const match = /^([0-9a-f]{64}) {2}([^/]+)\/([^/]+)$/.exec(line);
    if (match === null || match[2] !== checkpoint)
      throw new RunFolderError(
        `${path}: line ${index + 1}: expected a SHA-256 and "${checkpoint}/FILE", got ${JSON.stringify(line.slice(0, 100))}. ${mend}`,
      );
    sums.set(match[3], match[1]);
  }
  if (isCut || sums.size === 0) throw new RunFolderError(`${path}: cut short. ${mend}`);
  return sums;
}
