// The three products of a linear layer, at the shapes of the embedded tiny model (a training batch of 448 rows, a scoring
// batch of 4096) and of Qwen2.5-0.5B (256 rows of training, 1 and 16 rows of decoding).
import type { Backend } from "../../../engine/backend.ts";
import { multiplyForward, multiplyInput, multiplyWeight, packPanels, panelShape } from "../../../engine/ops/matmul.ts";
import { empty, fromArray, type Shape, sizeOf, type Tensor } from "../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../harness.ts";

/** Rows, inputs, outputs. */
type Size = readonly [T: number, C: number, O: number];
type Product = "forward" | "input" | "weight";

/** Small whole numbers in no order: their products sum exactly in f32, so every element of a result is checked for equality. */
function operand(backend: Backend, shape: Shape, seed: number): Tensor {
  return fromArray(
    backend,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => element(i, seed)),
    shape,
  );
}
function element(i: number, seed: number): number {
  return (Math.imul(i + seed, 2654435761) >>> 28) - 7;
}

function setUp(product: Product, backend: Backend, [T, C, O]: Size): BenchWork {
  const shapes = { x: [T, C], weight: [O, C], y: [T, O] };
  const x = (i: number) => element(i, 1);
  const weight = (i: number) => element(i, 2);
  const dy = (i: number) => element(i, 3);
  switch (product) {
    case "forward": {
      const [left, right, y] = [
        operand(backend, shapes.x, 1),
        operand(backend, shapes.weight, 2),
        empty(backend, shapes.y),
      ];
      const panels = empty(backend, panelShape(O, C));
      packPanels(right, panels);
      return {
        run: () => multiplyForward(left, panels, null, y),
        check: () => checkSome(y, C, (t, o, c) => x(t * C + c) * weight(o * C + c)),
      };
    }
    case "input": {
      const [left, right, dx] = [
        operand(backend, shapes.y, 3),
        operand(backend, shapes.weight, 2),
        empty(backend, shapes.x),
      ];
      return {
        run: () => multiplyInput(left, right, { tensor: dx, add: false }),
        check: () => checkSome(dx, O, (t, c, o) => dy(t * O + o) * weight(o * C + c)),
      };
    }
    case "weight": {
      const [left, right, dWeight] = [
        operand(backend, shapes.y, 3),
        operand(backend, shapes.x, 1),
        empty(backend, shapes.weight),
      ];
      return {
        run: () => multiplyWeight(left, right, { tensor: dWeight, add: false }),
        check: () => checkSome(dWeight, T, (o, c, t) => dy(t * O + o) * x(t * C + c)),
      };
    }
    default:
      return product satisfies never;
  }
}

/** Compares up to 20,000 elements, spread over the result and its last ones among them, with their sums. */
async function checkSome(
  result: Tensor,
  count: number,
  term: (i: number, j: number, k: number) => number,
): Promise<void> {
  const found = await result.read();
  const [rows, columns] = result.shape;
  const step = Math.max(1, Math.floor((rows * columns) / 20_000));
  for (let place = rows * columns - 1; place >= 0; place -= step) {
    const [i, j] = [Math.floor(place / columns), place % columns];
    let sum = 0;
    for (let k = 0; k < count; k++) sum += term(i, j, k);
    if (found[place] !== sum) throw new Error(`element [${i},${j}]: expected ${sum}, got ${found[place]}`);
  }
}

const tiny: readonly (readonly [name: string, C: number, O: number])[] = [
  ["q, o", 64, 64],
  ["k, v", 64, 32],
  ["gate, up", 64, 192],
  ["down", 192, 64],
  ["head", 64, 371],
];
const sizes: readonly { name: string; size: Size; products: readonly Product[] }[] = [
  ...[448, 4096].flatMap((T) =>
    tiny.map(([name, C, O]) => ({
      name: `tiny ${name}`,
      size: [T, C, O] as const,
      products: ["forward", "input", "weight"] as const,
    })),
  ),
  { name: "decode tiny gate, up", size: [64, 64, 192], products: ["forward"] },
  { name: "0.5B gate, up", size: [256, 896, 4864], products: ["forward", "input", "weight"] },
  { name: "0.5B down", size: [256, 4864, 896], products: ["forward", "input", "weight"] },
  { name: "0.5B q, o", size: [256, 896, 896], products: ["forward", "input", "weight"] },
  { name: "decode 0.5B gate, up", size: [1, 896, 4864], products: ["forward"] },
  { name: "decode 0.5B gate, up", size: [4, 896, 4864], products: ["forward"] },
  { name: "decode 0.5B gate, up", size: [8, 896, 4864], products: ["forward"] },
  { name: "decode 0.5B gate, up", size: [16, 896, 4864], products: ["forward"] },
  { name: "square", size: [1024, 1024, 1024], products: ["forward", "input", "weight"] },
];

export const cases: readonly BenchCase[] = sizes.flatMap(({ name, size, products }) =>
  products.map((product) => {
    const [T, C, O] = size;
    return {
      name: `${product} ${name} ${T}×${C}×${O}`,
      flops: 2 * T * C * O,
      bytes: 4 * (T * C + O * C + T * O),
      setUp: (backend: Backend) => setUp(product, backend, size),
    };
  }),
);
