// A run folder belongs to one study: its resolved settings are kept in config.toml, and a later command may go on in it only
// where nothing that shaped its results differs. provenance.json says what made it.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import {
  diffSettings,
  ensureFolder,
  lockFolder,
  readJson,
  readTomlFile,
  removeTemporary,
  resolveSettings,
  sha256File,
  type Values,
  writeAtomic,
  writeToml,
} from "../engine/host/index.ts";
import { type Backend, RunFolderError } from "../engine/index.ts";
import { studySettings } from "./settings.ts";

export type StudySettings = Values<(typeof studySettings)["tree"]>;

const provenanceSchema = z.object({
  schemaVersion: z.literal(1),
  foothold: z.string(),
  node: z.string(),
  gitRevision: z.string().nullable(),
  adapter: z.string(),
  backend: z.string(),
  modelSha256: z.string(),
  startedAt: z.string(),
});
export type Provenance = z.infer<typeof provenanceSchema>;

/** Takes the folder for this process, and clears what a killed one left. @returns the function that lets go of it */
export function openRunFolder(folder: string): () => void {
  ensureFolder(folder);
  const release = lockFolder(folder);
  removeTemporary(folder);
  return release;
}

/**
 * Holds settings against those the folder was begun with, and keeps them there.
 * @throws RunFolderError naming every setting that differs in a way that would mix two studies
 */
export function claimSettings(folder: string, values: StudySettings): void {
  const path = join(folder, "config.toml");
  if (existsSync(path)) {
    const before = resolveSettings(studySettings, [readTomlFile(studySettings, path)]);
    const altered = diffSettings(studySettings, before, values).filter(({ effect }) => effect === "alters");
    if (altered.length > 0)
      throw new RunFolderError(
        `${folder}: this folder holds another study:\n${altered.map(({ line }) => `  ${line}`).join("\n")}\n` +
          `Take the same settings to go on in it, or another folder: --out ${folder}-2`,
      );
  }
  writeAtomic(path, writeToml(studySettings, values));
}

/**
 * Holds the adapter and the starting model against those the folder was begun with.
 * @throws RunFolderError: results of two adapters or drivers differ in their last bits, and must not be mixed unmarked
 */
export function claimProvenance(folder: string, backend: Backend, modelFolder: string): Provenance {
  const path = join(folder, "provenance.json");
  const modelSha256 = sha256File(join(modelFolder, "model.safetensors"));
  if (existsSync(path)) {
    const before = readJson(path, provenanceSchema);
    if (before.adapter !== backend.description)
      throw new RunFolderError(
        `${folder}: begun on "${before.adapter}", this is "${backend.description}". Their results differ in the last bits. ` +
          `Go on on the same adapter (--adapter), or start in another folder: --out ${folder}-2`,
      );
    if (before.modelSha256 !== modelSha256)
      throw new RunFolderError(
        `${folder}: begun from another model than ${modelFolder} (SHA-256 ${before.modelSha256.slice(0, 12)}…, now ` +
          `${modelSha256.slice(0, 12)}…). Start in another folder: --out ${folder}-2`,
      );
    return before;
  }
  const provenance: Provenance = {
    schemaVersion: 1,
    foothold: projectVersion(),
    node: process.version,
    gitRevision: gitRevision(),
    adapter: backend.description,
    backend: backend.kind,
    modelSha256,
    startedAt: new Date().toISOString(),
  };
  writeAtomic(path, `${JSON.stringify(provenance, null, 1)}\n`);
  return provenance;
}

function projectVersion(): string {
  const file: unknown = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  return z.object({ version: z.string() }).parse(file).version;
}

function gitRevision(): string | null {
  try {
    const cwd = new URL(".", import.meta.url);
    return execFileSync("git", ["rev-parse", "HEAD"], {
      cwd,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return null; // not a git checkout
  }
}
