// Maps of KL from the policies of other checkpoints, one panel per map and checkpoint.
import type { KlFromMap } from "../../statistics/kl-from.ts";
import { csv, type Figure, inOrder, type LandscapeMap, type Study } from "./figure-data.ts";
import { type FigureKind, type KindOptions, measuredMaps } from "./figure-kind.ts";
import { heatmapFigure } from "./heatmap.ts";

/** The maps that are drawn, each with its KL. */
function panelsOf({ maps, klFrom }: Pick<Study, "maps" | "klFrom">): { own: KlFromMap; map: LandscapeMap }[] {
  return inOrder(maps).flatMap((map) =>
    (klFrom ?? [])
      .filter(({ step, slice }) => step === map.step && slice === map.slice)
      .map((own) => {
        const at = new Map(own.cells.map(({ i, j, kl_token }) => [`${i},${j}`, kl_token]));
        const points = map.points.flatMap((point) => {
          const klToken = at.get(`${point.i},${point.j}`);
          return klToken === undefined ? [] : [{ ...point, klToken }];
        });
        return { own, map: { ...map, points } };
      }),
  );
}

/** @throws RangeError without KL from another checkpoint */
export function klFromFigure(
  study: Pick<Study, "maps" | "klFrom">,
  options: KindOptions & { areImages?: boolean } = {},
): Figure {
  const { name = "kl-from", over: _, ...rest } = options;
  const panels = panelsOf(study);
  const titles = new Map(
    panels.map(({ own, map }) => [
      map,
      own.isOwn ? `step ${own.step}, own KL` : `step ${own.step}, KL from ${own.from}`,
    ]),
  );
  const maps = panels.map(({ map }) => map);
  const titleOf = (map: LandscapeMap): string => titles.get(map) ?? "";
  const figure = heatmapFigure(maps, "kl", { ...rest, name, titleOf, hasOwnColours: true });
  return {
    ...figure,
    csv: csv(
      ["step", "slice", "kl_from_step", "i", "j", "alpha", "beta", "reward", "kl_token"],
      panels.flatMap(({ own: { step, slice, from }, map }) =>
        [...map.points]
          .sort((a, b) => a.i - b.i || a.j - b.j)
          .map((p) => [step, slice, from, p.i, p.j, p.alpha, p.beta, p.reward, p.klToken]),
      ),
    ),
  };
}

export const klFromKind: FigureKind = {
  name: "kl-from",
  shows: "KL over (α, β) from other checkpoints and the map's own, a panel for each",
  takes: ["step", "slice"],
  isPerSlice: true,
  missing: (study) =>
    panelsOf({ ...study, maps: measuredMaps(study) }).some(({ own }) => !own.isOwn)
      ? null
      : "no KL from other checkpoints is measured. The same command as for the run, with --landscape.klFrom and the steps of " +
        "checkpoints, adds it",
  draw: (study, options) => klFromFigure({ ...study, maps: measuredMaps(study) }, options),
};
