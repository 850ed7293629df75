// Rotary embedding of the query heads of Qwen2.5-0.5B (14 of 64) and of the tiny model (4 of 16). Its gradient is the
// same kernel with the opposite rotation.
import type { Backend } from "../../../../engine/backends/backend.ts";
import { rope } from "../../../../engine/ops/rope/rope.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { backwardWork, expectSome, forwardWork, operand } from "../../../operands.ts";

function setUp(backend: Backend, T: number, H: number, D: number, isBackward: boolean): BenchWork {
  const x = operand(backend, [T, H, D], 1);
  const cos = operand(backend, [T, D / 2], 2);
  const sin = operand(backend, [T, D / 2], 3);
  const call = () => rope(x.tensor, cos.tensor, sin.tensor);
  const turned = (from: (place: number) => number, direction: number) => (i: number) => {
    const [t, d] = [Math.floor(i / (H * D)), i % D];
    const pair = t * (D / 2) + (d % (D / 2));
    const isLow = d < D / 2;
    const other = from(isLow ? i + D / 2 : i - D / 2);
    return from(i) * cos.at(pair) + direction * (isLow ? -1 : 1) * other * sin.at(pair);
  };
  if (!isBackward) return forwardWork(call, (y) => expectSome("y", y, turned(x.at, 1)));
  const dy = operand(backend, [T, H, D], 4);
  return backwardWork({ x: x.tensor }, call, dy.tensor, ({ x: dx }) => expectSome("dx", dx, turned(dy.at, -1)));
}

const sizes = [
  { name: "decode 0.5B", T: 16, H: 14, D: 64, training: false },
  { name: "0.5B", T: 256, H: 14, D: 64, training: true },
  { name: "0.5B", T: 1024, H: 14, D: 64, training: true },
  { name: "tiny", T: 448, H: 4, D: 16, training: true },
];

export const cases: readonly BenchCase[] = sizes.flatMap(({ name, T, H, D, training }) =>
  (training ? [false, true] : [false]).map((isBackward) => ({
    name: `rope ${isBackward ? "backward" : "forward"} ${name} ${T}×${H}×${D}`,
    flops: 3 * T * H * D,
    bytes: 4 * (2 * T * H * D + T * D),
    setUp: (backend: Backend) => setUp(backend, T, H, D, isBackward),
  })),
);
