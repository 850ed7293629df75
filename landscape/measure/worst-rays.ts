// Points on a worst-case ray, at the radii of the random rays.
import { NumericalError } from "../../engine/index.ts";
import { settleOrder } from "../files/arrived-cells.ts";
import { worstFolder } from "../files/layout.ts";
import { type WorstFacts, writeWorstFacts } from "../files/ray-files.ts";
import { worstPoints } from "../files/ray-points.ts";
import { rayCoordinatesOf } from "../files/set-aside.ts";
import type { PointPlace } from "../grid.ts";
import type { WorstKind } from "../ray-settings.ts";
import { freeDirection, stepOf, sumOf } from "./directions/direction.ts";
import { type WorstDirection, worstDirection } from "./directions/worst-case.ts";
import { measurePoints, type PointSet } from "./measure-points.ts";
import type { PartJob } from "./part-job.ts";
import type { Reference } from "./reference.ts";
import type { SweepContext } from "./sweep-context.ts";

/** The direction of a worst-case ray; null without one, which is a gap. */
export interface OpenedWorst {
  readonly facts: WorstFacts;
  readonly found: WorstDirection | null;
}

/** Makes the direction of a kind. The caller frees it. */
export async function openWorst(context: SweepContext, reference: Reference, kind: WorstKind): Promise<OpenedWorst> {
  const { model, settings, place, signal, say } = context;
  const { norm } = settings.landscape.rays;
  const head = { schemaVersion: 1, kind, norm } as const;
  try {
    const found = await worstDirection(kind, {
      ...{ arena: model.weights, config: model.config, settings, place, reference, signal, say },
    });
    const { squares, curvatures } = found;
    const length = Math.sqrt(sumOf(squares.values()));
    return { facts: { ...head, length, curvatures: [...curvatures], problem: null }, found };
  } catch (thrown) {
    // Without rewards that differ there is no gradient of J: a gap, and no reason to stop the other measurements.
    if (!(thrown instanceof NumericalError)) throw thrown;
    return { facts: { ...head, length: null, curvatures: [], problem: thrown.message }, found: null };
  }
}

export const gapText = (step: number, { kind, problem }: WorstFacts): string =>
  `Step ${step}, worst-case ray (${kind}): ${problem} It stays a gap.`;

export const pointsOfWorst = (points: readonly PointPlace[], { direction }: WorstDirection): PointSet<PointPlace> => ({
  points,
  stepsTo:
    ({ alpha }) =>
    (name) =>
      stepOf(direction.get(name), alpha),
  free: () => freeDirection(direction),
});

/** Measures the missing points of the worst-case ray of a kind. @returns points that `phase` has counted afterwards */
export async function measureWorst(
  { context, folder, reference, phase, before }: PartJob,
  kind: WorstKind,
): Promise<number> {
  const { settings, place, say } = context;
  const own = worstFolder(folder, place.step, kind);
  const points = worstPoints(settings.landscape);
  // Workers of a queue may have left points in another order.
  await settleOrder(own, points, say, rayCoordinatesOf);
  const { facts, found } = await openWorst(context, reference, kind);
  try {
    writeWorstFacts(own, facts);
  } catch (thrown) {
    if (found !== null) freeDirection(found.direction);
    throw thrown;
  }
  if (found === null) {
    say(gapText(place.step, facts));
    return before + points.length;
  }
  return measurePoints({
    ...{ context, folder: own, reference, phase, before, placeOf: rayCoordinatesOf },
    whole: `${points.length} points on the worst-case ray (${kind}) around step ${place.step}`,
    prepare: async () => pointsOfWorst(points, found),
  });
}
