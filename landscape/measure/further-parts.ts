// What is measured around a checkpoint besides its maps: the noise floor, rays, points at fixed KL, lines. Each is a part of its own folder.
import { existsSync } from "node:fs";
import {
  earlierPairsFolder,
  fixedKlFolder,
  freshFolder,
  lineFolder,
  raysFolder,
  worstFolder,
} from "../files/layout.ts";
import { countNoiseDraws } from "../files/noise-files.ts";
import { missingPairs, pairsFrom } from "../files/pair-files.ts";
import { countPoints, readRayLengths, readScales, readWorstFacts } from "../files/ray-files.ts";
import { isInOrder, linePoints, rayPoints, wantedScales, worstPoints } from "../files/ray-points.ts";
import { linesFrom, ownCheckpoints, type WorstKind, worstRaysOf } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import { freshPoints, measureFresh } from "./fresh-prompts.ts";
import { measureNoiseFloor } from "./noise-floor.ts";
import { measurePairs } from "./pairs.ts";
import type { PartJob } from "./part-job.ts";
import { measureFixedKl, measureLine, measureRays } from "./rays.ts";
import { measureWorst } from "./worst-rays.ts";

/** A part of the work around one checkpoint. */
export interface FurtherPart {
  readonly step: number;
  /** How many points it has in all, and how many are measured. */
  readonly points: number;
  readonly done: number;
  readonly isWhole: boolean;
  measure(job: PartJob): Promise<number>;
}

/**
 * The parts with points left to measure. A shard measures its share of the rays, lines and pairs, and nothing that rests on all rays
 * or is one piece: that is measured when the merged folder is continued (`leftToMerged`).
 */
export function furtherParts(folder: string, settings: StudySettings): FurtherPart[] {
  const { landscape, shard } = settings;
  const { steps, rays } = landscape;
  const isShard = shard !== "";
  const parts = steps.flatMap((step): FurtherPart[] => {
    const part = (own: string, points: number, measure: FurtherPart["measure"]): FurtherPart => {
      const { count, isSettled } = countPoints(own);
      return { step, points, done: Math.min(points, count), isWhole: isSettled && count >= points, measure };
    };
    // Workers of a queue hand in points and lengths of rays apart.
    const raysPart = (all: FurtherPart): FurtherPart => ({
      ...all,
      isWhole: all.isWhole && readRayLengths(raysFolder(folder, step))?.length === rays.count,
    });
    return [
      ...(landscape.noiseFloor > 0 && !isShard ? [noisePart(folder, step, landscape)] : []),
      ...(rays.count > 0
        ? [raysPart(part(raysFolder(folder, step), rayPoints(landscape, shard).length, measureRays))]
        : []),
      ...(rays.count > 0 && rays.kl.length > 0 ? [fixedKlPart(folder, step, settings)] : []),
      ...(rays.count > 0 && rays.freshPrompts > 0 && !isShard ? [freshPart(folder, step, landscape)] : []),
      ...(isShard ? [] : worstRaysOf(rays)).map((kind) => worstPart(folder, step, kind, landscape)),
      ...(landscape.pairs ? [pairsPart(folder, step, settings)] : []),
      ...linesFrom(step, landscape.line, ownCheckpoints(settings)).map((ahead) =>
        part(lineFolder(folder, step, ahead), linePoints(landscape, shard).length, (job) => measureLine(job, ahead)),
      ),
    ];
  });
  return parts.filter(({ isWhole }) => !isWhole);
}

/** What a shard leaves to the merged folder, in words; null if there is nothing. */
export function leftToMerged({ landscape, shard }: StudySettings): string | null {
  const { rays, noiseFloor, updates } = landscape;
  const left = [
    ...(noiseFloor > 0 ? ["the noise floor"] : []),
    ...(rays.count > 0 && rays.freshPrompts > 0 ? ["rays on fresh prompts, which are chosen among all rays"] : []),
    ...(worstRaysOf(rays).length > 0 ? ["worst-case rays"] : []),
    ...(updates.rank > 0 ? ["updates between checkpoints"] : []),
  ];
  return shard === "" || left.length === 0 ? null : left.join(", ");
}

function noisePart(folder: string, step: number, { noiseFloor }: StudySettings["landscape"]): FurtherPart {
  const { count, isSettled } = countNoiseDraws(folder, step);
  const isWhole = isSettled && count >= noiseFloor;
  return { step, points: noiseFloor, done: Math.min(noiseFloor, count), isWhole, measure: measureNoiseFloor };
}

/** Its points are known once the rays are measured. */
function freshPart(folder: string, step: number, landscape: StudySettings["landscape"]): FurtherPart {
  const rays = countPoints(raysFolder(folder, step));
  const own = countPoints(freshFolder(folder, step));
  const hasRays = rays.isSettled && rays.count >= rayPoints(landscape).length;
  const points = hasRays ? (freshPoints(folder, step, landscape)?.length ?? 0) : own.count;
  const isWhole = hasRays && own.isSettled && own.count >= points;
  return { step, points, done: Math.min(points, own.count), isWhole, measure: measureFresh };
}

/** A ray without a direction is a gap that is known: nothing is left to measure. */
function worstPart(folder: string, step: number, kind: WorstKind, landscape: StudySettings["landscape"]): FurtherPart {
  const own = worstFolder(folder, step, kind);
  const { length: points } = worstPoints(landscape);
  const { count, isSettled } = countPoints(own);
  const isGap = readWorstFacts(own)?.problem != null;
  const isWhole = isGap || (isSettled && count >= points);
  return { step, points, done: Math.min(points, count), isWhole, measure: (job) => measureWorst(job, kind) };
}

function pairsPart(folder: string, step: number, { landscape: { steps }, shard }: StudySettings): FurtherPart {
  const points = pairsFrom(step, steps, shard).length;
  const left = missingPairs(folder, step, steps, shard).length;
  const isWhole = left === 0 && !existsSync(earlierPairsFolder(folder, step));
  return { step, points, done: points - left, isWhole, measure: measurePairs };
}

/** Counts halves of rays with a target; it is complete once every scale found has its point. */
function fixedKlPart(folder: string, step: number, { landscape, shard }: StudySettings): FurtherPart {
  const own = fixedKlFolder(folder, step);
  const wanted = wantedScales(landscape, shard);
  const { length: points } = wanted;
  const scales = readScales(own, () => {});
  const { count, isSettled } = countPoints(own);
  const isWhole =
    isInOrder(scales, wanted) && isSettled && count >= scales.filter(({ scale }) => scale !== null).length;
  return { step, points, done: count, isWhole, measure: measureFixedKl };
}
