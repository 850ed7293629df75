// r(KL, R) of each map with KL from the policies of other checkpoints, beside KL from the checkpoint in the centre. The
// reward maps are the same, so the correlations differ by the policy that KL is taken from alone.
//
// If reward falls with KL from any policy, distance from that one says no more than distance. If it falls with KL from the
// checkpoint in the centre alone, the map is concentrated around that checkpoint.
import { groupBy, type OnDamage, writeAtomic } from "../../engine/host/index.ts";
import { type KlFromFiles, readKlFrom } from "../files/kl-from-files.ts";
import { klFromSummaryPath } from "../files/layout.ts";
import type { StudySettings } from "../settings.ts";
import type { ClaimTable } from "./claims/claim.ts";
import { rAtBudget, rInfinity, rWithinRing } from "./estimands.ts";
import { acrossSlices, type Estimate, jackknifeCorrelation } from "./intervals.ts";
import { LEAST_SLICES } from "./over-checkpoints.ts";
import { perToken, sum, total } from "./points.ts";
import type { PromptMaps } from "./prompt-maps.ts";
import { mean } from "./statistics.ts";
import type { SummarisedSlice } from "./summary.ts";

/** Increases when a field changes its meaning or is removed. */
export const KL_FROM_SCHEMA_VERSION = 1;

/** A map with KL from one checkpoint. */
export interface KlFromMap {
  readonly step: number;
  readonly slice: number;
  /** The step of the checkpoint that KL is taken from; `step` itself for the map's own. */
  readonly from: number;
  /** Whether KL from it is the map's own, as in points.csv. */
  readonly isOwn: boolean;
  /** Correlations of this KL and R over the cells. */
  readonly r: Estimate;
  readonly rInfinity: Estimate;
  readonly withinRing: Estimate;
  /** KL per token at each cell, ordered by (i, j). */
  readonly cells: readonly { readonly i: number; readonly j: number; readonly kl_token: number }[];
  /** In the grid's centre; null if the grid has none. */
  readonly klAtCentre: number | null;
}

/**
 * The maps of KL from other checkpoints, each slice's own among them, by step, slice and the step that KL is taken from. Writes
 * landscape/kl-from.json if there are any.
 * @param gap  told what is missing, in a sentence
 */
export function summariseKlFrom(
  folder: string,
  { landscape }: Pick<StudySettings, "landscape">,
  slices: readonly SummarisedSlice[],
  say: OnDamage,
  gap: (sentence: string) => void,
): KlFromMap[] {
  if (landscape.klFrom.length === 0) return [];
  const found = slices.flatMap((own): KlFromMap[] => {
    const others = landscape.klFrom
      .filter((from) => from !== own.step)
      .flatMap((from) => {
        const files = readKlFrom(folder, own, from, say);
        const measured = files?.cells.length ?? 0;
        const maps = files && mapsFrom(own.maps, files);
        if (maps === null)
          gap(
            `Step ${own.step}, slice ${own.slice}: KL from step ${from} is measured in ${measured} of ${own.maps.cells.length} cells, so ` +
              "it is left out.",
          );
        return maps === null ? [] : [klFromMap(own, from, maps)];
      });
    return [klFromMap(own, own.step, own.maps), ...others].sort((one, other) => one.from - other.from);
  });
  if (found.length > 0)
    writeAtomic(
      klFromSummaryPath(folder),
      `${JSON.stringify({ schemaVersion: KL_FROM_SCHEMA_VERSION, maps: found }, null, 1)}\n`,
    );
  return found;
}

/** The reward maps beside KL from another checkpoint; null unless every cell has it. */
export function mapsFrom(own: PromptMaps, { cells, reference }: KlFromFiles): PromptMaps | null {
  const byPlace = new Map(cells.map((cell) => [`${cell.i},${cell.j}`, cell]));
  const meanTokens = total(reference.tokens) / reference.tokens.length;
  const ordered = own.cells.map(({ i, j }) => byPlace.get(`${i},${j}`));
  if (ordered.some((cell) => cell === undefined)) return null;
  const kl = reference.tokens.map((_, p) =>
    Float64Array.from(ordered, (cell) => perToken(sum(cell?.kl[p] ?? []), meanTokens)),
  );
  return { cells: own.cells, reward: own.reward, kl, objective: [] };
}

function klFromMap({ step, slice }: SummarisedSlice, from: number, maps: PromptMaps): KlFromMap {
  const cells = maps.cells.map(({ i, j }, at) => ({ i, j, kl_token: mean(maps.kl.map((map) => map[at])) }));
  const centre = maps.cells.findIndex(({ alpha, beta }) => alpha === 0 && beta === 0);
  return {
    ...{ step, slice, from, isOwn: from === step },
    r: jackknifeCorrelation(rAtBudget(maps)),
    rInfinity: jackknifeCorrelation(rInfinity(maps)),
    withinRing: jackknifeCorrelation(rWithinRing(maps)),
    cells,
    klAtCentre: centre < 0 ? null : cells[centre].kl_token,
  };
}

/** One row per map and checkpoint; means over the slices of a checkpoint from five on. */
export function klFromTable(maps: readonly KlFromMap[]): ClaimTable {
  const slices = new Set(maps.map(({ slice }) => slice)).size;
  const means =
    slices < LEAST_SLICES
      ? []
      : [...groupBy(maps, ({ step, from }) => `${step},${from}`).values()].map((of) => {
          const over = (name: "r" | "rInfinity" | "withinRing"): Estimate =>
            acrossSlices(of.map((map) => map[name].value));
          const [{ step, from }] = of;
          return [step, from, "mean", null, over("r"), over("rInfinity"), over("withinRing")];
        });
  return {
    caption:
      "Correlations of R with KL from the policy of each checkpoint, on completions of that checkpoint, over the cells of one and the same " +
      "map. KL: nats per token, in the grid’s centre. Intervals over prompts; of a mean, Student’s t over slices.",
    columns: [
      { name: "step" },
      { name: "KL from step" },
      { name: "slice" },
      { name: "KL in the centre", digits: 4 },
      { name: "r", digits: 2 },
      { name: "r∞", digits: 2 },
      { name: "within ring", digits: 2 },
    ],
    rows: [
      ...maps.map(({ step, from, slice, klAtCentre, r, rInfinity: infinite, withinRing }) => [
        ...[step, from, slice, klAtCentre, r, infinite, withinRing],
      ]),
      ...means,
    ],
  };
}
