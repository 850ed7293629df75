// The mean over each sequence, for ratios of whole rollouts: 128 rollouts of 256 tokens, and a batch of the tiny model.
import type { Backend } from "../../../../engine/backends/backend.ts";
import { sequenceMean } from "../../../../engine/ops/loss/sequence-mean.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { expectSome, forwardWork, operand } from "../../../operands.ts";

function setUp(backend: Backend, sequences: number, length: number): BenchWork {
  const x = operand(backend, [sequences * length], 1, [-1, 1]);
  const lengths = new Array<number>(sequences).fill(length);
  return forwardWork(
    () => sequenceMean(x.tensor, lengths),
    (y) =>
      expectSome("mean", y, (i) => {
        const first = i - (i % length);
        let sum = 0;
        for (let t = first; t < first + length; t++) sum += x.at(t);
        return sum / length;
      }),
  );
}

const sizes = { "128 sequences of 256 tokens": [128, 256], "tiny, 64 sequences of 32 tokens": [64, 32] } as const;

export const cases: readonly BenchCase[] = Object.entries(sizes).map(([name, [sequences, length]]) => ({
  name: `sequenceMean ${name}`,
  flops: sequences * length,
  bytes: 4 * 3 * sequences * length,
  setUp: (backend: Backend) => setUp(backend, sequences, length),
}));
