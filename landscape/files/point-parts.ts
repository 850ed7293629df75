// What is measured around a checkpoint point by point: maps, rays at their radii, at fixed KL and on fresh prompts, worst-case rays, lines.
// Workers of a queue take points of these.
import { join } from "node:path";
import { stepName } from "../../rl/index.ts";
import { gridCells, type PointPlace, workOrder } from "../grid.ts";
import { linesFrom, ownCheckpoints, type WorstKind, worstRaysOf } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import { lineName } from "./layout.ts";
import { linePoints, rayPoints, worstPoints } from "./ray-points.ts";
import { coordinatesOf, rayCoordinatesOf, type StayingPlace } from "./set-aside.ts";

export interface PointPart {
  /** That of its folder: slice-0, rays, fixed-kl, fresh, worst-kl, line-plus-5. */
  readonly name: string;
  /** Null for all but maps. */
  readonly slice: number | null;
  /** Steps ahead of a line; null for the others. */
  readonly stepsAhead: number | null;
  /** Of a worst-case ray; null for the others. */
  readonly worst: WorstKind | null;
  /** All of them, in the order of measurement. */
  readonly points: readonly PointPlace[];
  /** The same, neighbours after one another. */
  readonly neighbours: readonly PointPlace[];
  /** By what a point that was set aside is found again. */
  readonly placeOf: StayingPlace;
}

/** A part's name for messages: "slice 0". */
export const partText = (name: string): string => name.replace("slice-", "slice ");

export const partFolder = (folder: string, step: number, { name }: Pick<PointPart, "name">): string =>
  join(folder, "landscape", stepName(step), name);

const noKind = { slice: null, stepsAhead: null, worst: null };

const alongRays = (name: string, points: readonly PointPlace[], of: Partial<PointPart> = {}): PointPart => ({
  ...{ name, ...noKind, points, neighbours: points, placeOf: rayCoordinatesOf, ...of },
});

/** The parts of a checkpoint whose points follow from the settings. */
export function pointParts(settings: StudySettings, step: number): PointPart[] {
  const { landscape } = settings;
  const [cells, neighbours] = [workOrder(landscape), gridCells(landscape)];
  const slices = Array.from({ length: landscape.slices }, (_, slice) => ({
    ...{ name: `slice-${slice}`, ...noKind, slice, points: cells, neighbours, placeOf: coordinatesOf },
  }));
  return [
    ...slices,
    ...(landscape.rays.count > 0 ? [alongRays("rays", rayPoints(landscape))] : []),
    ...worstRaysOf(landscape.rays).map((worst) => alongRays(`worst-${worst}`, worstPoints(landscape), { worst })),
    ...linesFrom(step, landscape.line, ownCheckpoints(settings)).map((ahead) =>
      alongRays(lineName(ahead), linePoints(landscape), { stepsAhead: ahead }),
    ),
  ];
}

/** Points at fixed KL, which are known once the scales of all rays are found. */
export const fixedKlPart = (points: readonly PointPlace[]): PointPart => alongRays("fixed-kl", points);

/** Points on fresh prompts, which are known once the rays are measured. */
export const freshPart = (points: readonly PointPlace[]): PointPart => alongRays("fresh", points);
