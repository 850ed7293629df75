// A run folder belongs to one run: its resolved settings are kept in config.toml, and a later command may continue in
// it only if every setting that shaped its results is the same. provenance.json records the adapter, the model and the
// program.
//
// Both are checked before anything is written, so a refused command leaves the folder as it was. Inputs from outside
// the folder (the model, an environment's file) are identified by their content: config.toml has the SHA-256 beside the
// path or name that was given, and provenance.json has no path at all. So a run folder can be moved, and its
// config.toml repeats the study or says what is missing.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import {
  CheckpointError,
  defineSettings,
  diffSettings,
  ensureFolder,
  explained,
  lockFolder,
  RunFolderError,
  readJson,
  removeTemporary,
  type Settings,
  SettingsError,
  type SettingsTree,
  sha256File,
  type Values,
  valuesIn,
  withValues,
  writeAtomic,
  writeToml,
} from "../../engine/host/index.ts";
import { type Backend, preferredTiles, sumOrder, tileChoiceSchema } from "../../engine/index.ts";
import { isModelFile, type LocatedModel, modelFiles, openCheckpoint, settleFolders } from "../../model/index.ts";
import type { Environment } from "../environments/environment.ts";
import { environmentFiles } from "../environments/registry.ts";
import type { modelSettings } from "../settings.ts";
import { configPath, metricsPath, provenancePath } from "./layout.ts";
import { hasSection, type RunDeclaration, readSettings } from "./run-settings.ts";

/** The model that comes with the program. */
export const embeddedModel = fileURLToPath(new URL("../presets/tiny/checkpoint", import.meta.url));

/** With no settings declared, a file's sections are its keys. */
const undeclared = defineSettings({});

type ModelValues = Values<typeof modelSettings>;

const sums = z.record(z.string(), z.string());
const provenanceSchema = z.object({
  schemaVersion: z.literal(1),
  foothold: z.string(),
  node: z.string(),
  gitRevision: z.string().nullable(),
  adapter: z.string(),
  backend: z.string(),
  /**
   * The model that training began from: the name of its folder, or its name and commit on the hub; and the SHA-256 of
   * each of its files.
   */
  model: z.object({
    name: z.string(),
    commit: z.string().nullable().default(null),
    isEmbedded: z.boolean(),
    sha256: sums,
  }),
  /**
   * Matrix products: the order of their sums, and the tiles that were measured as the fastest. Tiles change no result.
   */
  products: z.object({ order: z.string(), tiles: tileChoiceSchema }).default({ order: sumOrder, tiles: {} }),
  /**
   * The file of Alphabet-sort's names; null if there is none. Also in `files`, which folders of earlier versions lack.
   */
  names: z.object({ name: z.string(), sha256: z.string() }).nullable(),
  /** The files that the environment was opened from, keyed by the setting that names each. */
  files: z.record(z.string(), z.object({ name: z.string(), sha256: z.string() })).default({}),
  /** Drivers and versions of the shards that were merged, if they differ. */
  mixed: z.array(z.string()).default([]),
  startedAt: z.string(),
});
export type Provenance = z.infer<typeof provenanceSchema>;

const configFile = "config.toml";
/** Entries that a run writes after config.toml: a folder with one of them once had a config.toml. */
const results = ["checkpoints", "figures", "landscape", "metrics.jsonl", "provenance.json", "report.html", "state"];

/**
 * Locks the folder for this process and removes what a killed process left behind.
 * @returns the function that releases the folder
 * @throws RunFolderError when another process holds it, or when it is not a run folder and has files that a run would
 * replace
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
  // A command that was refused leaves no empty folder behind.
  const removeNew = (): void => {
    if (isNew && readdirSync(folder).length === 0) rmdirSync(folder);
  };
  let release: () => void;
  try {
    release = lockFolder(folder);
  } catch (thrown) {
    removeNew();
    throw thrown;
  }
  removeTemporary(folder);
  for (const place of ["checkpoints", "state"]) settleFolders(join(folder, place));
  return () => {
    release();
    removeNew();
  };
}

/**
 * Compares settings with those that the folder was begun with.
 * @throws RunFolderError naming every setting that differs in a way that would mix two studies
 */
export async function checkSettings<D extends SettingsTree>(
  folder: string,
  declaration: RunDeclaration<D>,
  values: Values<D>,
): Promise<void> {
  if (!existsSync(configPath(folder))) return;
  const { settings, later } = declaration;
  for (const [section, command] of settings.names.elsewhere ?? [])
    if (hasSection(folder, undeclared, section))
      throw new RunFolderError(
        `${folder}: config.toml has a section [${section}], so ${command} works in this folder. Continue there with that ` +
          `command, or choose another folder: --out ${freeName(folder)}`,
      );
  const before = await readSettings(folder, declaration);
  const isBegun = later === undefined || hasSection(folder, settings, later.section);
  const altered = diffSettings(settings, before, values)
    .filter(({ key }) => isBegun || !key.startsWith(`${later.section}.`))
    .filter(({ effect }) => effect === "alters");
  if (altered.length === 0) return;
  throw new RunFolderError(
    `${folder}: this folder holds another study:\n${altered.map(({ line }) => `  ${line}`).join("\n")}\n` +
      `Use the same settings to continue in it, or choose another folder: --out ${freeName(folder)}`,
  );
}

