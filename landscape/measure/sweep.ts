// A sweep measures one slice around one checkpoint: the points of a grid along two directions (measure-points.ts has how).
import type { Phase } from "../../engine/host/index.ts";
import { openingOf } from "../../rl/index.ts";
import { expectSameDirections, type SliceFacts, writeFacts } from "../files/slice-facts.ts";
import type { GridCell } from "../grid.ts";
import { shardCells } from "../shard.ts";
import { makeDirections, stepsTo } from "./directions.ts";
import { measurePoints, type PointSet } from "./measure-points.ts";
import type { Reference } from "./reference.ts";
import { promptSet, type SweepContext } from "./sweep-context.ts";

/**
 * Measures the missing cells of one slice.
 * @param folder  the slice's
 * @param phase   counts cells
 * @param before  cells that `phase` has already counted
 * @param only    chooses among the cells of the shard; all by default
 * @returns cells that `phase` has counted afterwards
 */
export function sweep(
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
  return measurePoints({
    ...{ context, folder, reference, phase, before },
    whole: `${wanted.length} grid points of this map`,
    prepare: async (hasBegun): Promise<PointSet<GridCell>> => {
      const { set, facts } = await pointsOfSlice(context, slice, reference, wanted);
      try {
        if (hasBegun) expectSameDirections(folder, facts, say);
        writeFacts(folder, facts);
        onDirections?.(facts);
      } catch (thrown) {
        set.free();
        throw thrown;
      }
      return set;
    },
  });
}

/** Grid points along the directions of a slice, and the facts about these. @throws as `makeDirections` */
export async function pointsOfSlice(
  context: SweepContext,
  slice: number,
  reference: Reference,
  points: readonly GridCell[],
): Promise<{ set: PointSet<GridCell>; facts: SliceFacts }> {
  const { directions, facts } = await sliceDirections(context, slice, reference);
  const set = {
    points,
    stepsTo: (cell: GridCell) => (name: string) => stepsTo(cell, directions, name),
    free: () => directions.free(),
  };
  return { set, facts };
}

/** The directions of a slice around the context's checkpoint, and the facts about them. @throws as `makeDirections` */
export async function sliceDirections(
  context: SweepContext,
  slice: number,
  reference: Reference,
): Promise<{ readonly directions: Awaited<ReturnType<typeof makeDirections>>; readonly facts: SliceFacts }> {
  const { model, settings, place, signal, say } = context;
  const directions = await makeDirections({
    ...{ arena: model.weights, config: model.config, settings, slice, reference, place, signal, say },
    usedIds: usedIdsOf(context, reference),
  });
  const { seed } = settings.landscape;
  return { directions, facts: { schemaVersion: 1, seed, slice, digest: directions.digest, ...directions.facts } };
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
