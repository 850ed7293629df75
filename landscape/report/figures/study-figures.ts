// Every figure of a study, by name: the figures that a run writes to its folder of figures.
import type { FigureOptions } from "./axes.ts";
import { claimFigure } from "./claim-figure.ts";
import { correlationFigure } from "./correlation.ts";
import { distinct, type Figure, hasObjective, type Study } from "./figure-data.ts";
import { heatmapFigure } from "./heatmap.ts";
import { rewardKlFigure } from "./reward-kl.ts";
import { trainingFigure } from "./training.ts";
import { hasHealth, trainingHealthFigure } from "./training-health.ts";

/**
 * The figures that the study's data allow, each as a function that draws it, in the order of a paper. If there are
 * several slices, the maps of each have their own figure, "reward-map-slice-0" and so on. The name is the file's,
 * without extension.
 */
export function studyFigures(study: Study): Map<string, (options?: FigureOptions) => Figure> {
  const figures = new Map<string, (options?: FigureOptions) => Figure>();
  const slices = distinct(study.maps.map((map) => map.slice));
  const measured = study.maps.filter((map) => map.points.length > 0);
  for (const slice of slices) {
    const maps = measured.filter((map) => map.slice === slice);
    const suffix = slices.length > 1 ? `-slice-${slice}` : "";
    const withObjective = maps.filter(hasObjective);
    const add = (stem: string, draw: (options: FigureOptions & { name: string }) => Figure) =>
      figures.set(`${stem}${suffix}`, (options = {}) => draw({ ...options, name: `${stem}${suffix}` }));
    if (maps.length > 0) {
      add("reward-map", (options) => heatmapFigure(maps, "reward", options));
      // With one map, this would be the same drawing again.
      if (maps.length > 1)
        add("reward-map-own-colours", (options) => heatmapFigure(maps, "reward", { ...options, hasOwnColours: true }));
      add("kl-map", (options) => heatmapFigure(maps, "kl", options));
    }
    if (withObjective.length > 0) add("objective-map", (options) => heatmapFigure(withObjective, "objective", options));
    if (maps.length > 0) add("reward-kl", (options) => rewardKlFigure(maps, options));
  }
  if (study.maps.length > 0) {
    figures.set("correlation", (options) => correlationFigure(study, { ...options, name: "correlation" }));
    const estimands = ["r", "rInfinity", "withinRing"] as const;
    figures.set("correlation-all", (options) =>
      correlationFigure(study, { ...options, estimands, name: "correlation-all" }),
    );
  }
  if (study.training.some((row) => row.reward !== null || typeof row.evalReward === "number"))
    figures.set("training", (options) => trainingFigure(study, { ...options, name: "training" }));
  if (hasHealth(study))
    figures.set("training-health", (options) => trainingHealthFigure(study, { ...options, name: "training-health" }));
  for (const claim of study.claims ?? [])
    if (claim.plot !== null)
      figures.set(`claim-${claim.name}`, (options) => claimFigure(claim, { ...options, name: `claim-${claim.name}` }));
  return figures;
}
