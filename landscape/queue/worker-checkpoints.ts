// Where a worker finds the checkpoints of a study: in the folder that it was given (--run), on the hub, or at the path that the
// study names. A path from a message is only read below folders that the worker's user allows (--shared), and every file's
// digest is compared before anything in it is used.
import { existsSync, realpathSync } from "node:fs";
import { join, resolve, sep } from "node:path";
import { CheckpointError, sha256File } from "../../engine/host/index.ts";
import { type LocateOptions, locateModel, modelFiles } from "../../model/index.ts";
import { checkpointFolder, configPath, stateFolder } from "../../rl/index.ts";
import { readGiven } from "../files/given-checkpoints.ts";
import type { Announcement, CheckpointMessage } from "./messages.ts";

export interface CheckpointPlaces {
  /** A run folder, or the folder of a single model; empty for none. */
  run: string;
  /** Folders below which paths of messages may be read. */
  shared: readonly string[];
}

/**
 * The folder of a checkpoint.
 * @throws CheckpointError when it cannot be found, may not be read, or is another one
 */
export async function findCheckpoint(
  checkpoint: CheckpointMessage,
  places: CheckpointPlaces,
  options: LocateOptions,
): Promise<string> {
  const { step, hub, path } = checkpoint;
  const folder =
    places.run !== ""
      ? await inRun(places.run, step, options)
      : hub === null
        ? allowed(path, places)
        : await fromHub(hub, options);
  if (!existsSync(folder))
    throw new CheckpointError(
      `The study's checkpoint of step ${step}: there is no folder ${folder} on this machine. Give the worker the run folder: --run FOLDER`,
    );
  const names = await modelFiles(folder);
  const all = [...new Set([...names, ...Object.keys(checkpoint.sha256)])];
  const changed = all.filter(
    (name) => !names.includes(name) || sha256File(join(folder, name)) !== checkpoint.sha256[name],
  );
  if (changed.length > 0)
    throw new CheckpointError(
      `${folder}: another checkpoint than the study's of step ${step}: ${changed.join(", ")} ${changed.length > 1 ? "differ" : "differs"} ` +
        "(SHA-256). Copy the study's, or give the worker its folder: --run FOLDER",
    );
  return folder;
}

/** The folder of the optimiser's states, for directions that are made from them. */
export function findState({ state }: Announcement, places: CheckpointPlaces): string {
  return places.run !== "" ? stateFolder(places.run) : isAllowed(state, places) ? state : join(resolve("."), "state");
}

async function inRun(run: string, step: number, options: LocateOptions): Promise<string> {
  if (!existsSync(configPath(run))) return run;
  const given = readGiven(run, step);
  if (given === null) return checkpointFolder(run, step);
  return given.commit === null ? given.path : fromHub({ name: given.path, commit: given.commit }, options);
}

async function fromHub({ name, commit }: { name: string; commit: string }, options: LocateOptions): Promise<string> {
  return (await locateModel(`${name}@${commit}`, options)).folder;
}

function allowed(path: string, places: CheckpointPlaces): string {
  if (isAllowed(path, places)) return path;
  throw new CheckpointError(
    `The study's checkpoint is at ${JSON.stringify(path)}, which is not below ${places.shared.join(" or ")}. If this worker may read it, ` +
      "allow a folder above it: --shared FOLDER. Or give it a copy: --run FOLDER",
  );
}

/** Links are followed first. */
function isAllowed(path: string, { shared }: CheckpointPlaces): boolean {
  const real = existsSync(path) ? realpathSync(path) : resolve(path);
  return shared.some((folder) => {
    const root = existsSync(folder) ? realpathSync(folder) : resolve(folder);
    return real === root || real.startsWith(root.endsWith(sep) ? root : `${root}${sep}`);
  });
}
