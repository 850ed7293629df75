// Mixed precision: the three products of a linear layer with f16 operands, at shapes of linear.bench.ts, and the cost
// of rounding their operands. Each line ends with the tile that was used: on adapters with matrix units those.
import type { Backend } from "../../../../engine/backends/backend.ts";
import { f16ToF32, f32ToF16 } from "../../../../engine/dtype-conversion.ts";
import { packHalfPanels, toHalf, writeHalf } from "../../../../engine/ops/matmul/half.ts";
import { multiplyForward, multiplyInput, multiplyWeight, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { describeForm, ownForm } from "../../../../engine/ops/matmul/matrix-tiles.ts";
import { chooseTile } from "../../../../engine/ops/matmul/tiles.ts";
import { empty } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { expectSome, operand } from "../../../operands.ts";

/** Rows, inputs, outputs. */
type Size = readonly [T: number, C: number, O: number];
const products = ["forward", "input", "weight"] as const;
type Product = (typeof products)[number];

function setUp(product: Product, backend: Backend, [T, C, O]: Size): BenchWork {
  const x = operand(backend, [T, C], 1);
  const weight = operand(backend, [O, C], 2);
  const dy = operand(backend, [T, O], 3);
  const rounded =
    ({ at }: { at: (place: number) => number }) =>
    (place: number): number =>
      f16ToF32(f32ToF16(at(place)));
  const [atX, atWeight, atDy] = [x, weight, dy].map(rounded);
  const sum = (count: number, term: (k: number) => number): number => {
    let total = 0;
    for (let k = 0; k < count; k++) total += term(k);
    return total;
  };
  const split = (place: number, width: number): [number, number] => [Math.floor(place / width), place % width];
  switch (product) {
    case "forward": {
      const panels = empty(backend, panelShape(O, C), "f16");
      packHalfPanels(weight.tensor, panels);
      const [left, y] = [toHalf(x.tensor), empty(backend, [T, O])];
      return {
        run: () => multiplyForward(left, panels, null, y),
        check: () =>
          expectSome("y", y, (place) => {
            const [t, o] = split(place, O);
            return sum(C, (c) => atX(t * C + c) * atWeight(o * C + c));
          }),
      };
    }
    case "input": {
      const [left, right, tensor] = [toHalf(dy.tensor), toHalf(weight.tensor), empty(backend, [T, C])];
      return {
        run: () => multiplyInput(left, right, { tensor, add: false }),
        check: () =>
          expectSome("dx", tensor, (place) => {
            const [t, c] = split(place, C);
            return sum(O, (o) => atDy(t * O + o) * atWeight(o * C + c));
          }),
      };
    }
    case "weight": {
      const [left, right, tensor] = [toHalf(dy.tensor), toHalf(x.tensor), empty(backend, [O, C])];
      return {
        run: () => multiplyWeight(left, right, { tensor, add: false }),
        check: () =>
          expectSome("dWeight", tensor, (place) => {
            const [o, c] = split(place, C);
            return sum(T, (t) => atDy(t * O + o) * atX(t * C + c));
          }),
      };
    }
    default:
      return product satisfies never;
  }
}

/** The tile that the product takes; all sizes here are in fours. */
function tileOf(backend: Backend, product: Product, [T, C]: Size): string {
  const form = ownForm(backend);
  if (form !== null) return describeForm(form);
  const { tile, constants } = chooseTile(backend, product, "f16", product === "weight" ? C : T, true);
  return [`tile "${tile}"`, ...Object.entries(constants).map(([name, value]) => `${name} ${value}`)].join(", ");
}

/** Rounds x; a product with the identity then shows the written values. */
function roundWork(backend: Backend, [T, C]: readonly [number, number]): BenchWork {
  const x = operand(backend, [T, C], 1);
  const half = empty(backend, [T, C], "f16");
  const identity = empty(backend, [C, C]);
  identity.write(Float32Array.from({ length: C * C }, (_, i) => (i % (C + 1) === 0 ? 1 : 0)));
  const panels = empty(backend, panelShape(C, C), "f16");
  packHalfPanels(identity, panels);
  const y = empty(backend, [T, C]);
  return {
    run: () => writeHalf(x.tensor, half),
    check: () => {
      multiplyForward(half, panels, null, y);
      return expectSome("half", y, (place) => f16ToF32(f32ToF16(x.at(place))), 0);
    },
  };
}

const sizes: readonly { name: string; size: Size; wanted: readonly Product[] }[] = [
  { name: "tiny gate, up", size: [448, 64, 192], wanted: products },
  { name: "0.5B gate, up", size: [256, 896, 4864], wanted: products },
  { name: "decode 0.5B gate, up", size: [1, 896, 4864], wanted: ["forward"] },
  { name: "decode 0.5B gate, up", size: [16, 896, 4864], wanted: ["forward"] },
];

export const cases: readonly BenchCase[] = [
  ...sizes.flatMap(({ name, size, wanted }) =>
    wanted.map((product) => {
      const [T, C, O] = size;
      return {
        name: `${product} f16 ${name} ${T}×${C}×${O}`,
        flops: 2 * T * C * O,
        bytes: 2 * (T * C + O * C + T * O) + 2 * { forward: T * O, input: T * C, weight: O * C }[product], // result in f32
        setUp: (backend: Backend) => ({ ...setUp(product, backend, size), choice: tileOf(backend, product, size) }),
      };
    }),
  ),
  {
    name: "round to f16 256×896",
    flops: 0,
    bytes: 6 * 256 * 896,
    setUp: (backend) => roundWork(backend, [256, 896]),
  },
];
