// The three products of a linear layer, at the shapes of the embedded tiny model (a training batch of 448 rows, a
// scoring batch of 4096), of Qwen2.5-0.5B (256 and 1024 rows of training, 1 to 256 rows of decoding) and of SmolLM2-135M
// (decoding). Forward products read the weight from panels that were packed before, as a parameter stores them.
import type { Backend } from "../../../../engine/backends/backend.ts";
import {
  multiplyForward,
  multiplyInput,
  multiplyWeight,
  packPanels,
  panelShape,
} from "../../../../engine/ops/matmul/matmul.ts";
import { empty, fromArray, type Shape, sizeOf, type Tensor } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";

/** Rows, inputs, outputs. */
type Size = readonly [T: number, C: number, O: number];
export const products = ["forward", "input", "weight"] as const;
type Product = (typeof products)[number];

/**
 * Small pseudo-random integers: their products sum exactly in f32, so every element of a result is checked for
 * equality.
 */
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

/** Compares up to 20,000 elements with their exact sums. They are spread over the result and include the last ones. */
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
const all = products;
const forwardOnly = ["forward"] as const;
interface Wanted {
  name: string;
  size: Size;
  wanted: readonly Product[];
  heavy?: boolean;
}
const sizes: readonly Wanted[] = [
  ...[448, 4096].flatMap((T) =>
    tiny.map(([name, C, O]) => ({ name: `tiny ${name}`, size: [T, C, O] as const, wanted: all, heavy: T === 4096 })),
  ),
  { name: "decode tiny gate, up", size: [64, 64, 192], wanted: forwardOnly },
  { name: "0.5B gate, up", size: [256, 896, 4864], wanted: all },
  { name: "0.5B down", size: [256, 4864, 896], wanted: all },
  { name: "0.5B q, o", size: [256, 896, 896], wanted: all },
  { name: "0.5B gate, up", size: [1024, 896, 4864], wanted: all, heavy: true },
  { name: "0.5B down", size: [1024, 4864, 896], wanted: all, heavy: true },
  ...[1, 4, 8, 16, 256].map((T) => ({
    name: "decode 0.5B gate, up",
    size: [T, 896, 4864] as const,
    wanted: forwardOnly,
    heavy: T === 256, // the same product as in training
  })),
  ...[1, 16].map((T) => ({ name: "decode 0.5B down", size: [T, 4864, 896] as const, wanted: forwardOnly })),
  ...[1, 4, 8, 16].flatMap((T) => [
    { name: "decode SmolLM2 gate, up", size: [T, 576, 1536] as const, wanted: forwardOnly },
    { name: "decode SmolLM2 down", size: [T, 1536, 576] as const, wanted: forwardOnly },
  ]),
  { name: "square", size: [1024, 1024, 1024], wanted: forwardOnly },
  { name: "square", size: [1024, 1024, 1024], wanted: ["input", "weight"], heavy: true },
];

export function productCase(product: Product, name: string, size: Size, heavy = false): BenchCase {
  const [T, C, O] = size;
  return {
    name: `${product} ${name} ${T}×${C}×${O}`,
    flops: 2 * T * C * O,
    bytes: 4 * (T * C + O * C + T * O),
    heavy,
    setUp: (backend: Backend) => setUp(product, backend, size),
  };
}

export const cases: readonly BenchCase[] = sizes.flatMap(({ name, size, wanted, heavy }) =>
  wanted.map((product) => productCase(product, name, size, heavy)),
);
