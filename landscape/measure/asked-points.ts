// Measures points of one slice, of rays or of a line as somebody asks for them: a worker of a queue (queue/worker.ts). The directions, the
// slots of perturbed weights and the answers for drafts stay in memory from one request to the next. Nothing is written to
// disk.
import type { Phase } from "../../engine/host/index.ts";
import type { CellRecord } from "../files/cells.ts";
import type { PointPlace } from "../grid.ts";
import { DraftSource, mostDraftBytes } from "./drafts.ts";
import { EarlierCells } from "./earlier-cells.ts";
import { measureBatch, type PointSet, progressOf } from "./measure-points.ts";
import { ownAnswers } from "./measured-point.ts";
import { pointWeights } from "./perturbed-weights.ts";
import type { Reference } from "./reference.ts";
import { type SweepContext, withPolicy } from "./sweep-context.ts";
import { UnderWay } from "./under-way.ts";

/** Grid points that are asked for together. */
export interface AskedPoints {
  readonly cells: readonly PointPlace[];
  /** Counts these cells. */
  readonly phase: Phase;
  /** Called for each cell as soon as it is scored. */
  take(record: CellRecord, conversations: string): void;
  /** Called once all of them are. */
  finish(): Promise<void>;
}

/**
 * Measures what `asked` asks for, until it ends.
 * @param set  the points of the slice; all of them may be asked for
 */
export async function measureAsked(
  context: SweepContext,
  set: PointSet<PointPlace>,
  reference: Reference,
  asked: AsyncIterable<AskedPoints>,
): Promise<void> {
  const { model, settings, say, signal } = context;
  const { landscape } = settings;
  const own = ownAnswers(reference);
  const drafts =
    landscape.drafts === "on" ? new DraftSource(own, landscape.rollouts.rollouts, mostDraftBytes, set.distance) : null;
  const noEarlier = new EarlierCells(null, landscape, say);
  const measured = new Set<string>();
  await withPolicy(context, async (policy) => {
    const weights = pointWeights(model.weights, landscape.pointsAtOnce, landscape);
    try {
      const both = { policy, perturbed: { backend: model.backend, config: model.config, weights } };
      for await (const { cells, phase, take, finish } of asked) {
        for (let start = 0; start < cells.length; start += landscape.pointsAtOnce) {
          signal.throwIfAborted();
          const batch = cells.slice(start, start + landscape.pointsAtOnce);
          weights.placeAlong(batch.map((cell) => set.stepsTo(cell)));
          const underWay = new UnderWay(null, landscape.rollouts.rollouts, 0, say);
          const progress = progressOf(landscape, reference, phase, start);
          await measureBatch(context, both, batch, reference, noEarlier, underWay, drafts, progress, take);
          for (const { i, j } of batch) measured.add(`${i},${j}`);
          drafts?.finish(set.points.filter(({ i, j }) => !measured.has(`${i},${j}`)));
        }
        await finish();
      }
    } finally {
      weights.free();
    }
  });
}
