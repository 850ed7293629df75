// Every figure of a study, by name: the figures that a run writes to its folder of figures, and that the command draws
// at a chosen size. A new figure is a file of its own and a line in FIGURES.
import type { FigureOptions } from "./axes.ts";
import { claimKinds } from "./claim-figure.ts";
import { correlationAllKind, correlationKind } from "./correlation.ts";
import { densityKind } from "./density.ts";
import { distinct, type Figure, type Quantity, type Study } from "./figure-data.ts";
import { type FigureKind, type KindOptions, measuredMaps } from "./figure-kind.ts";
import { mapKinds } from "./heatmap.ts";
import { noiseFloorKind } from "./noise-floor.ts";
import { raysKind } from "./rays.ts";
import { rewardCurvesKind } from "./reward-curves.ts";
import { rewardKlKind } from "./reward-kl.ts";
import { surfaceKind } from "./surface.ts";
import { trainingKind } from "./training.ts";
import { trainingHealthKind } from "./training-health.ts";
import { worstRaysKind } from "./worst-rays.ts";

/** In the order of a paper. */
export const FIGURES: readonly FigureKind[] = [
  ...mapKinds,
  surfaceKind,
  rewardKlKind,
  rewardCurvesKind,
  noiseFloorKind,
  raysKind,
  densityKind,
  worstRaysKind,
  correlationKind,
  correlationAllKind,
  trainingKind,
  trainingHealthKind,
  ...claimKinds,
];

/**
 * The figures that the study's data allow, each as a function that draws it, in the order of a paper. If there are
 * several slices, the maps of each have their own figure, "reward-map-slice-0" and so on. The name is the file's,
 * without extension.
 */
export function studyFigures(study: Study): Map<string, (options?: FigureOptions) => Figure> {
  return new Map(FIGURES.flatMap((kind) => figuresOf(kind, study)));
}

/**
 * The figures of one kind, by file name: one, or one per slice; none if the study lacks what it needs.
 * @param choice  `suffix`: appended to the name of the kind, before the slice; `quantity`: as for FigureKind.missing
 */
export function figuresOf(
  kind: FigureKind,
  study: Study,
  { suffix = "", quantity }: { suffix?: string; quantity?: Quantity } = {},
): (readonly [name: string, draw: (options?: KindOptions) => Figure])[] {
  const slices = distinct(measuredMaps(study).map(({ slice }) => slice));
  const parts = kind.isPerSlice && slices.length > 1 ? slices : [null];
  return parts.flatMap((slice) => {
    const part = slice === null ? study : { ...study, maps: study.maps.filter((map) => map.slice === slice) };
    const name = `${kind.name}${suffix}${slice === null ? "" : `-slice-${slice}`}`;
    return kind.missing(part, quantity) === null
      ? [[name, (options = {}) => kind.draw(part, { quantity, ...options, name })] as const]
      : [];
  });
}
