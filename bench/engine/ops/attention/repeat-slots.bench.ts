// Repeating keys and values of tokens that several conversations have in common: the shared beginnings of 16 rollouts of
// Qwen2.5-0.5B (2 heads of 64), and a pass of the tiny study's sweep (2 heads of 16).
import type { Backend } from "../../../../engine/backends/backend.ts";
import { repeatSlots } from "../../../../engine/ops/attention/repeat-slots.ts";
import { fromArray, type Tensor } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { expectSome, operand } from "../../../operands.ts";

function setUp(backend: Backend, N: number, repeats: number, K: number, D: number): BenchWork {
  const distinct = Math.ceil(N / repeats);
  const S = distinct + N;
  const [keys, values] = [operand(backend, [S, K, D], 1), operand(backend, [S, K, D], 2)];
  // One conversation after another, each with all shared tokens.
  const from = Uint32Array.from({ length: N }, (_, c) => c % distinct);
  const to = Uint32Array.from({ length: N }, (_, c) => distinct + c);
  const slots = (places: Uint32Array): Tensor => fromArray(backend, places, [N], "u32");
  const [sources, targets] = [slots(from), slots(to)];
  const width = K * D;
  return {
    run: () => repeatSlots(keys.tensor, values.tensor, sources, targets),
    check: async () => {
      for (let c = 0; c < N; c += Math.ceil(N / 16)) {
        const of = (at: (place: number) => number) => (i: number) => at(from[c] * width + i);
        await expectSome(`keys of copy ${c}`, keys.tensor.sliceRows(to[c], 1), of(keys.at), 0);
        await expectSome(`values of copy ${c}`, values.tensor.sliceRows(to[c], 1), of(values.at), 0);
      }
    },
  };
}

const sizes = [
  { name: "0.5B", N: 4096, repeats: 15, K: 2, D: 64 },
  { name: "tiny", N: 2400, repeats: 2, K: 2, D: 16 },
];

export const cases: readonly BenchCase[] = sizes.map(({ name, N, repeats, K, D }) => ({
  name: `repeat slots ${name}, ${N} copies`,
  flops: 0,
  bytes: 4 * 4 * N * K * D,
  setUp: (backend: Backend) => setUp(backend, N, repeats, K, D),
}));
