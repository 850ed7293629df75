// A perturbed copy of a weight along two directions that the kernel generates, in both layouts. A landscape's sweep
// makes one per weight and grid point. Shapes: the MLP's gate of Qwen2.5-0.5B and of the tiny model.
import type { Backend } from "../../../../engine/backends/backend.ts";
import { panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { perturbIntoSlot } from "../../../../engine/ops/perturbation/perturb.ts";
import { directionNormals, philoxKey, wordsOf } from "../../../../engine/random.ts";
import { empty } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { expectSome, operand } from "../../../operands.ts";

function setUp(backend: Backend, O: number, C: number, withRows: boolean): BenchWork {
  const weight = operand(backend, [O, C], 1);
  const rows = withRows ? empty(backend, [O, C]) : null;
  const panels = empty(backend, panelShape(O, C));
  const perturbation = {
    deltaKey: philoxKey("direction|1|0|delta"),
    etaKey: philoxKey("direction|1|0|eta"),
    nameWords: wordsOf("gate"),
    a: 0.3,
    b: -0.2,
  };
  const { deltaKey, etaKey, nameWords, a, b } = perturbation;
  const normal = (key: typeof deltaKey, i: number): number => directionNormals(key, nameWords, 1, i)[0];
  const expected = (i: number): number => weight.at(i) + a * normal(deltaKey, i) + b * normal(etaKey, i);
  return {
    run: () => perturbIntoSlot(weight.tensor, { rows, panels }, perturbation),
    check: async () => {
      if (rows !== null) await expectSome("rows", rows, expected, 4e-6);
      await expectSome(
        "panels",
        panels,
        (place) => {
          const [panel, c, lane] = [Math.floor(place / (8 * C)), Math.floor(place / 8) % C, place % 8];
          return expected((8 * panel + lane) * C + c);
        },
        4e-6,
      );
    },
  };
}

const sizes = [
  { name: "0.5B gate", O: 4864, C: 896 },
  { name: "tiny gate", O: 192, C: 64 },
];

export const cases: readonly BenchCase[] = sizes.flatMap(({ name, O, C }) =>
  [true, false].map((withRows) => ({
    name: `perturb into ${withRows ? "rows and panels" : "panels"} ${name} ${O}×${C}`,
    // Two products and sums; the work of the random numbers (20 rounds of integers, two polynomials) is not counted.
    flops: 4 * O * C,
    bytes: 4 * O * C * (withRows ? 4 : 2),
    setUp: (backend: Backend) => setUp(backend, O, C, withRows),
  })),
);
