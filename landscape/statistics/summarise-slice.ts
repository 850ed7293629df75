// From the files of a slice to its points.csv and summary.json. Needs no GPU.
import { FileError, writeAtomic } from "../../engine/host/index.ts";
import { ShapeError } from "../../engine/index.ts";
import { areUsual } from "../direction-settings.ts";
import type { SliceFiles } from "../files/cells.ts";
import { referencePath, type SlicePlace, slicePaths } from "../files/layout.ts";
import { readSliceFacts } from "../files/slice-facts.ts";
import type { StudySettings } from "../settings.ts";
import type { SliceEvidence } from "./claims/evidence.ts";
import { type Point, pointOf, writePoints } from "./points.ts";
import { type MeasuredSlice, measureSlice, type SummaryOptions } from "./summary.ts";

/** A slice with its statistics and the rows of its points.csv. */
export interface SummarisedSlice extends MeasuredSlice {
  /** What claims over several slices need. */
  readonly evidence: SliceEvidence;
  readonly points: readonly Point[];
}

/**
 * The statistics of a slice.
 * @param folder  the run folder
 * @throws FileError when cells, reference and settings do not match
 */
export function summariseFiles(folder: string, files: SliceFiles, settings: StudySettings): SummarisedSlice {
  const { step, slice, cells, reference } = files;
  const { points, radius, seed, simulations } = settings.landscape;
  try {
    return {
      step,
      slice,
      points: cells.map((cell) => pointOf(cell, reference)),
      ...measureSlice(cells, reference, {
        ...{ grid: { points, radius }, seed: seed * 1000 + slice, simulations },
        squaredDistance: squaredDistanceOf(folder, { step, slice }, settings),
      }),
    };
  } catch (thrown) {
    if (!(thrown instanceof ShapeError)) throw thrown;
    throw new FileError(
      `${slicePaths(files.folder).cells}: does not match ${referencePath(folder, step)} and the settings in config.toml: ` +
        `${thrown.message} One of the three was changed. Restore it from a copy.`,
      { cause: thrown },
    );
  }
}

/**
 * ‖Δθ‖² of a cell from the lengths and the angle of its directions, but for a constant: aaδδ + 2ab·δη + bbηη, from the
 * checkpoint on. Undefined for the usual directions, which have one norm and nearly a right angle.
 */
function squaredDistanceOf(
  folder: string,
  place: SlicePlace,
  { landscape: { directions, centre, radius } }: StudySettings,
): SummaryOptions["squaredDistance"] {
  if (areUsual(directions, centre)) return undefined;
  const { delta, eta, cosine } = readSliceFacts(folder, place, () => {}) ?? {};
  if (delta === undefined || eta === undefined || cosine === undefined) return undefined;
  return ({ alpha, beta }) => {
    const a = (alpha + centre.alpha * radius) * delta.length;
    const b = (beta + centre.beta * radius) * eta.length;
    return a * a + 2 * a * b * cosine + b * b;
  };
}

/** As `summariseFiles`, and writes points.csv and summary.json. */
export function summariseSlice(folder: string, files: SliceFiles, settings: StudySettings): SummarisedSlice {
  const summarised = summariseFiles(folder, files, settings);
  const paths = slicePaths(files.folder);
  writeAtomic(paths.points, writePoints(summarised.points));
  writeAtomic(paths.summary, `${JSON.stringify(summarised.summary, null, 1)}\n`);
  return summarised;
}
