// Which points rays have, in the order of measurement. A shard has whole rays: the searches for a KL on one half of a ray rest on
// one another.
import type { PointPlace } from "../grid.ts";
import { radiiOf, signsOf } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import { parseShard } from "../shard.ts";
import { CHECKPOINT, indicesOf, type ScaleRecord } from "./ray-files.ts";

type Landscape = Pick<StudySettings["landscape"], "rays">;

/** The rays of a shard, following one another; all rays for the empty text. Parts differ by one ray at most. */
function raysOf({ rays }: Landscape, shard: string): number[] {
  const all = Array.from({ length: rays.count }, (_, ray) => ray);
  const part = parseShard(shard);
  return part === null ? all : all.filter((ray) => Math.floor((ray * part.count) / rays.count) === part.index);
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

/** The halves of rays with a target KL, in the order in which their scales are searched. */
export function wantedScales(landscape: Landscape, shard = ""): Pick<ScaleRecord, "ray" | "sign" | "target">[] {
  const { rays } = landscape;
  return raysOf(landscape, shard).flatMap((ray) =>
    signsOf(rays).flatMap((sign) => rays.kl.map((target) => ({ ray, sign, target }))),
  );
}

/** The points at the scales that were found, in their order. */
export function fixedKlPoints({ rays }: Landscape, scales: readonly ScaleRecord[]): PointPlace[] {
  return scales.flatMap(({ ray, sign, target, scale }): PointPlace[] =>
    scale === null
      ? []
      : [{ ...indicesOf({ ray, index: rays.kl.indexOf(target), sign }), alpha: sign * scale, beta: 0 }],
  );
}
