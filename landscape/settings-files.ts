// Which settings files a study is made of. A preset is named by its name (tiny), your own study by its file. A file may
// build on another by `extends`, and several may be named; later ones win.
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { readTomlFile, SettingsError, type Source } from "../engine/host/index.ts";
import { studySettings } from "./settings.ts";

const presets = fileURLToPath(new URL("./presets", import.meta.url));

export const presetNames = readdirSync(presets)
  .filter((file) => file.endsWith(".toml"))
  .map((file) => basename(file, ".toml"))
  .sort();

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

/**
 * The files of these studies in reading order: each after those that it extends.
 * @throws SettingsError when one is neither a file nor a preset, or extends itself
 */
export function studyFiles(studies: readonly string[]): string[] {
  return studies.flatMap((study) => withBases(settingsFile(study, ".", study), []));
}

function withBases(file: string, above: readonly string[]): string[] {
  const path = resolve(file);
  if (above.includes(path))
    throw new SettingsError(
      `${file}: extends itself: ${[...above, path].map((one) => basename(one)).join(" extends ")}.`,
    );
  const line = readTomlFile(studySettings, file).given.find(({ key }) => key === "extends");
  // A value that is no text is refused when all settings are checked.
  if (line === undefined || typeof line.value !== "string" || line.value === "") return [file];
  const base = settingsFile(line.value, dirname(file), `extends = "${line.value}" (${line.where})`);
  return [...withBases(base, [...above, path]), file];
}

/** The path of a settings file (relative to `folder`) or of a preset. `what` begins the error message. */
function settingsFile(name: string, folder: string, what: string): string {
  const near = folder === "." ? name : resolve(folder, name);
  if (isFile(near)) return near;
  const preset = join(presets, `${name}.toml`);
  if (existsSync(preset)) return preset;
  throw new SettingsError(
    `${what}: expected a settings file or a preset, found neither. Presets: ${presetNames.join(", ")}.`,
  );
}

/**
 * The notes that apply to a study. A file's notes are about the model that it studies, so a later model.path drops
 * them.
 */
export function notesThatHold(sources: readonly Source[], notes: readonly string[]): readonly string[] {
  const last = (key: string): number => sources.findLastIndex(({ given }) => given.some((one) => one.key === key));
  return last("model.path") > last("notes") ? [] : notes;
}
