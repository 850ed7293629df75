// Location of files that can always be made again: unpacked drivers, tuning results.
//
// The order is FOOTHOLD_CACHE, XDG_CACHE_HOME/foothold, ~/.cache/foothold. If that folder cannot be written (a
// read-only home, a container without one), a folder of this user under the system's temporary folder is used. Results
// never depend on a cache, they only arrive sooner with one; so nothing here fails because there is no home folder.
import { accessSync, constants, existsSync, mkdirSync, statSync } from "node:fs";
import { homedir, tmpdir, userInfo } from "node:os";
import { join, resolve } from "node:path";
import { asError, FileError } from "./errors.ts";

/**
 * A folder of the cache, made if it is missing.
 * @param parts  names below the cache's root, such as "swiftshader"
 * @throws FileError if FOOTHOLD_CACHE names a folder that cannot be written (a folder that the user chose is never
 *         replaced silently), or if not even the temporary folder can be written
 */
export function cacheFolder(...parts: string[]): string {
  const chosen = process.env["FOOTHOLD_CACHE"];
  if (chosen) {
    const folder = join(resolve(chosen), ...parts);
    const trouble = makeWritable(folder);
    if (trouble === null) return folder;
    throw new FileError(
      `FOOTHOLD_CACHE: expected a folder that can be written, got ${chosen} (${trouble}). Choose another or unset it.`,
    );
  }
  const home = homeCache(parts);
  const homeTrouble = makeWritable(home);
  if (homeTrouble === null) return home;

  const temporaryRoot = temporaryCache();
  const temporary = join(temporaryRoot, ...parts);
  const temporaryTrouble = makeWritable(temporaryRoot) ?? belongsToAnother(temporaryRoot) ?? makeWritable(temporary);
  if (temporaryTrouble === null) return temporary;
  throw new FileError(
    `cache: expected a folder that can be written, tried ${home} (${homeTrouble}) and ${temporary} ` +
      `(${temporaryTrouble}). Set FOOTHOLD_CACHE to one that can.`,
  );
}

/**
 * Where a file of the cache may already be, in the order of `cacheFolder`. It need not be possible to write there: a cache that was
 * filled once, such as in a container's image, serves read-only too.
 */
export function cachePaths(...parts: string[]): string[] {
  const chosen = process.env["FOOTHOLD_CACHE"];
  if (chosen) return [join(resolve(chosen), ...parts)];
  const temporary = temporaryCache();
  const isOurs = existsSync(temporary) && belongsToAnother(temporary) === null;
  return [homeCache(parts), ...(isOurs ? [join(temporary, ...parts)] : [])];
}

function homeCache(parts: readonly string[]): string {
  // The XDG specification says that relative paths are ignored.
  const xdg = process.env["XDG_CACHE_HOME"];
  return join(xdg?.startsWith("/") ? xdg : join(homedir(), ".cache"), "foothold", ...parts);
}

const temporaryCache = (): string => join(tmpdir(), `foothold-cache-${userName()}`);

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? "user"); // a container's user id without an entry in /etc/passwd
  }
}

/** Makes the folder. Returns null if this process may write there, else the reason why not. */
function makeWritable(folder: string): string | null {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    accessSync(folder, constants.W_OK | constants.X_OK);
    return null;
  } catch (thrown) {
    return asError(thrown).message;
  }
}

/**
 * Drivers are loaded from the cache. So in a temporary folder that all users share, a folder that another user made is
 * refused.
 */
function belongsToAnother(folder: string): string | null {
  const user = process.getuid?.();
  return user === undefined || statSync(folder).uid === user ? null : "it belongs to another user";
}
