// GRPO's loss and its gradient over the tokens of a batch: 128 rollouts of 256 tokens, and a batch of the tiny model.
import type { Backend } from "../../../../engine/backends/backend.ts";
import { type SurrogateSettings, surrogateOp } from "../../../../engine/ops/loss/surrogate.ts";
import { fromArray } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { backwardWork, expectSome, forwardWork, operand } from "../../../operands.ts";

const settings: SurrogateSettings = {
  kind: "clipped",
  clipLow: 0.2,
  clipHigh: 0.2,
  ratioLow: 0,
  ratioHigh: Number.POSITIVE_INFINITY,
  klCoefficient: 0,
};

function setUp(backend: Backend, N: number, isBackward: boolean): BenchWork {
  const logProbs = operand(backend, [N], 1, [-3, 0]);
  const oldLogProbs = operand(backend, [N], 2, [-3, 0]);
  const advantages = operand(backend, [N], 3, [0.5, 1.5]);
  const weights = operand(backend, [N], 4, [0, 2 / N]);
  const inputs = {
    logProbs: logProbs.tensor,
    oldLogProbs: oldLogProbs.tensor,
    logRatios: null,
    advantages: advantages.tensor,
    weights: weights.tensor,
    referenceLogProbs: null,
  };
  const call = () => surrogateOp(inputs, settings).loss;
  const ratio = (i: number): number => Math.exp(logProbs.at(i) - oldLogProbs.at(i));
  if (!isBackward)
    return forwardWork(call, (loss) => {
      let sum = 0;
      // Advantages are positive: clipping is from above only.
      for (let i = 0; i < N; i++) sum -= weights.at(i) * Math.min(ratio(i), 1 + settings.clipHigh) * advantages.at(i);
      return expectSome("loss", loss, () => sum);
    });
  const one = fromArray(backend, [1], [1]);
  return backwardWork({ logProbs: logProbs.tensor }, call, one, (gradients) =>
    expectSome("dLogProbs", gradients.logProbs, (i) =>
      ratio(i) < 1 + settings.clipHigh ? -weights.at(i) * ratio(i) * advantages.at(i) : 0,
    ),
  );
}

const sizes = { "32,768 tokens": 32_768, "tiny, 2048 tokens": 2048 };

export const cases: readonly BenchCase[] = Object.entries(sizes).flatMap(([name, N]) =>
  [false, true].map((isBackward) => ({
    name: `surrogate ${isBackward ? "backward" : "forward"} ${name}`,
    flops: 8 * N,
    bytes: 4 * N * (isBackward ? 5 : 7),
    setUp: (backend: Backend) => setUp(backend, N, isBackward),
  })),
);
