// The gated activation between the MLP's products, of Qwen2.5-0.5B (4864 wide) and of the tiny model (192).
import type { Backend } from "../../../../engine/backends/backend.ts";
import { swiglu } from "../../../../engine/ops/swiglu/swiglu.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { backwardWork, expectSome, forwardWork, operand } from "../../../operands.ts";

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

function setUp(backend: Backend, T: number, F: number, isBackward: boolean): BenchWork {
  const gate = operand(backend, [T, F], 1, [-4, 4]);
  const up = operand(backend, [T, F], 2);
  const call = () => swiglu(gate.tensor, up.tensor);
  if (!isBackward)
    return forwardWork(call, (y) => expectSome("y", y, (i) => gate.at(i) * sigmoid(gate.at(i)) * up.at(i)));
  const dy = operand(backend, [T, F], 3);
  return backwardWork({ gate: gate.tensor, up: up.tensor }, call, dy.tensor, async (gradients) => {
    await expectSome("dgate", gradients.gate, (i) => {
      const s = sigmoid(gate.at(i));
      return dy.at(i) * up.at(i) * s * (1 + gate.at(i) * (1 - s));
    });
    await expectSome("dup", gradients.up, (i) => dy.at(i) * gate.at(i) * sigmoid(gate.at(i)));
  });
}

const sizes = [
  { name: "decode 0.5B", T: 16, F: 4864, training: false },
  { name: "0.5B", T: 256, F: 4864, training: true },
  { name: "0.5B", T: 1024, F: 4864, training: true },
  { name: "tiny", T: 448, F: 192, training: true },
];

export const cases: readonly BenchCase[] = sizes.flatMap(({ name, T, F, training }) =>
  (training ? [false, true] : [false]).map((isBackward) => ({
    name: `swiglu ${isBackward ? "backward" : "forward"} ${name} ${T}×${F}`,
    flops: (isBackward ? 12 : 5) * T * F,
    bytes: 4 * T * F * (isBackward ? 5 : 3),
    setUp: (backend: Backend) => setUp(backend, T, F, isBackward),
  })),
);
