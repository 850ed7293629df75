// Where each file that a study adds to a run folder is (docs/formats.md says what it holds). All code that reads or
// writes such a file gets its path here. rl/files/layout.ts has the files of the training run.
import { join } from "node:path";
import { stepName } from "../../rl/index.ts";

/** One slice around one checkpoint. */
export interface SlicePlace {
  step: number;
  slice: number;
}

export const figuresFolder = (folder: string): string => join(folder, "figures");
/** Maps in the formats of other programs. */
export const exportFolder = (folder: string): string => join(folder, "export");
export const reportPath = (folder: string): string => join(folder, "report.html");

/** What may be concluded from all slices together. */
export const claimsPath = (folder: string): string => join(folder, "landscape", "claims.json");

/** The checkpoint's own completions. */
export function referencePath(folder: string, step: number): string {
  return join(folder, "landscape", stepName(step), "reference.json");
}

export function sliceFolder(folder: string, { step, slice }: SlicePlace): string {
  return join(folder, "landscape", stepName(step), `slice-${slice}`);
}

/** Rays around a checkpoint: points at fixed radii. The files of such a folder have the names of a slice's. */
export const raysFolder = (folder: string, step: number): string => join(folder, "landscape", stepName(step), "rays");

/** Points of the same rays at fixed KL. */
export const fixedKlFolder = (folder: string, step: number): string =>
  join(folder, "landscape", stepName(step), "fixed-kl");

/** The improving neighbours on those rays, and the checkpoint, on fresh prompts. */
export const freshFolder = (folder: string, step: number): string => join(folder, "landscape", stepName(step), "fresh");

/** Which fresh prompts the points that were set aside have. @param earlier  the folder `earlier` of `freshFolder` */
export const freshPromptsPath = (earlier: string): string => join(earlier, "prompts.json");

/** The worst-case ray of a kind: points at the radii of the rays. */
export const worstFolder = (folder: string, step: number, kind: string): string =>
  join(folder, "landscape", stepName(step), `worst-${kind}`);

/** @param folder  of `worstFolder` */
export const worstPath = (folder: string): string => join(folder, "worst.json");

/** A line from a checkpoint to the one that many steps later. */
export const lineFolder = (folder: string, step: number, stepsAhead: number): string =>
  join(folder, "landscape", stepName(step), lineName(stepsAhead));
export const lineName = (stepsAhead: number): string =>
  `line-${stepsAhead < 0 ? "minus" : "plus"}-${Math.abs(stepsAhead)}`;

/** The checkpoint's own rollouts with other noise seeds. */
export const noiseFloorFolder = (folder: string, step: number): string =>
  join(folder, "landscape", stepName(step), "noise-floor");

export interface NoisePaths {
  readonly draws: string;
  /** Draws of fewer rollouts; deleted once they are made again with more. */
  readonly earlier: string;
  readonly underWay: string;
}

/** @param folder  of `noiseFloorFolder` */
export const noisePaths = (folder: string): NoisePaths => ({
  draws: join(folder, "draws.jsonl"),
  earlier: join(folder, "earlier.jsonl"),
  underWay: join(folder, "under-way.jsonl"),
});

/** The noise floors of all checkpoints, and the maps against them. */
export const noiseSummaryPath = (folder: string): string => join(folder, "landscape", "noise-floor.json");

/** A checkpoint's completions scored under the others. */
export const pairsFolder = (folder: string, from: number): string => join(folder, "landscape", stepName(from), "pairs");
/** Scores of fewer completions; deleted once they are made again with more. */
export const earlierPairsFolder = (folder: string, from: number): string => join(pairsFolder(folder, from), "earlier");
export const pairPath = (folder: string, from: number, to: number, own = pairsFolder(folder, from)): string =>
  join(own, `${stepName(to)}.json`);

/** KL and R between all pairs of checkpoints. */
export const pairsSummaryPath = (folder: string): string => join(folder, "landscape", "pairs.json");

/** What rays and lines of all checkpoints say together. */
export const raysSummaryPath = (folder: string): string => join(folder, "landscape", "rays.json");

/** The files of rays and lines besides those of a slice. @param folder  of `raysFolder` or `fixedKlFolder` */
export const rayPaths = (folder: string): { readonly rays: string; readonly scales: string } => ({
  rays: join(folder, "rays.json"),
  scales: join(folder, "scales.jsonl"),
});

/** KL of a slice's cells from another checkpoint. @param folder  the slice's, of `sliceFolder` */
export const klFromPath = (folder: string, from: number): string => join(folder, `kl-from-${stepName(from)}.jsonl`);

/** KL of a smaller map or of fewer completions, while its journal is made anew. */
export const earlierKlFromPath = (folder: string, from: number): string => `${klFromPath(folder, from)}.earlier`;

/** All checkpoints in the plane of their first two principal components. */
export const trajectoryPath = (folder: string): string => join(folder, "landscape", "trajectory.json");

/** The updates between checkpoints, and their shares in singular subspaces. */
export const updatesPath = (folder: string): string => join(folder, "landscape", "updates.json");

/** What KL from other checkpoints says of all maps together. */
export const klFromSummaryPath = (folder: string): string => join(folder, "landscape", "kl-from.json");

/** The files of one slice. */
export interface SlicePaths {
  /** The directions of the slice. */
  readonly directions: string;
  readonly cells: string;
  readonly conversations: string;
  /** Finished rollouts of unfinished grid points; deleted once those points are finished. */
  readonly underWay: string;
  /** What was measured before the map grew (files/growth.ts); deleted once the slice is complete. */
  readonly earlier: string;
  readonly points: string;
  readonly summary: string;
  /** The prompts' maps, and what the statistics were made from. */
  readonly promptMaps: string;
}

/** @param folder  the slice's, of `sliceFolder` */
export function slicePaths(folder: string): SlicePaths {
  return {
    directions: join(folder, "slice.json"),
    cells: join(folder, "cells.jsonl"),
    conversations: join(folder, "rollouts.jsonl.gz"),
    underWay: join(folder, "under-way.jsonl"),
    earlier: join(folder, "earlier"),
    points: join(folder, "points.csv"),
    summary: join(folder, "summary.json"),
    promptMaps: join(folder, "prompt-maps.json"),
  };
}
