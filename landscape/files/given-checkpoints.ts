// Checkpoints that a study takes from elsewhere: of a training with TRL, verl, prime-rl or transformers, of the hub, or of
// another run folder. The study keeps a reference to each (checkpoints/step-NNNNNN.json), with the digest of every file.
// The weights are not copied.
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { z } from "zod";
import {
  CheckpointError,
  ensureFolder,
  RunFolderError,
  readJson,
  SettingsError,
  sha256File,
  writeAtomic,
} from "../../engine/host/index.ts";
import { type LocatedModel, type LocateOptions, locateModel, modelFiles } from "../../model/index.ts";
import { checkpointFolder } from "../../rl/index.ts";

const referenceSchema = z.object({
  schemaVersion: z.literal(1),
  step: z.int(),
  /** As it was found: a folder, relative if the setting was; or ORG/NAME on the hub. */
  path: z.string(),
  /** The commit on the hub; null for a folder. */
  commit: z.string().nullable(),
  /** Of each file of the model. */
  sha256: z.record(z.string(), z.string()),
  /** The share of elements that differ from those of the checkpoint before once both are rounded to bf16; null for the first. */
  bf16: z.object({ since: z.int(), share: z.number() }).nullable(),
});
/** What a run folder keeps of a checkpoint that lies elsewhere. */
export type GivenCheckpoint = z.infer<typeof referenceSchema>;

/** A checkpoint that is found but not yet read. */
export interface NamedCheckpoint {
  step: number;
  /** A folder, or ORG/NAME@REVISION. */
  path: string;
}

export function givenPath(folder: string, step: number): string {
  return `${checkpointFolder(folder, step)}.json`;
}

/** The reference of a step; null if the run folder has none. */
export function readGiven(folder: string, step: number): GivenCheckpoint | null {
  const path = givenPath(folder, step);
  return existsSync(path) ? readJson(path, referenceSchema) : null;
}

export function writeGiven(folder: string, given: GivenCheckpoint): void {
  const path = givenPath(folder, given.step);
  ensureFolder(dirname(path));
  writeAtomic(path, `${JSON.stringify(given, null, 1)}\n`);
}

/**
 * The checkpoints that the setting names, by step.
 * A name is a folder, a pattern with * and ? (no ** ), or ORG/NAME@REVISION of the hub; `=STEP` behind it gives its step.
 * Otherwise the step is the number in the last part of the path that looks like checkpoint-100, global_step_20,
 * step_000040 or iter-7. A single checkpoint without a number has step 0.
 * @throws SettingsError when a pattern finds nothing, or steps are missing or equal; CheckpointError for a folder whose
 *   weights another program must merge first
 */
export function findCheckpoints(names: readonly string[]): NamedCheckpoint[] {
  const found: { path: string; step: number | null }[] = [];
  for (const name of names) {
    const [, path = name, step] = /^(.*)=(\d+)$/.exec(name) ?? [];
    const matches = foldersOf(path);
    if (step !== undefined && matches.length > 1)
      throw new SettingsError(
        `checkpoints: ${JSON.stringify(name)} gives one step to ${matches.length} folders. Name them singly.`,
      );
    if (matches.length === 0 && (/[*?]/.test(path) || /^[./~]/.test(path)))
      throw new SettingsError(
        `checkpoints: ${JSON.stringify(path)}: there is no such folder. Relative paths start at ${resolve(".")}.`,
      );
    for (const match of matches.length === 0 ? [path] : matches)
      found.push({
        path: matches.length === 0 ? match : modelFolderIn(match),
        step: step === undefined ? stepIn(match) : Number(step),
      });
  }
  const isSingle = found.length === 1;
  const unknown = found.find(({ step }) => step === null);
  if (unknown !== undefined && !isSingle)
    throw new SettingsError(
      `checkpoints: ${unknown.path}: its name has no step. Expected one as in checkpoint-100, global_step_20 or ` +
        `step_000040; or add it: ${unknown.path}=100`,
    );
  const checkpoints = found.map(({ path, step }) => ({ path, step: step ?? 0 })).sort((a, b) => a.step - b.step);
  for (const [index, { step, path }] of checkpoints.entries())
    if (checkpoints[index + 1]?.step === step && checkpoints[index + 1].path !== path)
      throw new SettingsError(
        `checkpoints: ${path} and ${checkpoints[index + 1].path} are both of step ${step}. Give one of them ` +
          `another step: ${path}=STEP`,
      );
  return checkpoints.filter(({ step }, index) => checkpoints[index - 1]?.step !== step);
}

function stepIn(path: string): number | null {
  for (const part of path.split(/[\\/@]/).reverse()) {
    const match = /(?:^|[-_.])(?:checkpoint|ckpt|global[-_]steps?|steps?|iter(?:ation)?)[-_]?(\d+)$/i.exec(part);
    if (match !== null) return Number(match[1]);
  }
  return null;
}

