// KL between checkpoints: a checkpoint's own completions, scored under every other checkpoint of the run.
import { ensureFolder, writeAtomic } from "../../engine/host/index.ts";
import { loadModel } from "../../model/index.ts";
import { pairPath, pairsFolder } from "../files/layout.ts";
import { missingPairs, PAIR_SCHEMA_VERSION, type PairRecord } from "../files/pair-files.ts";
import type { PartJob } from "./part-job.ts";
import { scorePoint } from "./reference.ts";
import { withPolicy } from "./sweep-context.ts";

/** Scores what is missing, each pair in a file of its own. @returns points that `phase` has counted afterwards */
export async function measurePairs({ context, folder, reference, phase, before }: PartJob): Promise<number> {
  const { model, settings, place, signal } = context;
  const { train, batch, landscape } = settings;
  const { backend, config } = model;
  ensureFolder(pairsFolder(folder, place.step));
  let done = before;
  for (const other of missingPairs(folder, place.step, landscape.steps)) {
    signal.throwIfAborted();
    const loaded = await loadModel(backend, place.folderOf(other), { forwardCopies: landscape.precision === "f32" });
    try {
      const their = { ...context, model: { backend, config, weights: loaded.weights } };
      const scored = await withPolicy(context, (own) =>
        withPolicy(their, (perturbed) =>
          scorePoint(own, perturbed, 0, reference, {
            ...{ maxTokens: batch.tokens, signal, clipLow: train.clipLow, clipHigh: train.clipHigh },
          }),
        ),
      );
      const record: PairRecord = { schemaVersion: PAIR_SCHEMA_VERSION, from: place.step, to: other, reference: scored };
      writeAtomic(pairPath(folder, place.step, other), `${JSON.stringify(record)}\n`);
    } finally {
      loaded.weights.free();
    }
    phase.moveTo(++done, `KL from step ${place.step} to step ${other}`);
  }
  return done;
}
