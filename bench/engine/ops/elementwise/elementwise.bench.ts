// The residual sum of Qwen2.5-0.5B (896 wide) and of the tiny model (64).
import type { Backend } from "../../../../engine/backends/backend.ts";
import { add } from "../../../../engine/ops/elementwise/elementwise.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { expectSome, forwardWork, operand } from "../../../operands.ts";

function setUp(backend: Backend, T: number, C: number): BenchWork {
  const [a, b] = [operand(backend, [T, C], 1), operand(backend, [T, C], 2)];
  return forwardWork(
    () => add(a.tensor, b.tensor),
    (y) => expectSome("y", y, (i) => a.at(i) + b.at(i)),
  );
}

const sizes = [
  { name: "0.5B", T: 256, C: 896 },
  { name: "0.5B", T: 1024, C: 896 },
  { name: "tiny", T: 448, C: 64 },
];

export const cases: readonly BenchCase[] = sizes.map(({ name, T, C }) => ({
  name: `add ${name} ${T}×${C}`,
  flops: T * C,
  bytes: 4 * 3 * T * C,
  setUp: (backend: Backend) => setUp(backend, T, C),
}));
