// Root-mean-square norms of Qwen2.5-0.5B (training at 256 and 1024 tokens, decoding 1, 16 and 256 rows) and of the tiny model.
import type { Backend } from "../../../../engine/backends/backend.ts";
import { rmsNormOp } from "../../../../engine/ops/rms-norm/rms-norm.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { backwardWork, expectSome, forwardWork, operand } from "../../../operands.ts";

const eps = 1e-6;

function setUp(backend: Backend, T: number, C: number, isBackward: boolean): BenchWork {
  const x = operand(backend, [T, C], 1);
  const weight = operand(backend, [C], 2, [0.5, 1.5]);
  const call = () => rmsNormOp({ x: x.tensor, weight: weight.tensor }, { eps }).y;
  const inverseRms = (t: number): number => {
    let squares = 0;
    for (let c = 0; c < C; c++) squares += x.at(t * C + c) ** 2;
    return 1 / Math.sqrt(squares / C + eps);
  };
  if (!isBackward)
    return forwardWork(call, (y) =>
      expectSome("y", y, (i) => x.at(i) * inverseRms(Math.floor(i / C)) * weight.at(i % C)),
    );
  const dy = operand(backend, [T, C], 3);
  return backwardWork({ x: x.tensor, weight: weight.tensor }, call, dy.tensor, async (gradients) => {
    // dx = r · (dy·w − x · r² · mean(dy·w·x))
    await expectSome("dx", gradients.x, (i) => {
      const t = Math.floor(i / C);
      const r = inverseRms(t);
      let dot = 0;
      for (let c = 0; c < C; c++) dot += dy.at(t * C + c) * weight.at(c) * x.at(t * C + c);
      return r * (dy.at(i) * weight.at(i % C) - (x.at(i) * r * r * dot) / C);
    });
    const expected = new Float64Array(C);
    for (let t = 0; t < T; t++) {
      const r = inverseRms(t);
      for (let c = 0; c < C; c++) expected[c] += dy.at(t * C + c) * x.at(t * C + c) * r;
    }
    await expectSome("dweight", gradients.weight, (c) => expected[c]);
  });
}

const sizes = [
  { name: "decode 0.5B", T: 1, C: 896, training: false },
  { name: "decode 0.5B", T: 16, C: 896, training: false },
  { name: "0.5B", T: 256, C: 896, training: true },
  { name: "0.5B", T: 1024, C: 896, training: true },
  { name: "tiny", T: 448, C: 64, training: true },
];

export const cases: readonly BenchCase[] = sizes.flatMap(({ name, T, C, training }) =>
  (training ? [false, true] : [false]).map((isBackward) => ({
    name: `rmsNorm ${isBackward ? "backward" : "forward"} ${name} ${T}×${C}`,
    flops: (isBackward ? 11 : 4) * T * C,
    bytes: 4 * T * C * (isBackward ? 3 : 2),
    setUp: (backend: Backend) => setUp(backend, T, C, isBackward),
  })),
);
