// What a figure declares about itself, so that runs, the command and the documentation draw it alike.
//
// A new figure is one file that exports a FigureKind, and its line in study-figures.ts.
import type { FigureOptions } from "./axes.ts";
import type { Figure, LandscapeMap, Quantity, Study } from "./figure-data.ts";

/** Choices that a figure may offer: which checkpoints and slice it shows, what, and whose colours and axes. */
export type FigureChoice = "step" | "slice" | "quantity" | "shared-colours";

/** Options of a figure that is drawn by its name. */
export interface KindOptions extends FigureOptions {
  /** File name without extension. Default: the figure's own. */
  name?: string;
  quantity?: Quantity;
  /** Maps that determine colours, isoline levels and axes. Default: the maps that are drawn. */
  over?: readonly LandscapeMap[];
}

export interface FigureKind {
  /** As users type it, and the name of its files. */
  readonly name: string;
  /** One line for `--figure list`. */
  readonly shows: string;
  readonly takes: readonly FigureChoice[];
  /** With several slices each has its own figure, NAME-slice-K. */
  readonly isPerSlice: boolean;
  /**
   * What the study lacks for this figure and how to get it, in a sentence; null if it can be drawn.
   * @param quantity  the quantity asked for, if the figure offers a choice
   */
  missing(study: Study, quantity?: Quantity): string | null;
  /** @param study  with the maps that are to be drawn; nothing is missing */
  draw(study: Study, options: KindOptions): Figure;
}

/** The maps with at least one measured point. */
export function measuredMaps({ maps }: Pick<Study, "maps">): LandscapeMap[] {
  return maps.filter((map) => map.points.length > 0);
}

/** For `missing`: why a study without landscapes has no maps. */
export function withoutMaps(study: Pick<Study, "maps">): string | null {
  return measuredMaps(study).length > 0
    ? null
    : "no landscape is measured. node landscape/run.ts with the settings file of this run takes its folder up and measures " +
        "the checkpoints in landscape.steps";
}
