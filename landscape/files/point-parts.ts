// What is measured around a checkpoint point by point, without knowing other parts: maps, rays at their radii, lines. Workers of a queue
// take points of these.
import { join } from "node:path";
import { stepName } from "../../rl/index.ts";
import { gridCells, type PointPlace, workOrder } from "../grid.ts";
import { linesFrom, ownCheckpoints } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import { lineName } from "./layout.ts";
import { linePoints, rayPoints } from "./ray-points.ts";
import { coordinatesOf, rayCoordinatesOf, type StayingPlace } from "./set-aside.ts";

export interface PointPart {
  /** That of its folder: slice-0, rays, line-plus-5. */
  readonly name: string;
  /** Null for rays and lines. */
  readonly slice: number | null;
  /** Steps ahead of a line; null for the others. */
  readonly stepsAhead: number | null;
  /** All of them, in the order of measurement. */
  readonly points: readonly PointPlace[];
  /** The same, neighbours after one another. */
  readonly neighbours: readonly PointPlace[];
  /** By what a point that was set aside is found again. */
  readonly placeOf: StayingPlace;
}

/** What a part's name looks like: nothing else is a part of a path. */
export const partName = /^(slice-\d{1,9}|rays|line-(plus|minus)-\d{1,9})$/;

/** A part's name for messages: "slice 0". */
export const partText = (name: string): string => name.replace("slice-", "slice ");

export const partFolder = (folder: string, step: number, { name }: Pick<PointPart, "name">): string =>
  join(folder, "landscape", stepName(step), name);

/** The parts of a checkpoint. */
export function pointParts(settings: StudySettings, step: number): PointPart[] {
  const { landscape } = settings;
  const [cells, neighbours] = [workOrder(landscape), gridCells(landscape)];
  const slices = Array.from({ length: landscape.slices }, (_, slice) => ({
    ...{ name: `slice-${slice}`, slice, stepsAhead: null, points: cells, neighbours, placeOf: coordinatesOf },
  }));
  const along = (name: string, points: readonly PointPlace[], stepsAhead: number | null): PointPart => ({
    ...{ name, slice: null, stepsAhead, points, neighbours: points, placeOf: rayCoordinatesOf },
  });
  return [
    ...slices,
    ...(landscape.rays.count > 0 ? [along("rays", rayPoints(landscape), null)] : []),
    ...linesFrom(step, landscape.line, ownCheckpoints(settings)).map((ahead) =>
      along(lineName(ahead), linePoints(landscape), ahead),
    ),
  ];
}
