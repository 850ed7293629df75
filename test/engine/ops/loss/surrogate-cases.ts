// The surrogate loss of a batch of tokens on each backend, for its tests.
import { GradientMap, record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { type SurrogateSettings, surrogateOp } from "../../../../engine/ops/loss/surrogate.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, type Tensor } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
export const usual: SurrogateSettings = {
  kind: "clipped",
  clipLow: 0.2,
  clipHigh: 0.2,
  ratioLow: 0.125,
  ratioHigh: 8,
  klCoefficient: 0,
};

export interface Tokens {
  logProbs: ArrayLike<number>;
  oldLogProbs: ArrayLike<number>;
  advantages: ArrayLike<number>;
  weights: ArrayLike<number>;
  referenceLogProbs?: ArrayLike<number>;
}

export interface Outcome {
  loss: number;
  gradient: NumberArray;
  objective: NumberArray;
  ratio: NumberArray;
  penalty: NumberArray;
}

/** The loss with its per-token outputs, and its gradient. */
export function evaluate(
  backend: Backend,
  tokens: Tokens,
  settings: SurrogateSettings,
  dtype: "f32" | "f64" = "f32",
): Promise<Outcome> {
  return scopeAsync(async () => {
    const give = (values: ArrayLike<number>): Tensor => fromArray(backend, values, [values.length], dtype);
    const logProbs = give(tokens.logProbs);
    logProbs.requiresGradient = true;
    const inputs = {
      logProbs,
      oldLogProbs: give(tokens.oldLogProbs),
      logRatios: null,
      advantages: give(tokens.advantages),
      weights: give(tokens.weights),
      referenceLogProbs: tokens.referenceLogProbs === undefined ? null : give(tokens.referenceLogProbs),
    };
    const recording = record(() => surrogateOp(inputs, settings));
    const { loss, objective, ratio, penalty } = recording.result;
    const gradients = new GradientMap([logProbs]);
    recording.backward(new Map([[loss, give([1])]]), gradients);
    const gradient = await gradients.get(logProbs)?.read();
    gradients.free();
    return {
      loss: (await loss.read())[0],
      gradient: gradient ?? new Float64Array(),
      objective: await objective.read(),
      ratio: await ratio.read(),
      penalty: await penalty.read(),
    };
  });
}

export async function everyBackend(): Promise<{ name: string; backend: Backend; dtype: "f32" | "f64" }[]> {
  const others = (await testBackends()).map((found) => ({ ...found, dtype: "f32" as const }));
  return [{ name: "plain f64", backend: reference, dtype: "f64" }, ...others];
}