/** Folders that match a path whose parts may hold * and ?, in numeric order. */
function foldersOf(pattern: string): string[] {
  const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  if (!/[*?]/.test(pattern)) return isFolder(pattern) ? [pattern] : [];
  let places = [pattern.startsWith("/") ? "/" : ""];
  for (const part of pattern.split("/").filter((one) => one !== "")) {
    const expression = new RegExp(
      `^${part
        .replace(/[.+^${}()|[\]\\]/g, "\\$&")
        .replaceAll("*", ".*")
        .replaceAll("?", ".")}$`,
    );
    places = places.flatMap((place) => {
      if (!/[*?]/.test(part)) return [join(place, part)];
      if (!isFolder(place === "" ? "." : place)) return [];
      return readdirSync(place === "" ? "." : place)
        .filter((name) => expression.test(name) && (part.startsWith(".") || !name.startsWith(".")))
        .map((name) => join(place, name));
    });
  }
  return places.filter(isFolder).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

const hasWeights = (folder: string): boolean =>
  existsSync(join(folder, "config.json")) &&
  (existsSync(join(folder, "model.safetensors")) || existsSync(join(folder, "model.safetensors.index.json")));

/**
 * The model's folder in a trainer's checkpoint. TRL and transformers write a model folder, checkpoint-N. verl writes
 * global_step_N/actor (supervised fine-tuning: global_step_N): `huggingface` there has the weights only if they were saved with hf_model or
 * merged. prime-rl wrote weights/step_N until 2026, or checkpoints/step_N/weight; newer versions write the model's weights alone,
 * without its configuration, to broadcasts/step_N, and the trainer's state to checkpoints/step_N/trainer.
 * @throws CheckpointError for shards that must be merged, with the command; for weights without a configuration
 */
function modelFolderIn(folder: string): string {
  const places = ["", "actor/huggingface", "huggingface", "actor", "weight"].map((inside) => join(folder, inside));
  const whole = places.find(hasWeights);
  const adapter = [whole ?? folder, join(folder, "actor")]
    .map((one) => join(one, "lora_adapter"))
    .find((one) => existsSync(one));
  if (adapter !== undefined)
    throw new CheckpointError(
      `${folder}: what verl trained here is the LoRA adapter ${adapter}, which is merged into no model. Merge it first: node ` +
        `model/export.ts --model ${adapter} --base BASE --out ${join(folder, "merged")}, and give that folder. (verl's own merger ` +
        "writes the base model without the adapter, and lora_alpha 0 into adapter_config.json: set it to the training's.)",
    );
  if (whole !== undefined) return whole;
  for (const actor of [join(folder, "actor"), folder]) {
    const names = existsSync(actor) ? readdirSync(actor) : [];
    const isFsdp = names.some((name) => /^model_world_size_\d+_rank_\d+\.pt$/.test(name));
    if (isFsdp || names.includes("dist_ckpt"))
      throw new CheckpointError(
        `${folder}: a checkpoint of verl whose weights are in shards. Merge them with verl first: python -m verl.model_merger ` +
          `merge --backend ${isFsdp ? "fsdp" : "megatron"} --local_dir ${actor} --target_dir ${join(actor, "huggingface")}. ` +
          'Or train with actor_rollout_ref.actor.checkpoint.save_contents=["model","optimizer","extra","hf_model"].',
      );
    if (names.some((name) => name.endsWith(".distcp")) || existsSync(join(actor, "trainer")))
      throw new CheckpointError(
        `${folder}: a trainer's state in the format of torch.distributed.checkpoint, which is not a model folder. prime-rl ` +
          "writes models to weights/step_N of its output folder, or (newer versions, with the weights sent through the file system) " +
          "to broadcasts/step_N: give that folder.",
      );
  }
  if (!existsSync(join(folder, "config.json")) && existsSync(join(folder, "STABLE")))
    throw new CheckpointError(
      `${folder}: weights that prime-rl sent to its inference servers, without the model's configuration. Copy config.json, ` +
        "tokenizer.json, tokenizer_config.json and chat_template.jinja of the model that was trained into this folder.",
    );
  return folder; // opening it says what is missing
}

/**
 * Finds a checkpoint's files and their digests. Downloads those of the hub.
 * @throws CheckpointError when it is no model folder
 */
export async function locateGiven(
  { step, path }: NamedCheckpoint,
  options: LocateOptions,
): Promise<{ given: GivenCheckpoint; located: LocatedModel }> {
  const located = await locateModel(path, options);
  const files = await modelFiles(located.folder);
  const sha256 = Object.fromEntries(files.map((name) => [name, sha256File(join(located.folder, name))]));
  const name = located.commit === null ? path : located.name;
  return { given: { schemaVersion: 1, step, path: name, commit: located.commit, sha256, bf16: null }, located };
}

/**
 * Compares a checkpoint with the reference that the run folder has.
 * @throws RunFolderError when the reference is of other files
 */
export function expectSameGiven(folder: string, given: GivenCheckpoint): void {
  const before = readGiven(folder, given.step);
  if (before === null) return;
  const names = [...new Set([...Object.keys(before.sha256), ...Object.keys(given.sha256)])];
  const changed = names.filter((name) => before.sha256[name] !== given.sha256[name]);
  if (changed.length > 0)
    throw new RunFolderError(
      `${folder}: the checkpoint of step ${given.step}, ${given.path}, is another one than was measured here: ` +
        `${changed.join(", ")} ${changed.length > 1 ? "differ" : "differs"}. Restore it from a copy, or measure in another ` +
        "folder: --out OTHER",
    );
}

/** A sentence about two neighbouring checkpoints of which less than half of the elements differ in bf16; else null. */
export function roundingWarning(one: string, other: string, share: number): string | null {
  if (share >= 0.5) return null;
  return (
    `${one} and ${other} differ in ${(100 * share).toFixed(1)}% of their elements once these are rounded to bf16. If they were ` +
    "trained or saved in bf16, a difference between their maps is mostly a matter of rounding. Save in float32, or measure " +
    "checkpoints that are further apart."
  );
}

/** The warnings of all checkpoints of a run folder, by step. */
export function roundingNotes(folder: string, steps: readonly number[]): string[] {
  return steps.flatMap((step) => {
    const bf16 = readGiven(folder, step)?.bf16 ?? null;
    const warning = bf16 === null ? null : roundingWarning(`Step ${bf16.since}`, `step ${step}`, bf16.share);
    return warning ?? [];
  });
}
