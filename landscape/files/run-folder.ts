// A run folder belongs to one study: its resolved settings are kept in config.toml, and a later command may go on in it only
// where nothing that shaped its results differs. provenance.json says what made it: adapter, model, program.
//
// Both are looked at before anything is written, so that a command that is refused leaves the folder as it was. What came
// from elsewhere (the model, an environment's file) is known by its content: config.toml has its SHA-256, beside the path or
// name by which it was given, and provenance.json has no path at all. So a run folder can be moved, and its config.toml
// repeats the study or says what is missing.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import {
  CheckpointError,
  diffSettings,
  ensureFolder,
  explained,
  lockFolder,
  RunFolderError,
  readJson,
  removeTemporary,
  sha256File,
  withValues,
  writeAtomic,
  writeToml,
} from "../../engine/host/index.ts";
import { type Backend, preferredTiles, sumOrder, tilePlanSchema } from "../../engine/index.ts";
import { isModelFile, type LocatedModel, modelFiles, openCheckpoint, settleFolders } from "../../model/index.ts";
import { type Environment, environmentFiles } from "../../rl/index.ts";
import { type StudySettings, studySettings } from "../settings.ts";
import { readRunSettings } from "./run-settings.ts";

export type { StudySettings } from "../settings.ts";

/** The model that comes with the program. */
export const embeddedModel = fileURLToPath(new URL("../presets/tiny/checkpoint", import.meta.url));

const sums = z.record(z.string(), z.string());
const provenanceSchema = z.object({
  schemaVersion: z.literal(1),
  foothold: z.string(),
  node: z.string(),
  gitRevision: z.string().nullable(),
  adapter: z.string(),
  backend: z.string(),
  /**
   * The model that training began from: the name of its folder, or its name on the hub and the commit there; and the SHA-256
   * of each of its files.
   */
  model: z.object({
    name: z.string(),
    commit: z.string().nullable().default(null),
    isEmbedded: z.boolean(),
    sha256: sums,
  }),
  /** Matrix products: the order of their sums, and the tiles that were measured to be the fastest; they change no result. */
  products: z.object({ order: z.string(), tiles: tilePlanSchema }).default({ order: sumOrder, tiles: {} }),
  /** The file of Alphabet-sort's names; null where there is none. Also in `files`, which folders of former versions lack. */
  names: z.object({ name: z.string(), sha256: z.string() }).nullable(),
  /** The files that the environment was opened from, by the setting that names each. */
  files: z.record(z.string(), z.object({ name: z.string(), sha256: z.string() })).default({}),
  startedAt: z.string(),
});
export type Provenance = z.infer<typeof provenanceSchema>;

const configFile = "config.toml";
const provenanceFile = "provenance.json";
/** What a run writes first of all its results; a folder that has them had a config.toml. */
const results = ["checkpoints", "figures", "landscape", "metrics.jsonl", provenanceFile, "report.html", "state"];

/**
 * Takes the folder for this process, and clears what a killed one left.
 * @returns the function that lets go of it
 * @throws RunFolderError when another process has it, or when it is no run folder and holds files that a run would replace
 */
export function openRunFolder(folder: string): () => void {
  const isNew = !existsSync(folder);
  ensureFolder(folder);
  const names = explained(folder, () => readdirSync(folder));
  const others = names.filter((name) => results.includes(name));
  if (others.length > 0 && !names.includes(configFile))
    throw new RunFolderError(
      `${folder}: expected a new folder or one of a run, found ${others.join(", ")} without ${configFile}. Restore ` +
        `${configFile} from a copy, or choose another folder: --out ${freeName(folder)}`,
    );
  const release = lockFolder(folder);
  removeTemporary(folder);
  for (const place of ["checkpoints", "state"]) settleFolders(join(folder, place));
  return () => {
    release();
    // A command that was refused leaves no empty folder behind.
    if (isNew && readdirSync(folder).length === 0) rmdirSync(folder);
  };
}

