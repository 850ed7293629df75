// Points on a worst-case ray, at the radii of the random rays.
import { ensureFolder, writeAtomic } from "../../engine/host/index.ts";
import { NumericalError } from "../../engine/index.ts";
import { worstFolder, worstPath } from "../files/layout.ts";
import { CHECKPOINT, indicesOf, type WorstFacts } from "../files/ray-files.ts";
import { rayCoordinatesOf } from "../files/set-aside.ts";
import type { PointPlace } from "../grid.ts";
import { radiiOf, signsOf, type WorstKind } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import { freeDirection, stepOf, sumOf } from "./directions/direction.ts";
import { type WorstDirection, worstDirection } from "./directions/worst-case.ts";
import { measurePoints } from "./measure-points.ts";
import type { PartJob } from "./part-job.ts";

/** The checkpoint, then from the inside outwards. */
export function worstPoints({ rays }: StudySettings["landscape"]): PointPlace[] {
  return [
    CHECKPOINT,
    ...radiiOf(rays).flatMap((radius, index) =>
      signsOf(rays).map((sign) => ({ ...indicesOf({ ray: 0, index, sign }), alpha: sign * radius, beta: 0 })),
    ),
  ];
}

/** Measures the missing points of the worst-case ray of a kind. @returns points that `phase` has counted afterwards */
export async function measureWorst(
  { context, folder, reference, phase, before }: PartJob,
  kind: WorstKind,
): Promise<number> {
  const { model, settings, place, signal, say } = context;
  const own = worstFolder(folder, place.step, kind);
  const points = worstPoints(settings.landscape);
  const { norm } = settings.landscape.rays;
  ensureFolder(own);
  const keep = (facts: Pick<WorstFacts, "length" | "curvatures" | "problem">): void =>
    writeAtomic(worstPath(own), `${JSON.stringify({ schemaVersion: 1, kind, norm, ...facts })}\n`);
  let found: WorstDirection;
  try {
    found = await worstDirection(kind, {
      ...{ arena: model.weights, config: model.config, settings, place, reference, signal, say },
    });
  } catch (thrown) {
    // Without rewards that differ there is no gradient of J: a gap, and no reason to stop the other measurements.
    if (!(thrown instanceof NumericalError)) throw thrown;
    keep({ length: null, curvatures: [], problem: thrown.message });
    say(`Step ${place.step}, worst-case ray (${kind}): ${thrown.message} It stays a gap.`);
    return before + points.length;
  }
  keep({
    length: Math.sqrt(sumOf(found.squares.values())),
    curvatures: [...found.curvatures],
    problem: null,
  });
  return measurePoints({
    ...{ context, folder: own, reference, phase, before, placeOf: rayCoordinatesOf },
    whole: `${points.length} points on the worst-case ray (${kind}) around step ${place.step}`,
    prepare: async () => ({
      points,
      stepsTo:
        ({ alpha }: PointPlace) =>
        (name: string) =>
          stepOf(found.direction.get(name), alpha),
      free: () => freeDirection(found.direction),
    }),
  });
}
