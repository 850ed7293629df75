// The checkpoints of a run in the plane of their first two principal components, and landscape/trajectory.json. All weights of
// all checkpoints are read once, piece by piece, so it is made when the figure is asked for, and kept.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { z } from "zod";
import { ensureFolder, type Progress, readJson, UserError, writeAtomic } from "../../engine/host/index.ts";
import { type Checkpoint, openCheckpoint } from "../../model/index.ts";
import { checkpointFolder, expectSound, keptSums } from "../../rl/index.ts";
import { expectSameGiven, locateGiven, readGiven } from "../files/given-checkpoints.ts";
import { trajectoryPath } from "../files/layout.ts";
import type { StudySettings } from "../settings.ts";
import { principalComponents } from "./principal-components.ts";

/** Increases when a field changes its meaning or is removed. */
export const TRAJECTORY_SCHEMA_VERSION = 1;

const trajectoryFile = z.object({
  schemaVersion: z.literal(TRAJECTORY_SCHEMA_VERSION),
  /** Shares of the variance of all components, largest first. */
  shares: z.array(z.number()),
  checkpoints: z.array(
    z.object({
      step: z.int(),
      /** SHA-256 over the digests of its files. */
      digest: z.string(),
      /** Along the first two components, from the mean of all checkpoints on; in units of the weights. */
      coordinates: z.tuple([z.number(), z.number()]),
    }),
  ),
});
/** A run's checkpoints in the plane of their first two principal components. */
export type Trajectory = z.infer<typeof trajectoryFile>;

/** The digests of the checkpoints that a run folder has now, by step, ascending. */
function digestsOf(folder: string, { checkpoints, train, landscape }: StudySettings): Map<number, string> {
  const isGiven = checkpoints.length > 0;
  const steps = (isGiven ? landscape.steps : train.checkpoints).toSorted((a, b) => a - b);
  return new Map(
    steps.flatMap((step): [number, string][] => {
      const given = isGiven ? readGiven(folder, step) : null;
      const content = given === null ? keptSums(folder, step) : JSON.stringify(given.sha256);
      return content === null ? [] : [[step, createHash("sha256").update(content).digest("hex")]];
    }),
  );
}

/** Null if it was not computed, or not for the checkpoints that the folder has now. @throws FileError when it cannot be read */
export function readTrajectory(folder: string, settings: StudySettings): Trajectory | null {
  const path = trajectoryPath(folder);
  if (!existsSync(path)) return null;
  const found = readJson(path, trajectoryFile);
  const now = digestsOf(folder, settings);
  const isSame =
    now.size === found.checkpoints.length && found.checkpoints.every(({ step, digest }) => now.get(step) === digest);
  return isSame ? found : null;
}

/**
 * Computes landscape/trajectory.json if it is missing or of other checkpoints.
 * @throws UserError when the run has fewer than three checkpoints; CheckpointError or RunFolderError for one that is missing
 * or was changed
 */
export async function computeTrajectory(
  folder: string,
  settings: StudySettings,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  if (readTrajectory(folder, settings) !== null) return;
  const digests = digestsOf(folder, settings);
  if (digests.size < 3)
    throw new UserError(
      `--figure trajectory: the plane of a trajectory needs at least 3 checkpoints, ${folder} has ${digests.size}. Train with more ` +
        "train.checkpoints.",
    );
  const phase = progress.phase("trajectory", digests.size, "checkpoints");
  const opened: Checkpoint[] = [];
  try {
    for (const step of digests.keys()) {
      signal.throwIfAborted();
      opened.push(await openCheckpoint(await placeOf(folder, step, progress, signal)));
      phase.advance(1);
    }
    const { shares, coordinates } = await principalComponents(opened, [...opened[0].shapes.keys()], signal);
    const [first, second] = coordinates;
    const checkpoints = [...digests].map(([step, digest], t): Trajectory["checkpoints"][number] => ({
      ...{ step, digest },
      coordinates: [first[t], second[t]],
    }));
    const path = trajectoryPath(folder);
    ensureFolder(dirname(path));
    const content: Trajectory = { schemaVersion: TRAJECTORY_SCHEMA_VERSION, shares: [...shares], checkpoints };
    writeAtomic(path, `${JSON.stringify(content, null, 1)}\n`);
  } finally {
    for (const one of opened) await one.close();
    phase.done();
  }
}

/** The folder of a checkpoint, once it is verified. */
async function placeOf(folder: string, step: number, progress: Progress, signal: AbortSignal): Promise<string> {
  const given = readGiven(folder, step);
  if (given === null) {
    expectSound(folder, step);
    return checkpointFolder(folder, step);
  }
  const path = given.commit === null ? given.path : `${given.path}@${given.commit}`;
  const found = await locateGiven({ step, path }, { progress, signal });
  expectSameGiven(folder, { ...found.given, path: given.path });
  return found.located.folder;
}
