// KL from the checkpoint at any point around it, on the checkpoint's own completions: a scoring pass, and no rollout.
import type { DirectionStep } from "../../engine/index.ts";
import { sumOf } from "./directions/direction.ts";
import { pointWeights } from "./perturbed-weights.ts";
import { type Reference, scorePoint } from "./reference.ts";
import { type SweepContext, withPolicy } from "./sweep-context.ts";

/** KL(π_θ ‖ π_point), nats per token, where `stepsTo` gives the steps from a tensor of the checkpoint to that of the point. */
export type KlAt = (stepsTo: (name: string) => readonly DirectionStep[]) => Promise<number>;

/** Runs `body` with one set of perturbed weights in memory. */
export function withKlAt<T>(context: SweepContext, reference: Reference, body: (klAt: KlAt) => Promise<T>): Promise<T> {
  const { model, settings, signal } = context;
  const { landscape, batch, train } = settings;
  const scoring = { maxTokens: batch.tokens, signal, clipLow: train.clipLow, clipHigh: train.clipHigh };
  const tokens = sumOf(reference.rollouts.map((rollout) => rollout.tokens));
  return withPolicy(context, async (policy) => {
    const weights = pointWeights(model.weights, 1, landscape);
    const perturbed = { backend: model.backend, config: model.config, weights };
    try {
      return await body(async (stepsTo) => {
        weights.placeAlong([stepsTo]);
        const { kl } = await scorePoint(policy, perturbed, 0, reference, scoring);
        return sumOf(kl.flat()) / Math.max(1, tokens);
      });
    } finally {
      weights.free();
    }
  });
}
