// Which settings files a run is made of. A preset is named by its name (tiny), your own run by its file. A file may
// build on another by `extends`, and several may be named; later ones win.
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { readTomlFile, type Settings, SettingsError, type Source } from "../engine/host/index.ts";

const presets = fileURLToPath(new URL("./presets", import.meta.url));

export const presetNames = readdirSync(presets)
  .filter((file) => file.endsWith(".toml"))
  .map((file) => basename(file, ".toml"))
  .sort();

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** The preset of a command that names neither a file nor `--extends`. */
const usual = "tiny";

/**
 * The files that a command's positionals and its flag `--extends` name, in reading order; `tiny` if they name none.
 * @throws SettingsError as `filesOf`
 */
export function filesOfCommand(settings: Settings, named: readonly string[], flags: Source): string[] {
  const base = flags.given.findLast(({ key }) => key === "extends")?.value;
  const files = named.length > 0 || typeof base === "string" ? named : [usual];
  return filesOf(settings, typeof base === "string" && base !== "" ? [base, ...files] : files);
}

/** The run folder that a command means: `out`, or else runs/NAME after the last file. */
export function folderOfCommand(named: readonly string[], values: { readonly out: string; readonly extends: string }) {
  const last = named.at(-1) ?? (values.extends || usual);
  return values.out === "" ? join("runs", basename(last, ".toml")) : values.out;
}

/**
 * The files of these runs in reading order: each after those that it extends.
 * @throws SettingsError when one is neither a file nor a preset, or extends itself
 */
export function filesOf(settings: Settings, named: readonly string[]): string[] {
  return named.flatMap((name) => withBases(settings, settingsFile(name, ".", name), []));
}

function withBases(settings: Settings, file: string, above: readonly string[]): string[] {
  const path = resolve(file);
  if (above.includes(path))
    throw new SettingsError(
      `${file}: extends itself: ${[...above, path].map((one) => basename(one)).join(" extends ")}.`,
    );
  const line = readTomlFile(settings, file).given.find(({ key }) => key === "extends");
  // A value that is no text is refused when all settings are checked.
  if (line === undefined || typeof line.value !== "string" || line.value === "") return [file];
  const base = settingsFile(line.value, dirname(file), `extends = "${line.value}" (${line.where})`);
  return [...withBases(settings, base, [...above, path]), file];
}

/** The path of a settings file (relative to `folder`) or of a preset. `what` begins the error message. */
function settingsFile(name: string, folder: string, what: string): string {
  const near = folder === "." ? name : resolve(folder, name);
  if (isFile(near)) return near;
  const preset = join(presets, `${name}.toml`);
  if (existsSync(preset)) return preset;
  throw new SettingsError(
    `${what}: expected a settings file or a preset, ${isFolder(near) ? "this is a folder" : "found neither"}. Presets: ` +
      `${presetNames.join(", ")}.${isFolder(near) ? " A pattern of checkpoints is put into quotes, so that the shell leaves it alone: --checkpoints 'out/checkpoint-*'." : ""}`,
  );
}

/**
 * The notes that apply to a run. A file's notes are about the model that it trains, so a later model.path drops
 * them.
 */
export function notesThatHold(sources: readonly Source[], notes: readonly string[]): readonly string[] {
  const last = (key: string): number => sources.findLastIndex(({ given }) => given.some((one) => one.key === key));
  return last("model.path") > last("notes") ? [] : notes;
}
