// The points of a part of a checkpoint's measurements, ready to be measured in any order.
import type { PointPart } from "../files/point-parts.ts";
import type { WorstFacts } from "../files/ray-files.ts";
import type { SliceFacts } from "../files/slice-facts.ts";
import type { PointPlace } from "../grid.ts";
import { openFresh } from "./fresh-prompts.ts";
import type { PointSet } from "./measure-points.ts";
import { openLine, pointsAlong, Rays } from "./rays.ts";
import type { Reference } from "./reference.ts";
import { pointsOfSlice } from "./sweep.ts";
import type { SweepContext } from "./sweep-context.ts";
import { openWorst, pointsOfWorst } from "./worst-rays.ts";

export interface OpenPart {
  /** Points on fresh prompts have other settings and completions than the checkpoint's other parts. */
  readonly context: SweepContext;
  readonly reference: Reference;
  readonly set: PointSet<PointPlace>;
  /** Of a slice's directions; null for the others. */
  readonly facts: SliceFacts | null;
  /** Of a worst-case ray, which has no points if it has no direction; null for the others. */
  readonly worst: WorstFacts | null;
  /** To be called before points are measured. */
  prepare(points: readonly PointPlace[]): Promise<void>;
}

/** @param known  facts of an earlier time, as `pointsOfSlice` takes them */
export async function openPart(
  context: SweepContext,
  { name, slice, stepsAhead, worst, points }: PointPart,
  reference: Reference,
  known: SliceFacts | null,
): Promise<OpenPart> {
  const plain = { context, reference, facts: null, worst: null, prepare: async (): Promise<void> => {} };
  if (slice !== null) return { ...plain, ...(await pointsOfSlice(context, slice, reference, points, known)) };
  if (stepsAhead !== null) return { ...plain, set: await openLine(context, reference, stepsAhead, points) };
  if (worst !== null) {
    const { facts, found } = await openWorst(context, reference, worst);
    const set = found === null ? { points: [], stepsTo: () => () => [], free: () => {} } : pointsOfWorst(points, found);
    return { ...plain, worst: facts, set };
  }
  const own = name === "fresh" ? await openFresh(context) : { context, reference };
  const rays = new Rays(context);
  return {
    ...plain,
    ...own,
    set: pointsAlong(points, (ray, scale) => rays.stepsTo(ray, scale)),
    prepare: (asked) => rays.prepare(new Set(asked.flatMap(({ i }) => (i < 0 ? [] : [i])))),
  };
}
