// The settings of a run, from its config.toml.
import { existsSync } from "node:fs";
import {
  FileError,
  RunFolderError,
  readText,
  readToml,
  readTomlFile,
  resolveSettings,
  type Settings,
  type SettingsTree,
  type Source,
  type Values,
} from "../../engine/host/index.ts";
import { loadModuleOf } from "../environments/user-module.ts";
import { configPath } from "./layout.ts";

/** What can be set about a run, and the sections that its config.toml has if it is complete and has these keys. */
export interface RunDeclaration<D extends SettingsTree> {
  readonly settings: Settings<D>;
  sections(keys: ReadonlySet<string>): readonly string[];
  /** A section that the folder lacks as long as only rl/train.ts has worked in it, and the values that then hold. */
  readonly later?: { readonly section: string; readonly absent: Source };
}

/** Whether a folder's config.toml has settings in a section. @throws as `readSettings` */
export function hasSection(folder: string, settings: Settings, section: string): boolean {
  return readTomlFile(settings, configPath(folder)).given.some(({ key }) => isOf(key, section));
}

const isOf = (key: string, section: string): boolean => key === section || key.startsWith(`${section}.`);

/**
 * The settings that a run folder was made with. If they name an environment's module, it is loaded, because the
 * settings include the module's own.
 * @throws FileError when the folder is no run folder, or config.toml was cut short; RunFolderError when it is a sweep's, and
 *   the settings are those of a training
 * @throws SettingsError when it has settings that are unknown or out of bounds
 */
export async function readSettings<D extends SettingsTree>(
  folder: string,
  declaration: RunDeclaration<D>,
): Promise<Values<D>> {
  const { settings, later } = declaration;
  const path = configPath(folder);
  if (!existsSync(folder)) throw new FileError(`${folder}: expected a run folder, there is no such folder.`);
  if (!existsSync(path)) throw new FileError(`${folder}: expected a run folder, it has no config.toml.`);
  if (!settings.byKey.has(givenCheckpoints)) expectNoSweep(folder, settings);
  expectWholeSettings(path, declaration);
  await loadModuleOf([readTomlFile(settings, path)]);
  const isBegun = later === undefined || hasSection(folder, settings, later.section);
  return resolveSettings(settings, [readTomlFile(settings, path), ...(isBegun ? [] : [later.absent])]);
}

/** The key that only the config.toml of a sweep around checkpoints of another training has. */
const givenCheckpoints = "checkpoints";

/**
 * Refuses the folder of a sweep, which has maps only.
 * @throws RunFolderError
 */
export function expectNoSweep(folder: string, settings: Settings): void {
  if (readTomlFile(settings, configPath(folder)).given.some(({ key }) => key === givenCheckpoints))
    throw new RunFolderError(
      `${folder}: expected the folder of a training, this one is of landscape/sweep.ts: it has maps around checkpoints of another ` +
        "training, and neither rollouts of steps nor checkpoints. One of these is evaluated with rl/evaluate.ts --model.path CHECKPOINT.",
    );
}

/**
 * Refuses a config.toml that was cut short: every missing setting would silently get its default.
 * @throws FileError
 */
function expectWholeSettings<D extends SettingsTree>(
  path: string,
  { settings, sections, later }: RunDeclaration<D>,
): void {
  const text = readText(path);
  const source = readToml(settings, text, path);
  const lacks = (section: string): boolean => !source.given.some(({ key }) => isOf(key, section));
  // [batch] is the last section, so a file that has it was not cut before the later section.
  const missing = sections(new Set(source.given.map(({ key }) => key))).filter(
    (section) => lacks(section) && (section !== later?.section || lacks("batch")),
  );
  if (missing.length > 0 || !text.endsWith("\n"))
    throw new FileError(
      `${path}: cut short: ${missing.length > 0 ? `it has no settings in [${missing.join("], [")}]` : "its last line has no end"}. ` +
        "Restore it from a copy.",
    );
}
