// The settings of a run, from its config.toml.
import { existsSync } from "node:fs";
import { FileError, readText, readToml, readTomlFile, resolveSettings } from "../../engine/host/index.ts";
import { loadModuleOf } from "../../rl/index.ts";
import { type StudySettings, studySettings } from "../settings.ts";
import { configPath } from "./layout.ts";

/** Sections that every complete config.toml has. */
const sections = ["environment", "train", "evaluate", "landscape"];
/** Maps around given checkpoints have no evaluation. */
const isNeeded = (section: string, keys: readonly string[]): boolean =>
  section !== "evaluate" || !keys.includes("checkpoints");

/**
 * The settings that a run folder was made with. If they name an environment's module, it is loaded, because the
 * settings include the module's own.
 * @throws FileError when the folder is no run folder, or config.toml was cut short
 * @throws SettingsError when it has settings that are unknown or out of bounds
 */
export async function readRunSettings(folder: string): Promise<StudySettings> {
  const path = configPath(folder);
  if (!existsSync(path)) throw new FileError(`${folder}: expected a run folder, it has no config.toml.`);
  expectWholeSettings(path);
  await loadModuleOf([readTomlFile(studySettings, path)]);
  return resolveSettings(studySettings, [readTomlFile(studySettings, path)]);
}

/**
 * Refuses a config.toml that was cut short: every missing setting would silently get its default.
 * @throws FileError
 */
function expectWholeSettings(path: string): void {
  const text = readText(path);
  const source = readToml(studySettings, text, path);
  const keys = source.given.map(({ key }) => key);
  const missing = sections.filter(
    (section) => isNeeded(section, keys) && !source.given.some(({ key }) => key.startsWith(`${section}.`)),
  );
  if (missing.length > 0 || !text.endsWith("\n"))
    throw new FileError(
      `${path}: cut short: ${missing.length > 0 ? `it has no settings in [${missing.join("], [")}]` : "its last line has no end"}. ` +
        "Restore it from a copy.",
    );
}
