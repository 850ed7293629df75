// The settings of a run, from its config.toml.
import { existsSync } from "node:fs";
import {
  FileError,
  readText,
  readToml,
  readTomlFile,
  resolveSettings,
  type Settings,
  type SettingsTree,
  type Values,
} from "../../engine/host/index.ts";
import { loadModuleOf } from "../environments/user-module.ts";
import { configPath } from "./layout.ts";

/** What can be set about a run, and the sections that its config.toml has if it is complete. */
export interface RunDeclaration<D extends SettingsTree> {
  readonly settings: Settings<D>;
  readonly sections: readonly string[];
}

/**
 * The settings that a run folder was made with. If they name an environment's module, it is loaded, because the
 * settings include the module's own.
 * @throws FileError when the folder is no run folder, or config.toml was cut short
 * @throws SettingsError when it has settings that are unknown or out of bounds
 */
export async function readSettings<D extends SettingsTree>(
  folder: string,
  { settings, sections }: RunDeclaration<D>,
): Promise<Values<D>> {
  const path = configPath(folder);
  if (!existsSync(path)) throw new FileError(`${folder}: expected a run folder, it has no config.toml.`);
  expectWholeSettings(path, settings, sections);
  await loadModuleOf([readTomlFile(settings, path)]);
  return resolveSettings(settings, [readTomlFile(settings, path)]);
}

/**
 * Refuses a config.toml that was cut short: every missing setting would silently get its default.
 * @throws FileError
 */
function expectWholeSettings(path: string, settings: Settings, sections: readonly string[]): void {
  const text = readText(path);
  const source = readToml(settings, text, path);
  const missing = sections.filter((section) => !source.given.some(({ key }) => key.startsWith(`${section}.`)));
  if (missing.length > 0 || !text.endsWith("\n"))
    throw new FileError(
      `${path}: cut short: ${missing.length > 0 ? `it has no settings in [${missing.join("], [")}]` : "its last line has no end"}. ` +
        "Restore it from a copy.",
    );
}
