// Which points a worker measures for a stripe: those of the study's settings, but for the scales of points at fixed KL, which come
// with the message.
import { UserError } from "../../engine/host/index.ts";
import { fixedKlPart, freshPart, type PointPart, pointParts } from "../files/point-parts.ts";
import { indicesOf } from "../files/ray-files.ts";
import { rayPoints, wantedScales } from "../files/ray-points.ts";
import type { PointPlace } from "../grid.ts";
import type { StudySettings } from "../settings.ts";
import type { Stripe } from "./messages.ts";

/** A part of points, with all that can be asked for; undefined if the study has none of this name. */
export function askedPart(settings: StudySettings, step: number, name: string): PointPart | undefined {
  const { rays } = settings.landscape;
  if (name === "fresh" && rays.freshPrompts > 0) return freshPart(rayPoints(settings.landscape));
  if (name !== "fixed-kl") return pointParts(settings, step).find((one) => one.name === name);
  // KL grows about with the square of the scale. This guess is used to choose drafts, and for nothing else.
  return fixedKlPart(
    wantedScales(settings.landscape).map(({ ray, sign, target }) => ({
      ...indicesOf({ ray, index: rays.kl.indexOf(target), sign }),
      ...{ alpha: sign * Math.sqrt(target), beta: 0 },
    })),
  );
}

/**
 * The places of a stripe.
 * @param all  those of its part
 * @throws UserError when one of them is not in the part, or has a scale that it cannot have
 */
export function placesOf({ part, cells }: Stripe, all: readonly PointPlace[]): PointPlace[] {
  return cells.map(({ i, j, scale }) => {
    const found = all.find((one) => one.i === i && one.j === j);
    if (found === undefined) throw new UserError(`queue: cell (${i}, ${j}) is not in the study's ${part}.`);
    const { alpha, beta } = found;
    if (part !== "fixed-kl" && scale === null) return { i, j, alpha, beta };
    if (part !== "fixed-kl" || scale === null || scale * alpha <= 0)
      throw new UserError(`queue: cell (${i}, ${j}) of the study's ${part} cannot have the scale ${scale}.`);
    return { i, j, alpha: scale, beta };
  });
}