/** What the results of a run depend on, apart from its settings. */
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

/** One SHA-256 for a whole model, over its files' names and checksums in the format of sha256sum, sorted by name. */
export function modelDigest({ sha256 }: Provenance["model"]): string {
  const lines = Object.entries(sha256)
    .filter(([name]) => isModelFile(name))
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, sum]) => `${sum}  ${name}\n`);
  return createHash("sha256").update(lines.join("")).digest("hex");
}

/**
 * Compares the model with the digest in the settings.
 * @throws CheckpointError when it is another model
 */
export function checkModel({ model: { path, sha256 } }: { model: ModelValues }, { model }: Origin): void {
  if (sha256 !== "" && !/^[0-9a-f]{64}$/.test(sha256))
    throw new SettingsError(
      `model.sha256: expected 64 hexadecimal digits, as in a run's config.toml, got ${JSON.stringify(sha256)}.`,
    );
  const digest = modelDigest(model);
  if (sha256 === "" || sha256 === digest) return;
  const given = path === "" ? "the model that comes with the program" : `"${path}"`;
  throw new CheckpointError(
    `model.path: ${given} is another model than the settings name: expected SHA-256 ${sha256.slice(0, 12)}… (model.sha256), ` +
      `got ${digest.slice(0, 12)}…. Give that model (--model.path), or start a new study with this one (--model.sha256=).`,
  );
}

/**
 * Compares adapter, model and environment files with those that the folder was begun with.
 * @param isFinished  nothing is left to compute, so no results can mix; then any adapter is allowed
 * @throws RunFolderError: results of two adapters or drivers differ in their last bits
 */
export function checkOrigin(folder: string, origin: Origin, isFinished: boolean): void {
  const path = provenancePath(folder);
  if (!existsSync(path)) {
    if (existsSync(metricsPath(folder)))
      throw new RunFolderError(
        `${path}: missing, so the adapter that made the results here is unknown. Restore it from a copy, or ` +
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
      "Continue on the same adapter (--adapter)",
    );
  if (before.products.order !== origin.products.order && !isFinished)
    throw other(
      `begun when products were summed by "${before.products.order}", this version sums by "${origin.products.order}"`,
      "Continue with the version that began it",
    );
  // Runs of earlier versions also list files that are not part of the model.
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

/** Claims the folder for this run, once both checks have passed. */
export function claimFolder<D extends SettingsTree>(
  folder: string,
  settings: Settings<D>,
  values: Values<D>,
  origin: Origin,
): void {
  writeAtomic(configPath(folder), writeToml(settings, valuesIn(settings, recorded(settings, values, origin), folder)));
  const path = provenancePath(folder);
  if (existsSync(path)) return;
  const provenance: Provenance = {
    schemaVersion: 1,
    ...programVersion(),
    node: process.version,
    ...origin,
    mixed: [],
    startedAt: new Date().toISOString(),
  };
  writeAtomic(path, `${JSON.stringify(provenance, null, 1)}\n`);
}

/** The settings as config.toml has them: each path or name has the commit and digest of its content beside it. */
function recorded<D extends SettingsTree>(
  settings: Settings<D>,
  values: Values<D>,
  { model, files }: Origin,
): Values<D> {
  const found = new Map<string, string>([["model.sha256", modelDigest(model)]]);
  if (model.commit !== null) found.set("model.path", `${model.name}@${model.commit}`);
  for (const [setting, { sha256 }] of Object.entries(files)) found.set(`${setting}Sha256`, sha256);
  return withValues(settings, values, found);
}

/** A version of this program as messages name it: with the revision if it is a checkout. */
export function versionText({ foothold, gitRevision: revision }: Pick<Provenance, "foothold" | "gitRevision">): string {
  return revision === null ? foothold : `${foothold} (${revision.slice(0, 12)})`;
}

/** The version that runs now. A checkout's changes that are not committed are not seen. */
export function programVersion(): Pick<Provenance, "foothold" | "gitRevision"> {
  return { foothold: projectVersion(), gitRevision: gitRevision() };
}

export function readProvenance(folder: string): Provenance {
  return readJson(provenancePath(folder), provenanceSchema);
}

/** Whether the folder was claimed by a run. */
export function hasProvenance(folder: string): boolean {
  return existsSync(provenancePath(folder));
}

/** The name of a run: that of its folder. */
export function runName(folder: string): string {
  return basename(resolve(folder));
}

/** A similar name that no file or folder has yet. */
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

/** The revision of this program; null if it is installed as a package, since a repository around it is not its own. */
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