/**
 * Holds settings against those the folder was begun with.
 * @throws RunFolderError naming every setting that differs in a way that would mix two studies
 */
export async function checkSettings(folder: string, values: StudySettings): Promise<void> {
  if (!existsSync(join(folder, configFile))) return;
  const before = await readRunSettings(folder);
  const altered = diffSettings(studySettings, before, values).filter(({ effect }) => effect === "alters");
  if (altered.length === 0) return;
  throw new RunFolderError(
    `${folder}: this folder holds another study:\n${altered.map(({ line }) => `  ${line}`).join("\n")}\n` +
      `Take the same settings to go on in it, or another folder: --out ${freeName(folder)}`,
  );
}

/** What the results of a run rest on beside its settings. */
export type Origin = Pick<Provenance, "adapter" | "model" | "products" | "names" | "files"> & {
  backend: Backend["kind"];
};

/** @throws CheckpointError when the model's folder is not sound */
export async function originOf(backend: Backend, model: LocatedModel, environment: Environment): Promise<Origin> {
  const modelFolder = model.folder;
  const checkpoint = await openCheckpoint(modelFolder);
  await checkpoint.close();
  const files = await modelFiles(modelFolder);
  const rests = Object.fromEntries(
    [...environmentFiles(environment)].map(([setting, { path, sha256 }]) => [
      setting,
      { name: basename(path), sha256 },
    ]),
  );
  return {
    adapter: backend.description,
    backend: backend.kind,
    model: {
      name: model.name,
      commit: model.commit,
      isEmbedded: resolve(modelFolder) === resolve(embeddedModel),
      sha256: Object.fromEntries(files.map((name) => [name, sha256File(join(modelFolder, name))])),
    },
    products: { order: sumOrder, tiles: { ...preferredTiles(backend) } },
    names: rests[namesKey] ?? null,
    files: rests,
  };
}

const namesKey = "environment.alphabet-sort.names";

/** One SHA-256 for a whole model: of its files' names and sums, in the form of sha256sum, by name. */
export function modelDigest({ sha256 }: Provenance["model"]): string {
  const lines = Object.entries(sha256)
    .filter(([name]) => isModelFile(name))
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, sum]) => `${sum}  ${name}\n`);
  return createHash("sha256").update(lines.join("")).digest("hex");
}

/**
 * Holds the model against the one that settings name by its digest.
 * @throws CheckpointError where it is another
 */
export function checkModel({ model: { path, sha256 } }: StudySettings, { model }: Origin): void {
  const digest = modelDigest(model);
  if (sha256 === "" || sha256 === digest) return;
  const given = path === "" ? "the model that comes with the program" : `"${path}"`;
  throw new CheckpointError(
    `model.path: ${given} is another model than the settings name: expected SHA-256 ${sha256.slice(0, 12)}… (model.sha256), ` +
      `got ${digest.slice(0, 12)}…. Give that model (--model.path), or take this one for a study of its own (--model.sha256=).`,
  );
}

/**
 * Holds adapter, model and names against those the folder was begun with.
 * @param isFinished  nothing is left to compute, so that no results can mix: another adapter is then as good
 * @throws RunFolderError: results of two adapters or drivers differ in their last bits
 */
