// From the files of a slice to its points.csv and summary.json. Needs no GPU. Of each cell only its sums are kept.

import { FileError, type OnDamage, writeAtomic } from "../../engine/host/index.ts";
import { ShapeError } from "../../engine/index.ts";
import { floorShareOf } from "../../rl/index.ts";
import { areUsual } from "../direction-settings.ts";
import { type CellPlace, readSliceOf } from "../files/cells.ts";
import { referencePath, type SlicePlace, sliceFolder, slicePaths } from "../files/layout.ts";
import { readSliceFacts } from "../files/slice-facts.ts";
import type { StudySettings } from "../settings.ts";
import { type CellSums, cellSums } from "./cell-sums.ts";
import { keepStatistics, keptStatistics, type MeasuredAlong, type StatisticsSource } from "./kept-statistics.ts";
import { sum, writePoints } from "./points.ts";
import { type SummarisedSlice, type SummaryOptions, summariseSums } from "./summary.ts";

/**
 * The statistics of a slice, from the files that an earlier report made or else from its cells, one after the other.
 * Changes no file.
 * @param folder  the run folder
 * @returns null if the slice has no measurements
 * @throws FileError when a file is so damaged that its content cannot be trusted, or when cells, reference and settings
 * do not match
 */
export function readSummarisedSlice(
  folder: string,
  place: SlicePlace,
  settings: Pick<StudySettings, "landscape">,
  onDamage: OnDamage,
): SummarisedSlice | null {
  const source = sourceOf(folder, place, settings);
  return keptStatistics(source) ?? summarisedCells(source, onDamage);
}

/** As `readSummarisedSlice`, and makes points.csv, summary.json and prompt-maps.json if they are not up to date. */
export function summariseSlice(
  folder: string,
  place: SlicePlace,
  settings: Pick<StudySettings, "landscape">,
  onDamage: OnDamage,
): SummarisedSlice | null {
  const source = sourceOf(folder, place, settings);
  const kept = keptStatistics(source);
  if (kept !== null) return kept;
  const summarised = summarisedCells(source, onDamage);
  if (summarised === null) return null;
  const paths = slicePaths(summarised.folder);
  const points = writePoints(summarised.points);
  const summary = `${JSON.stringify(summarised.summary, null, 1)}\n`;
  writeAtomic(paths.points, points);
  writeAtomic(paths.summary, summary);
  keepStatistics(source, summarised, { points, summary });
  return summarised;
}

function sourceOf(folder: string, place: SlicePlace, settings: Pick<StudySettings, "landscape">): StatisticsSource {
  const { points, radius, seed, simulations } = settings.landscape;
  return {
    ...{ folder, place, grid: { points, radius }, seed: seed * 1000 + place.slice, simulations },
    along: measuredAlong(folder, place, settings),
  };
}

/** Null for the usual directions, which have one norm and nearly a right angle, and if slice.json does not say. */
function measuredAlong(
  folder: string,
  place: SlicePlace,
  { landscape: { directions, centre } }: Pick<StudySettings, "landscape">,
): MeasuredAlong | null {
  if (areUsual(directions, centre)) return null;
  const { delta, eta, cosine } = readSliceFacts(folder, place, () => {}) ?? {};
  if (delta === undefined || eta === undefined || cosine === undefined) return null;
  return {
    ...{ delta: delta.length, eta: eta.length, cosine },
    centre: { alpha: centre.alpha, beta: centre.beta },
  };
}

/**
 * ‖Δθ‖² of a cell from the lengths and the angle of its directions, but for a constant: aaδδ + 2ab·δη + bbηη, from the
 * checkpoint on. Undefined if they are not known.
 */
function squaredDistanceOf({ along, grid: { radius } }: StatisticsSource): SummaryOptions["squaredDistance"] {
  if (along === null) return undefined;
  const { delta, eta, cosine, centre } = along;
  return ({ alpha, beta }) => {
    const a = (alpha + centre.alpha * radius) * delta;
    const b = (beta + centre.beta * radius) * eta;
    return a * a + 2 * a * b * cosine + b * b;
  };
}

function summarisedCells(source: StatisticsSource, onDamage: OnDamage): SummarisedSlice | null {
  const { folder, place } = source;
  return matching(folder, place, () => {
    const files = readSliceSums(folder, place, onDamage);
    if (files === null) return null;
    const { grid, seed, simulations } = source;
    const { summary, maps, evidence } = summariseSums(files.cells, files.reference, {
      ...{ grid, seed, simulations },
      squaredDistance: squaredDistanceOf(source),
    });
    const { folder: own, cells } = files;
    return {
      ...place,
      folder: own,
      points: cells.map(({ point }) => point),
      summary,
      maps,
      evidence,
      cells: cells.map(({ point: { i, j }, conversationBytes, rollouts: { failed, zeros, count } }) => ({
        ...{ i, j, conversationBytes, failed },
        floorShare: floorShareOf(sum(zeros), sum(count)).share,
      })),
    };
  });
}

const readSliceSums = (folder: string, place: SlicePlace, onDamage: OnDamage) =>
  readSliceOf(folder, place, onDamage, (cell, reference): CellSums & Pick<CellPlace, "conversationBytes"> => ({
    ...cellSums(cell, reference),
    conversationBytes: cell.conversationBytes,
  }));

/** Says which files do not match if the shapes do not. */
export function matching<T>(folder: string, place: SlicePlace, read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    if (!(thrown instanceof ShapeError)) throw thrown;
    throw new FileError(
      `${slicePaths(sliceFolder(folder, place)).cells}: does not match ${referencePath(folder, place.step)} and the settings in ` +
        `config.toml: ${thrown.message} One of the three was changed. Restore it from a copy.`,
      { cause: thrown },
    );
  }
}
