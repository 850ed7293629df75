// Reward and KL on random rays, and reward at equal KL, one curve per checkpoint.
import { plotFigure } from "./claim-figure.ts";
import type { FigureKind } from "./figure-kind.ts";

export const raysKind: FigureKind = {
  name: "rays",
  shows: "mean reward and KL over random rays by radius, and reward at equal KL",
  takes: [],
  isPerSlice: false,
  missing: ({ rays }) =>
    rays ? null : "no rays are measured. The same command as for the run, with --landscape.rays.count 16, adds them",
  draw: ({ rays }, options) => {
    if (!rays) throw new RangeError("rays: expected a run with rays, got none");
    return plotFigure(rays.plot, options.name ?? "rays", "Reward and KL on random rays", options);
  },
};
