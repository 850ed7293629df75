// Environments from a user's module: `--environment.module my-task.ts`. The module is imported before settings are
// read, and calls `registerEnvironment`. It may be in any folder: its imports of `foothold/rl` and the like resolve to
// this program.
import { existsSync } from "node:fs";
import * as nodeModule from "node:module";
import { extname, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { asError, FileError, type Source, UserError } from "../../engine/host/index.ts";
import type { EnvironmentFile } from "./environment.ts";
import { environmentFile } from "./environment-file.ts";

const floors = ["engine", "engine/host", "model", "rl"];

/** Node has `registerHooks` from 22.15 on, `register` from 20.6 on. */
const hooks: Partial<Pick<typeof nodeModule, "registerHooks" | "register">> = nodeModule;

let isHooked = false;
let loaded: EnvironmentFile | null = null;

/** The names that a user's module can import: foothold/rl, foothold/engine/host … */
function resolveFloors(): void {
  if (isHooked) return;
  isHooked = true;
  const ending = extname(fileURLToPath(import.meta.url)); // .ts in a clone, .js in the package
  const urls = Object.fromEntries(
    floors.map((floor) => [`foothold/${floor}`, new URL(`../../${floor}/index${ending}`, import.meta.url).href]),
  );
  if (hooks.registerHooks !== undefined)
    hooks.registerHooks({
      resolve: (specifier, context, next) =>
        Object.hasOwn(urls, specifier) ? { url: urls[specifier], shortCircuit: true } : next(specifier, context),
    });
  else hooks.register?.(`data:text/javascript,${encodeURIComponent(hookText(urls))}`);
}

/** The same hook as a module of its own: Node before 22.15 runs hooks in a thread of theirs. */
function hookText(urls: Readonly<Record<string, string>>): string {
  return `const urls = ${JSON.stringify(urls)};
export const resolve = (specifier, context, next) =>
  Object.hasOwn(urls, specifier) ? { url: urls[specifier], shortCircuit: true } : next(specifier, context);`;
}

/**
 * Imports a module that registers environments; at most one per process.
 * @param path    relative to the folder that the command is run in (`readTomlFile` makes it so)
 * @param sha256  the digest that the settings give, empty for none
 * @throws FileError when the module is missing, has a different digest or cannot be loaded, or another one was loaded
 *   before
 */
export async function loadEnvironmentModule(path: string, sha256: string): Promise<void> {
  if (!existsSync(path))
    throw new FileError(
      `environment.module: expected a TypeScript or JavaScript file that registers an environment, there is no ${path}. A ` +
        "relative path begins at the folder of the settings file that has it; as a flag, at the folder that the command is run in.",
    );
  const file = environmentFile("environment.module", path, sha256);
  if (loaded !== null) {
    if (loaded.sha256 === file.sha256) return;
    throw new FileError(
      `environment.module: ${path} is another file than ${loaded.path}, and a process can load only one.`,
    );
  }
  resolveFloors();
  try {
    await import(pathToFileURL(resolve(path)).href);
  } catch (thrown) {
    if (thrown instanceof UserError) throw thrown;
    throw new FileError(
      `environment.module: ${path} cannot be loaded: ${asError(thrown).message}${placeOf(thrown, path)}`,
      { cause: thrown },
    );
  }
  loaded = file;
}

/** The line of an error in a module that is being loaded, for messages. */
function placeOf(thrown: unknown, path: string): string {
  if (!(thrown instanceof Error)) return "";
  const { stack = "", name } = thrown;
  // Node begins the stack with the place of an error in TypeScript; of one in JavaScript it has none.
  const [, file, line] =
    /^(\S.*):(\d+)\n/.exec(stack) ?? /^ {4}at (?:.*\()?(file:\S+?):(\d+):\d+\)?$/m.exec(stack) ?? [];
  if (file !== undefined && file !== import.meta.url)
    return ` (${file.startsWith("file:") ? fileURLToPath(file) : file}, line ${line})`;
  return name === "SyntaxError" ? `. node --check ${path} shows the line` : "";
}

/** Loads the module that the settings sources name; the last source wins. */
export async function loadModuleOf(sources: readonly Source[]): Promise<void> {
  const last = (key: string): string => {
    const value = sources.flatMap(({ given }) => given).findLast((one) => one.key === key)?.value;
    return typeof value === "string" ? value : "";
  };
  const path = last("environment.module");
  if (path !== "") await loadEnvironmentModule(path, last("environment.moduleSha256"));
}

/** The module in use, or null. */
export function loadedModule(): EnvironmentFile | null {
  return loaded;
}
