// Worst-case rays around the last checkpoint, beside the band of random rays.
import { plotFigure } from "./claim-figure.ts";
import type { FigureKind } from "./figure-kind.ts";

export const worstRaysKind: FigureKind = {
  name: "worst-rays",
  shows: "KL and reward on worst-case rays beside random rays, at equal radius and at equal KL",
  takes: [],
  isPerSlice: false,
  missing: ({ rays }) =>
    rays?.worst
      ? null
      : "no worst-case rays are measured. The same command as for the run, with --landscape.rays.count 16 " +
        "--landscape.rays.worst kl,reward, adds them",
  draw: ({ rays }, options) => {
    if (!rays?.worst) throw new RangeError("worst-rays: expected a run with worst-case rays, got none");
    return plotFigure(rays.worst.plot, options.name ?? "worst-rays", "Worst-case rays beside random rays", options);
  },
};
