// A worst-case ray beside the band of random rays, at equal radius and at equal KL. At equal radius it shows how much worse than
// random directions a direction can be; at equal KL, whether that is more than its larger KL.
import type { RayFiles } from "../../files/ray-files.ts";
import { rayPlaceOf } from "../../files/ray-files.ts";
import type { WorstKind } from "../../ray-settings.ts";
import type { Estimate } from "../intervals.ts";
import { promptInterval } from "../leave-one-out.ts";
import { NONE } from "../prompt-maps.ts";
import { mean, quantile } from "../statistics.ts";
import { type Beside, besideOf, besideValues, rewardOf } from "./line-statistics.ts";
import { type FieldPoint, fieldPoint, klAt, type RayField, raysOf, rewardAt } from "./ray-field.ts";

/** KL of the random rays at a radius: their mean, and the 10% and 90% quantiles over rays. */
export interface KlBand {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

export interface WorstPoint {
  /** With its sign: below 0 on the opposite half. */
  readonly radius: number;
  readonly reward: Estimate;
  /** Nats per token. */
  readonly kl: number;
  /** Random rays at this radius; null with fewer than two. */
  readonly atRadius: { readonly kl: KlBand; readonly reward: Beside } | null;
  /** Random rays where their KL is that of this point; null where fewer than two reach it. */
  readonly atKl: Beside | null;
}

export interface WorstStatistics {
  readonly kind: WorstKind;
  /** dᵀHd along the power method, of the ray itself last; empty for "reward". */
  readonly curvatures: readonly number[];
  /** Without the checkpoint, by radius, the opposite half first. */
  readonly points: readonly WorstPoint[];
}

/** Of each ray that has this position on all of its halves, the mean over its halves. */
function raysAt(rays: RayField, index: number, of: (point: FieldPoint) => number): number[] {
  return raysOf(rays).flatMap((ray) => {
    const points = rays.halves.filter((half) => half.ray === ray).map((half) => half.points[index]);
    const known = points.flatMap((point) => point ?? []);
    return known.length < points.length ? [] : [mean(known.map(of))];
  });
}

export function worstStatistics(
  kind: WorstKind,
  curvatures: readonly number[],
  { cells, reference }: RayFiles,
  rays: RayField,
): WorstStatistics {
  const tokens = Float64Array.from(reference.tokens, (of) => of.reduce((sum, one) => sum + one, 0));
  const points = cells.flatMap((cell): WorstPoint[] => {
    const place = rayPlaceOf(cell);
    if (place === null) return [];
    const here = fieldPoint(cell, reference);
    const reward = rewardOf(here);
    const kl = klAt(here, tokens, NONE);
    const kls = raysAt(rays, place.index, (point) => klAt(point, rays.tokens, NONE));
    const beside = besideValues((prompt) => raysAt(rays, place.index, (point) => rewardAt(point, prompt)), reward);
    return [
      {
        ...{ radius: cell.alpha, reward: promptInterval(reward), kl },
        atRadius: beside && {
          kl: { mean: mean(kls), low: quantile(kls, 0.1), high: quantile(kls, 0.9) },
          reward: beside,
        },
        atKl: besideOf(rays, kl, reward),
      },
    ];
  });
  return { kind, curvatures, points: points.sort((one, other) => one.radius - other.radius) };
}
