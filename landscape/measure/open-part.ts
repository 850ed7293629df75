// The points of a part of a checkpoint's measurements, ready to be measured in any order.
import type { PointPart } from "../files/point-parts.ts";
import type { SliceFacts } from "../files/slice-facts.ts";
import type { PointPlace } from "../grid.ts";
import type { PointSet } from "./measure-points.ts";
import { openLine, pointsAlong, Rays } from "./rays.ts";
import type { Reference } from "./reference.ts";
import { pointsOfSlice } from "./sweep.ts";
import type { SweepContext } from "./sweep-context.ts";

export interface OpenPart {
  readonly set: PointSet<PointPlace>;
  /** Of a slice's directions; null for rays and lines. */
  readonly facts: SliceFacts | null;
  /** To be called before points are measured. */
  prepare(points: readonly PointPlace[]): Promise<void>;
}

/** @param known  facts of an earlier time, as `pointsOfSlice` takes them */
export async function openPart(
  context: SweepContext,
  { slice, stepsAhead, points }: PointPart,
  reference: Reference,
  known: SliceFacts | null,
): Promise<OpenPart> {
  const prepare = async (): Promise<void> => {};
  if (slice !== null) return { ...(await pointsOfSlice(context, slice, reference, points, known)), prepare };
  if (stepsAhead !== null) return { set: await openLine(context, reference, stepsAhead, points), facts: null, prepare };
  const rays = new Rays(context);
  return {
    set: pointsAlong(points, (ray, scale) => rays.stepsTo(ray, scale)),
    facts: null,
    prepare: (asked) => rays.prepare(new Set(asked.flatMap(({ i }) => (i < 0 ? [] : [i])))),
  };
}
