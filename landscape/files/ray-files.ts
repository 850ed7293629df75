// What is read from the folders of rays and lines. Their points are records of cells.jsonl (cells.ts):
//   rays      i the ray, from 0; j = 2 · (index of the radius) + (1 on the opposite half); alpha the radius with its sign
//   fixed KL  the same with the index of the KL; alpha the scale that reaches it
//   a line    i = 0; j the index of the position; alpha the position
// The checkpoint itself is the point (−1, 0). beta is 0.
import { existsSync } from "node:fs";
import { z } from "zod";
import {
  countRecords,
  ensureFolder,
  type OnDamage,
  readJournal,
  readJson,
  writeAtomic,
} from "../../engine/host/index.ts";
import { worstKinds } from "../ray-settings.ts";
import { type CellRecord, journalledCell, type ReferenceSet, readMeasured } from "./cells.ts";
import { freshPromptsPath, rayPaths, referencePath, slicePaths, worstPath } from "./layout.ts";

/** Where the checkpoint itself is among the points. */
export const CHECKPOINT = { i: -1, j: 0, alpha: 0, beta: 0 } as const;

/** A point's place on its ray. */
export interface RayPlace {
  readonly ray: number;
  /** Index of the radius, or of the KL. */
  readonly index: number;
  readonly sign: 1 | -1;
}

export const indicesOf = ({ ray, index, sign }: RayPlace): { i: number; j: number } => ({
  i: ray,
  j: 2 * index + (sign < 0 ? 1 : 0),
});

/** Null for the checkpoint. */
export const rayPlaceOf = ({ i, j }: { readonly i: number; readonly j: number }): RayPlace | null =>
  i < 0 ? null : { ray: i, index: j >> 1, sign: j % 2 === 1 ? -1 : 1 };

export const scaleRecord = z.object({
  ray: z.int(),
  sign: z.union([z.literal(1), z.literal(-1)]),
  /** KL asked for, nats per token. */
  target: z.number(),
  /** The scale that reaches it; null if none was found. */
  scale: z.number().nullable(),
  /** KL there; of the nearest scale tried, if none was found. */
  kl: z.number().nullable(),
  /** Scales tried for this target, with their KL (null if it was not a finite number). */
  passes: z.array(z.tuple([z.number(), z.number().nullable()])),
});
/** How a ray was scaled to a KL. */
export type ScaleRecord = z.infer<typeof scaleRecord>;

export const worstFacts = z.object({
  schemaVersion: z.literal(1),
  kind: z.enum(worstKinds),
  norm: z.string(),
  /** ‖δ‖ over the moved parameters; null without a direction. */
  length: z.number().nullable(),
  /** dᵀHd along the power method, of the ray itself last, nats per token and squared radius; empty for "reward". */
  curvatures: z.array(z.number()),
  /** Why there is no such direction; null if there is one. */
  problem: z.string().nullable(),
});
/** How a worst-case ray was made. */
export type WorstFacts = z.infer<typeof worstFacts>;

/** Null if the ray was not begun. */
export function readWorstFacts(own: string): WorstFacts | null {
  const path = worstPath(own);
  return existsSync(path) ? readJson(path, worstFacts) : null;
}

/** @param own  the folder of the ray */
export function writeWorstFacts(own: string, facts: WorstFacts): void {
  ensureFolder(own);
  writeAtomic(worstPath(own), `${JSON.stringify(facts)}\n`);
}

const rayFacts = z.object({
  schemaVersion: z.literal(1),
  seed: z.int(),
  norm: z.string(),
  /** ‖δ‖ of each ray over the moved parameters. */
  lengths: z.array(z.number()),
});

/** The lengths of the rays; null if they are not known. @param own  the folder of the rays */
export function readRayLengths(own: string): readonly number[] | null {
  const path = rayPaths(own).rays;
  return existsSync(path) ? readJson(path, rayFacts).lengths : null;
}

/** Writes the lengths of all rays. As `readRayLengths`. */
export function writeRayLengths(own: string, seed: number, norm: string, lengths: readonly number[]): void {
  ensureFolder(own);
  writeAtomic(rayPaths(own).rays, `${JSON.stringify({ schemaVersion: 1, seed, norm, lengths })}\n`);
}

export interface RayFiles {
  readonly cells: readonly CellRecord[];
  readonly reference: ReferenceSet;
}

/** The points of a folder of rays or of a line, with the checkpoint's completions; null if there are none. */
export function readRayPoints(folder: string, own: string, step: number, onDamage: OnDamage): RayFiles | null {
  return readMeasured(slicePaths(own).cells, referencePath(folder, step), onDamage, (cell): CellRecord => cell);
}

/** The points that were evaluated again on fresh prompts. Their KL is that of a few completions, and is not used. */
export function readFreshPoints(own: string, onDamage: OnDamage): CellRecord[] {
  const path = slicePaths(own).cells;
  return existsSync(path) ? readJournal(path, journalledCell, onDamage).records : [];
}

const freshPrompts = z.object({
  /** So many prompts of the maps are left out of the fresh ones. */
  seen: z.int(),
  prompts: z.int(),
});
/** Which fresh prompts the points that were set aside have: what the maps have is left out of them. */
export type FreshPrompts = z.infer<typeof freshPrompts>;

/** @param earlier  the folder `earlier` of the fresh points */
export const writeFreshPrompts = (earlier: string, prompts: FreshPrompts): void =>
  writeAtomic(freshPromptsPath(earlier), `${JSON.stringify(prompts)}\n`);

/** Null if nothing was set aside. */
export const readFreshPrompts = (earlier: string): FreshPrompts | null =>
  existsSync(freshPromptsPath(earlier)) ? readJson(freshPromptsPath(earlier), freshPrompts) : null;

export function readScales(own: string, onDamage: OnDamage): ScaleRecord[] {
  const path = rayPaths(own).scales;
  return existsSync(path) ? readJournal(path, scaleRecord, onDamage).records : [];
}

/**
 * Points measured in a folder, judged by checksums alone, and whether neither finished rollouts wait for the rest of their points
 * nor measurements that were set aside.
 */
export function countPoints(own: string): { count: number; isSettled: boolean } {
  const { cells, underWay, earlier } = slicePaths(own);
  return {
    count: existsSync(cells) ? countRecords(cells) : 0,
    isSettled: !existsSync(underWay) && !existsSync(earlier),
  };
}
