// Every drawing that the report's script can show: of each map its quantities, the scatter plot and the panels.
import { PAGE } from "./figures/colour.ts";
import { extentOf, hasObjective, type LandscapeMap, QUANTITIES, type Quantity } from "./figures/figure-data.ts";
import { heatmapFigure } from "./figures/heatmap.ts";
import { noiseFloorFigure } from "./figures/noise-floor.ts";
import { firstDifferenceFigure, fromZero, meanCommonStart, rewardErrors, smallMap } from "./figures/page/small-map.ts";
import { rewardKlFigure } from "./figures/reward-kl.ts";
import { commonStarts } from "./first-difference.ts";

const PAGE_FIGURE = { widthMm: 112, fontPt: 8.5, theme: PAGE, isLinked: true } as const;

/** The parts of the page that change with the map, by the names that page-explorer.ts gives them. */
export type MapFigures = Record<string, string>;

/**
 * The figures of each map. Each quantity uses the colour scale of all maps; if there are several maps, a second figure
 * uses its own scale.
 */
export function figuresOfMaps(maps: readonly LandscapeMap[]): MapFigures[] {
  const errors = maps.map(rewardErrors);
  const starts = maps.map(commonStarts);
  const errorColours = fromZero(...errors.filter((values) => values !== null));
  const common = maps.map((map, k) => (starts[k] === null ? null : meanCommonStart(map, starts[k])));
  const commonColours = fromZero(...common.filter((values) => values !== null));
  return maps.map((map, k) => {
    const figures: MapFigures = { scatter: rewardKlFigure([map], { ...PAGE_FIGURE, over: maps }).svg };
    for (const quantity of QUANTITIES)
      if (quantity !== "objective" || hasObjective(map)) {
        const over = comparable(maps, quantity);
        figures[mapFigure(quantity, "shared")] = heatmapFigure([map], quantity, { ...PAGE_FIGURE, over }).svg;
        if (maps.length > 1) figures[mapFigure(quantity, "own")] = heatmapFigure([map], quantity, PAGE_FIGURE).svg;
      }
    const [error, starting, mean] = [errors[k], starts[k], common[k]];
    if (map.noiseFloor !== undefined)
      figures["noise-floor"] = noiseFloorFigure([map], { ...PAGE_FIGURE, over: maps }).svg;
    if (error !== null)
      figures["noise"] = smallMap({
        title: "Standard error of reward over prompts",
        map,
        values: error,
        colours: errorColours,
        bar: "standard error",
      });
    if (starting !== null && mean !== null) {
      figures["breaks"] = firstDifferenceFigure(starting);
      if (extentOf(mean) !== null)
        figures["common"] = smallMap({
          title: `Mean number of ${starting.unit} in common with the checkpoint’s conversation`,
          map,
          values: mean,
          colours: commonColours,
          bar: `common ${starting.unit}, mean`,
        });
    }
    return figures;
  });
}

export const mapFigure = (quantity: Quantity, colours: "shared" | "own"): string => `map ${quantity} ${colours}`;

function comparable(maps: readonly LandscapeMap[], quantity: Quantity): readonly LandscapeMap[] {
  return quantity === "objective" ? maps.filter(hasObjective) : maps;
}
