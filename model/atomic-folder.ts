// Writes a folder atomically: it is filled under a hidden name in the same parent folder, then renamed. After a kill
// the old folder still exists, perhaps with hidden remains of the new one beside it; the next write of that name, or
// `settleFolders`, removes them. Two processes must not write the same name at the same time, which the lock of a run
// folder prevents.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { ensureFolder, explained, killPoint, syncFolder } from "../engine/host/index.ts";

/**
 * Calls `fill` on an empty folder beside `path`, then renames it to `path`. `fill` must flush its files to the disk
 * itself. An existing folder of that name is replaced by two renames; between them it is kept whole as
 * `.NAME.replaced`.
 * @throws FileError when the folder cannot be made or renamed. The existing folder stays then, and also when `fill`
 *   throws
 */
export async function writeFolderAtomically(path: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const parent = dirname(resolve(path));
  const partial = join(parent, `.${basename(path)}.partial`);
  const replaced = join(parent, `.${basename(path)}.replaced`);
  const remove = (folder: string) => rmSync(folder, { recursive: true, force: true });
  ensureFolder(parent);
  remove(partial);
  explained(path, () => mkdirSync(partial));
  try {
    await fill(partial);
    syncFolder(partial);
    killPoint("write-folder");
    explained(path, () => exchange(path, partial, replaced, remove));
  } catch (error) {
    remove(partial);
    throw error;
  }
  syncFolder(parent);
  remove(replaced);
}

function exchange(path: string, partial: string, replaced: string, remove: (folder: string) => void): void {
  const wasThere = existsSync(path);
  if (wasThere) {
    remove(replaced);
    renameSync(path, replaced);
    killPoint("replace-folder");
  }
  try {
    renameSync(partial, path);
  } catch (error) {
    if (wasThere) renameSync(replaced, path);
    throw error;
  }
}

/**
 * Repairs the folders in `parent` after a kill: removes half-written new folders and restores an old one without a
 * successor.
 */
export function settleFolders(parent: string): void {
  if (!existsSync(parent)) return;
  explained(parent, () => {
    for (const name of readdirSync(parent)) {
      const [, of, left] = /^\.(.+)\.(partial|replaced)$/.exec(name) ?? [];
      if (left === undefined) continue;
      if (left === "replaced" && !existsSync(join(parent, of))) renameSync(join(parent, name), join(parent, of));
      else rmSync(join(parent, name), { recursive: true, force: true });
    }
  });
}
