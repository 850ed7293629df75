// A sweep measures one slice around one checkpoint: the points of a grid along two directions (measure-points.ts has how).
import type { Phase } from "../../engine/host/index.ts";
import { openingOf } from "../../rl/index.ts";
import {
  expectSameDirections,
  type FixedKl,
  factsIn,
  isUnreached,
  type SliceFacts,
  unreachedText,
  writeFacts,
} from "../files/slice-facts.ts";
import type { GridCell, PointPlace } from "../grid.ts";
import { shardCells } from "../shard.ts";
import { type DirectionFacts, makeDirections, type Slice, stepsTo } from "./directions.ts";
import { atScales, findGridScales } from "./grid-scales.ts";
import { measurePoints, type PointSet } from "./measure-points.ts";
import type { Reference } from "./reference.ts";
import { promptSet, type SweepContext } from "./sweep-context.ts";

/**
 * Measures the missing cells of one slice. A slice whose directions reach no scale is said to be a gap, and counts as measured.
 * @param folder  the slice's
 * @param phase   counts cells
 * @param before  cells that `phase` has already counted
 * @param only    chooses among the cells of the shard; all by default
 * @returns cells that `phase` has counted afterwards
 */
export async function sweep(
  context: SweepContext,
  slice: number,
  folder: string,
  reference: Reference,
  phase: Phase,
  before: number,
  only: (cell: GridCell) => boolean = () => true,
): Promise<number> {
  const { settings, say, onDirections } = context;
  const wanted = shardCells(settings.shard, settings.landscape).filter(only);
  let isGap = false;
  const after = await measurePoints({
    ...{ context, folder, reference, phase, before },
    whole: `${wanted.length} grid points of this map`,
    prepare: async (hasBegun): Promise<PointSet<GridCell>> => {
      const { set, facts } = await pointsOfSlice(context, slice, reference, wanted, factsIn(folder, say));
      try {
        if (hasBegun) expectSameDirections(folder, facts, say);
        writeFacts(folder, facts);
        onDirections?.(facts);
        isGap = isUnreached(facts);
        if (isGap) say(`Step ${context.place.step}, slice ${slice}: ${unreachedText(facts)}. ${MEND_UNREACHED}`);
      } catch (thrown) {
        set.free();
        throw thrown;
      }
      return isGap ? { ...set, points: [] } : set;
    },
  });
  return isGap ? before + wanted.length : after;
}

/** How to mend a KL that is not reached. */
export const MEND_UNREACHED =
  "Choose another KL, or a radius from which KL is found in six passes, each at most 8 times as far (--landscape.directions.kl, " +
  "--landscape.radius), and another folder (--out).";

/**
 * Grid points along the directions of a slice, and the facts about these.
 * @param known  facts of an earlier time, whose scales are taken if the directions are the same
 * @throws as `makeDirections`
 */
export async function pointsOfSlice<P extends PointPlace>(
  context: SweepContext,
  slice: number,
  reference: Reference,
  points: readonly P[],
  known: SliceFacts | null,
): Promise<{ set: PointSet<P>; facts: SliceFacts }> {
  const { directions, facts } = await sliceDirections(context, slice, reference, known);
  const set = {
    points,
    stepsTo: (cell: P) => (name: string) => stepsTo(cell, directions, name),
    free: () => directions.free(),
  };
  return { set, facts };
}

/** The directions of a slice around the context's checkpoint, and the facts about them. As `pointsOfSlice`. */
export async function sliceDirections(
  context: SweepContext,
  slice: number,
  reference: Reference,
  known: SliceFacts | null,
): Promise<{ readonly directions: Slice; readonly facts: SliceFacts }> {
  const { model, settings, place, signal, say } = context;
  const directions = await makeDirections({
    ...{ arena: model.weights, config: model.config, settings, slice, reference, place, signal, say },
    usedIds: usedIdsOf(context, reference),
  });
  const { seed } = settings.landscape;
  const { digest } = directions;
  try {
    const isSame = known?.digest === digest && known.fixedKl !== undefined;
    const fixedKl = isSame ? known.fixedKl : await findGridScales(context, reference, directions);
    const head = { schemaVersion: 1, seed, slice, digest } as const;
    if (fixedKl == null) return { directions, facts: { ...head, ...directions.facts } };
    const facts = { ...head, ...scaledFacts(directions.facts, fixedKl), fixedKl };
    return { directions: { ...directions, ...atScales(directions, fixedKl) }, facts };
  } catch (thrown) {
    directions.free();
    throw thrown;
  }
}

/** Lengths are those of the scaled directions. */
function scaledFacts({ delta, eta, ...facts }: DirectionFacts, scales: FixedKl): DirectionFacts {
  const length = (axis: "delta" | "eta", own: DirectionFacts["delta"]): DirectionFacts["delta"] => ({
    ...own,
    length: own.length * (scales[axis].scale ?? 1),
  });
  return { delta: length("delta", delta), eta: length("eta", eta), ...facts };
}

/**
 * Ids of the task's tokens: those in the checkpoint's own conversations and in all prompts. Only a norm rule asks for them.
 */
function usedIdsOf(context: SweepContext, { rollouts }: Reference): ReadonlySet<number> | undefined {
  const { delta, eta } = context.settings.landscape.directions;
  if (delta.norm !== "used-row" && eta.norm !== "used-row") return undefined;
  const ids = new Set(promptSet(context).flatMap((episode) => [...openingOf(episode, context.chat).prompt]));
  for (const rollout of rollouts) for (const id of rollout.ids) ids.add(id);
  return ids;
}
