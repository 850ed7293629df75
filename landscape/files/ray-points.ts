// Which points rays and lines have, in the order of measurement. A shard has whole rays, because the searches for several KLs on one
// half of a ray have a pass in common.
import type { PointPlace } from "../grid.ts";
import { radiiOf, signsOf } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import { parseShard } from "../shard.ts";
import { CHECKPOINT, indicesOf, type ScaleRecord } from "./ray-files.ts";

type Landscape = Pick<StudySettings["landscape"], "rays">;

/** The rays of a shard: those whose number is its own modulo the number of shards, so that more rays only add some. All for the empty text. */
function raysOf({ rays }: Landscape, shard: string): number[] {
  const all = Array.from({ length: rays.count }, (_, ray) => ray);
  const part = parseShard(shard);
  return part === null ? all : all.filter((ray) => ray % part.count === part.index);
}

/**
 * The checkpoint, then ray by ray from the inside outwards. So more rays only add points at the end. The first shard has the
 * checkpoint.
 */
export function rayPoints(landscape: Landscape, shard = ""): PointPlace[] {
  const { rays } = landscape;
  const radii = radiiOf(rays);
  return [
    ...((parseShard(shard)?.index ?? 0) === 0 ? [CHECKPOINT] : []),
    ...raysOf(landscape, shard).flatMap((ray) =>
      radii.flatMap((radius, index) =>
        signsOf(rays).map((sign) => ({ ...indicesOf({ ray, index, sign }), alpha: sign * radius, beta: 0 })),
      ),
    ),
  ];
}

/** The points of a worst-case ray: the checkpoint, then from the inside outwards. */
export function worstPoints({ rays }: Landscape): PointPlace[] {
  return [
    CHECKPOINT,
    ...radiiOf(rays).flatMap((radius, index) =>
      signsOf(rays).map((sign) => ({ ...indicesOf({ ray: 0, index, sign }), alpha: sign * radius, beta: 0 })),
    ),
  ];
}

/** The halves of rays with a target KL, in the order in which their scales are searched. */
export function wantedScales(landscape: Landscape, shard = ""): WantedScale[] {
  const { rays } = landscape;
  return raysOf(landscape, shard).flatMap((ray) =>
    signsOf(rays).flatMap((sign) => rays.kl.map((target) => ({ ray, sign, target }))),
  );
}

type WantedScale = Pick<ScaleRecord, "ray" | "sign" | "target">;

export const scaleKey = ({ ray, sign, target }: WantedScale): string => `${ray},${sign},${target}`;

/** Whether scales are those wanted, in this order. A growing run appends new ones first, and then sorts them. */
export const isInOrder = (found: readonly WantedScale[], wanted: readonly WantedScale[]): boolean =>
  found.length === wanted.length && found.every((one, k) => scaleKey(one) === scaleKey(wanted[k]));

/** The checkpoint, then the positions. A shard has some that follow one another. */
export function linePoints({ line }: Pick<StudySettings["landscape"], "line">, shard = ""): PointPlace[] {
  const all = [CHECKPOINT, ...line.positions.map((alpha, j) => ({ i: 0, j, alpha, beta: 0 }))];
  const part = parseShard(shard);
  return part === null ? all : all.filter((_, k) => Math.floor((k * part.count) / all.length) === part.index);
}

/** The points at the scales that were found, in their order. */
export function fixedKlPoints({ rays }: Landscape, scales: readonly ScaleRecord[]): PointPlace[] {
  return scales.flatMap(({ ray, sign, target, scale }): PointPlace[] =>
    scale === null
      ? []
      : [{ ...indicesOf({ ray, index: rays.kl.indexOf(target), sign }), alpha: sign * scale, beta: 0 }],
  );
}
