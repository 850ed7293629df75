// KL between checkpoints: a checkpoint's own completions, scored under every other checkpoint of the run.
import { rmSync } from "node:fs";
import { ensureFolder, explained, writeAtomic } from "../../engine/host/index.ts";
import { loadModel } from "../../model/index.ts";
import { earlierPairsFolder, pairPath, pairsFolder } from "../files/layout.ts";
import { missingPairs, PAIR_SCHEMA_VERSION, type PairRecord, readEarlierPair } from "../files/pair-files.ts";
import type { PartJob } from "./part-job.ts";
import { type Reference, scorePoint } from "./reference.ts";
import { type SweepContext, withPolicy } from "./sweep-context.ts";

/** Scores what is missing, each pair in a file of its own. @returns points that `phase` has counted afterwards */
export async function measurePairs({ context, folder, reference, phase, before }: PartJob): Promise<number> {
  const { settings, place, signal } = context;
  const { landscape } = settings;
  ensureFolder(pairsFolder(folder, place.step));
  let done = before;
  const { prompts, rollouts } = landscape.reference;
  for (const other of missingPairs(folder, place.step, landscape.steps, settings.shard)) {
    signal.throwIfAborted();
    const earlier = readEarlierPair(folder, place.step, other)?.reference ?? null;
    const known =
      earlier !== null && earlier.kl.length <= prompts && earlier.kl[0].length === rollouts ? earlier : null;
    const record = await scorePair(context, reference, other, place.folderOf(other), known);
    writeAtomic(pairPath(folder, place.step, other), `${JSON.stringify(record)}\n`);
    phase.moveTo(++done, `KL from step ${place.step} to step ${other}`);
  }
  const earlier = earlierPairsFolder(folder, place.step);
  explained(earlier, () => rmSync(earlier, { recursive: true, force: true }));
  return done;
}

/**
 * Scores the checkpoint's own completions under another one.
 * @param to     its step
 * @param place  its folder
 * @param known  the sums of the first prompts, which are not computed again
 */
export async function scorePair(
  context: SweepContext,
  reference: Reference,
  to: number,
  place: string,
  known: PairRecord["reference"] | null = null,
): Promise<PairRecord> {
  const { model, settings, signal, onTiming } = context;
  const { train, batch, landscape } = settings;
  const { backend, config } = model;
  const start = performance.now();
  let completions = 0;
  const loaded = await loadModel(backend, place, { forwardCopies: landscape.precision === "f32" });
  try {
    const their = { ...context, model: { backend, config, weights: loaded.weights } };
    const scored = await withPolicy(context, (own) =>
      withPolicy(their, (perturbed) =>
        scorePoint(own, perturbed, 0, reference, {
          ...{ maxTokens: batch.tokens, signal, clipLow: train.clipLow, clipHigh: train.clipHigh },
          known: () => known,
          onPass: (count) => {
            completions += count;
          },
        }),
      ),
    );
    return { schemaVersion: PAIR_SCHEMA_VERSION, from: context.place.step, to, reference: scored };
  } finally {
    loaded.weights.free();
    onTiming?.({ phase: "pairs", seconds: (performance.now() - start) / 1000, completions });
  }
}