export function checkOrigin(folder: string, origin: Origin, isFinished: boolean): void {
  const path = join(folder, provenanceFile);
  if (!existsSync(path)) {
    if (existsSync(join(folder, "metrics.jsonl")))
      throw new RunFolderError(
        `${path}: missing, so nobody can tell on which adapter the results here were made. Restore it from a copy, or ` +
          `start in another folder: --out ${freeName(folder)}`,
      );
    return;
  }
  const before = readJson(path, provenanceSchema);
  const other = (what: string, mend: string) =>
    new RunFolderError(`${folder}: ${what}. ${mend}, or start in another folder: --out ${freeName(folder)}`);
  if (before.adapter !== origin.adapter && !isFinished)
    throw other(
      `begun on the adapter "${before.adapter}", this is "${origin.adapter}". Their results differ in the last bits`,
      "Go on on the same adapter (--adapter)",
    );
  if (before.products.order !== origin.products.order && !isFinished)
    throw other(
      `begun when products were summed by "${before.products.order}", this version sums by "${origin.products.order}"`,
      "Go on with the version that began it",
    );
  // Runs of earlier versions list files that are no part of the model too.
  const isPart = (name: string): boolean => name in origin.model.sha256 || isModelFile(name);
  const files = [...new Set([...Object.keys(before.model.sha256), ...Object.keys(origin.model.sha256)])].filter(isPart);
  const changed = files.filter((name) => before.model.sha256[name] !== origin.model.sha256[name]);
  if (changed.length > 0)
    throw other(
      `begun from another model: ${changed.join(", ")} of "${origin.model.name}" ${changed.length > 1 ? "differ" : "differs"}`,
      `Give the same model as then, "${before.model.name}${before.model.commit === null ? "" : `@${before.model.commit}`}" (--model.path)`,
    );
  const filesBefore = before.names === null ? before.files : { [namesKey]: before.names, ...before.files };
  for (const setting of new Set([...Object.keys(filesBefore), ...Object.keys(origin.files)])) {
    const [was, is] = [filesBefore[setting], origin.files[setting]];
    if (was?.sha256 !== is?.sha256)
      throw other(
        `${setting}: begun with ${fileText(was)}, this is ${fileText(is)}`,
        `Give the same file (--${setting})`,
      );
  }
}

function fileText(file: Provenance["files"][string] | undefined): string {
  return file === undefined ? "no file" : `the file "${file.name}" (SHA-256 ${file.sha256.slice(0, 12)}…)`;
}

/** Makes the folder this study's, once both checks have passed. */
export function claimFolder(folder: string, values: StudySettings, origin: Origin): void {
  writeAtomic(join(folder, configFile), writeToml(studySettings, recorded(values, origin)));
  const path = join(folder, provenanceFile);
  if (existsSync(path)) return;
  const provenance: Provenance = {
    schemaVersion: 1,
    foothold: projectVersion(),
    node: process.version,
    gitRevision: gitRevision(),
    ...origin,
    startedAt: new Date().toISOString(),
  };
  writeAtomic(path, `${JSON.stringify(provenance, null, 1)}\n`);
}

/** The settings as config.toml has them: what was given by a path or a name has its commit and digest beside it. */
function recorded(values: StudySettings, { model, files }: Origin): StudySettings {
  const found = new Map<string, string>([["model.sha256", modelDigest(model)]]);
  if (model.commit !== null) found.set("model.path", `${model.name}@${model.commit}`);
  for (const [setting, { sha256 }] of Object.entries(files)) found.set(`${setting}Sha256`, sha256);
  return withValues(studySettings, values, found);
}

export function readProvenance(folder: string): Provenance {
  return readJson(join(folder, provenanceFile), provenanceSchema);
}

/** Whether the folder was claimed by a study. */
export function hasProvenance(folder: string): boolean {
  return existsSync(join(folder, provenanceFile));
}

/** The name that a run goes by: its folder's. */
export function runName(folder: string): string {
  return basename(resolve(folder));
}

/** A name near this one that is not taken. */
function freeName(folder: string): string {
  const stem = folder.replace(/[\\/]+$/, "");
  let number = 2;
  while (existsSync(`${stem}-${number}`)) number++;
  return `${stem}-${number}`;
}

function projectVersion(): string {
  const file: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return z.object({ version: z.string() }).parse(file).version;
}

/** The revision of this program; null for one that was installed: a repository around it is another's. */
function gitRevision(): string | null {
  const cwd = new URL(".", import.meta.url);
  if (cwd.pathname.includes("/node_modules/")) return null;
  try {
    return execFileSync("git", ["rev-parse", "HEAD"], {
      cwd,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return null; // not a git checkout
  }
}
