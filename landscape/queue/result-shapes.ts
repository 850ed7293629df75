// What is wrong with the shape of a result, in words; null if nothing is.
import type { ByRollout, CellRecord, ReferenceSet } from "../files/cells.ts";
import { type Item, type ItemPart, scalesOfHalf } from "../files/item-parts.ts";
import { isWholeDraw } from "../files/noise-files.ts";
import { scaleKey } from "../files/ray-points.ts";
import type { PointPlace } from "../grid.ts";
import type { StudySettings } from "../settings.ts";

type Landscape = StudySettings["landscape"];
type Size = Landscape["reference"];

const hasSize = (values: ByRollout, { prompts, rollouts }: Size): boolean =>
  values.length === prompts && values.every(({ length }) => length === rollouts);

function sizeProblems(name: string, values: ByRollout | undefined, size: Size): string[] {
  return values === undefined || hasSize(values, size) ? [] : [`${name} is not ${size.prompts} × ${size.rollouts}`];
}

const sumProblems = (sums: CellRecord["reference"], size: Size): string[] =>
  Object.entries(sums).flatMap(([name, values]) => sizeProblems(`reference.${name}`, values, size));

/** The shape of a record that has all prompts and rollouts. */
export function shapeProblem(
  { rollouts, reference, firstDifference }: CellRecord,
  landscape: Pick<Landscape, "reference" | "rollouts">,
): string | null {
  const both = {
    prompts: Math.min(landscape.reference.prompts, landscape.rollouts.prompts),
    rollouts: Math.min(landscape.reference.rollouts, landscape.rollouts.rollouts),
  };
  const found = [
    ...Object.entries(rollouts).flatMap(([name, values]) =>
      sizeProblems(`rollouts.${name}`, values, landscape.rollouts),
    ),
    ...sumProblems(reference, landscape.reference),
    ...sizeProblems("firstDifference", firstDifference, both),
  ];
  return found[0] ?? null;
}

export const isReference = (set: ReferenceSet, { reference }: Pick<Landscape, "reference">): boolean =>
  [set.tokens, set.reward, set.advantage].every((values) => hasSize(values, reference));

/** @param step  of the checkpoint whose part it is */
export function itemProblem(
  item: Item,
  { i, j, alpha, beta }: PointPlace,
  { kind }: ItemPart,
  landscape: Landscape,
  step: number,
): string | null {
  if (item.kind !== kind) return `it has ${item.kind} in place of ${kind}`;
  switch (item.kind) {
    case "lengths":
      return item.lengths.length === landscape.rays.count
        ? null
        : `it has ${item.lengths.length} lengths of ${landscape.rays.count} rays`;
    case "scales": {
      const wanted = scalesOfHalf({ i, j, alpha, beta }, landscape);
      const isWanted =
        item.scales.length === wanted.length && wanted.every((one, k) => scaleKey(one) === scaleKey(item.scales[k]));
      if (!isWanted) return "it has scales of other targets";
      return item.scales.every(({ scale }) => scale === null || scale > 0)
        ? null
        : "it has a scale that is not above 0";
    }
    case "draw": {
      const { draw, failed } = item.draw;
      if (draw !== j) return `it has draw ${draw}`;
      const hasShape =
        isWholeDraw(item.draw, landscape) && (failed === undefined || hasSize(failed, landscape.rollouts));
      return hasShape ? null : `its rewards are not ${landscape.rollouts.prompts} × ${landscape.rollouts.rollouts}`;
    }
    case "pair": {
      const { from, to, reference } = item.pair;
      if (from !== step || to !== j) return `it has the pair of steps ${from} and ${to}`;
      return sumProblems(reference, landscape.reference)[0] ?? null;
    }
    case "kl-from": {
      const { cell } = item;
      if (cell.i !== i || cell.j !== j || cell.alpha !== alpha || cell.beta !== beta)
        return `it has cell (${cell.i}, ${cell.j}) at ${cell.alpha}, ${cell.beta}`;
      return sizeProblems("kl", cell.kl, landscape.reference)[0] ?? null;
    }
    default:
      return item satisfies never;
  }
}
