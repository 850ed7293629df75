// From the files of a slice to its points.csv and summary.json. Needs no GPU. Of each cell only its sums are kept.
import { FileError, type OnDamage, writeAtomic } from "../../engine/host/index.ts";
import { ShapeError } from "../../engine/index.ts";
import { type CellPlace, readSliceOf } from "../files/cells.ts";
import { referencePath, type SlicePlace, sliceFolder, slicePaths } from "../files/layout.ts";
import type { StudySettings } from "../settings.ts";
import { keepStatistics, keptStatistics, type StatisticsSource } from "./kept-statistics.ts";
import { type CellSums, cellSums, writePoints } from "./points.ts";
import { type SummarisedSlice, summariseSums } from "./summary.ts";

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

function sourceOf(
  folder: string,
  place: SlicePlace,
  { landscape: { points, radius, seed, simulations } }: Pick<StudySettings, "landscape">,
): StatisticsSource {
  return { folder, place, grid: { points, radius }, seed: seed * 1000 + place.slice, simulations };
}

function summarisedCells(source: StatisticsSource, onDamage: OnDamage): SummarisedSlice | null {
  const { folder, place } = source;
  return matching(folder, place, () => {
    const files = readSliceSums(folder, place, onDamage);
    if (files === null) return null;
    const { summary, maps } = summariseSums(files.cells, files.reference, source);
    const { folder: own, cells } = files;
    return {
      ...place,
      folder: own,
      points: cells.map(({ point }) => point),
      summary,
      maps,
      cells: cells.map(({ point: { i, j }, conversationBytes, rollouts: { failed } }) => ({
        i,
        j,
        conversationBytes,
        failed,
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
