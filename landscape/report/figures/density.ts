// Share of random directions with more reward than the checkpoint, by radius, one curve per checkpoint.
import { plotFigure } from "./claim-figure.ts";
import type { FigureKind } from "./figure-kind.ts";

export const densityKind: FigureKind = {
  name: "density",
  shows: "share of random directions that improve on the checkpoint by radius, and of these still on fresh prompts",
  takes: [],
  isPerSlice: false,
  missing: ({ rays }) =>
    rays?.density
      ? null
      : "no rays are measured. The same command as for the run, with --landscape.rays.count 16 " +
        "--landscape.rays.freshPrompts 64, adds them",
  draw: ({ rays }, options) => {
    if (!rays?.density) throw new RangeError("density: expected a run with rays, got none");
    return plotFigure(rays.density.plot, options.name ?? "density", "Density of improving neighbours", options);
  },
};
