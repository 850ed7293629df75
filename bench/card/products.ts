// The three products of a linear layer by the public op, as the model calls it: x · Wᵀ, dy · W and dyᵀ · x, with f32 and
// with f16 operands. In f16, rounding dy is part of a backward product, as it is in training.
import { linear, type Parameter, ParameterArena, record, scope, type Tensor } from "../../engine/index.ts";
import { empty } from "../../engine/tensor.ts";
import { Numbers } from "./numbers.ts";
import { type Bench, type Case, type Measured, type Part, type PartOf, readRows, spread } from "./part.ts";

const passes = ["forward", "input", "weight"] as const;
type Pass = (typeof passes)[number];
type Size = readonly [T: number, C: number, O: number];
type Precision = "f32" | "f16";

const tolerance = 2e-5;
const [checkedRows, checkedColumns] = [12, 16];

/** A weight as a model holds it, with the copies that its products read. */
function weightOf(bench: Bench, numbers: Numbers, [, C, O]: Size, precision: Precision): ParameterArena {
  const halfCopies = precision === "f16";
  const entry = { shape: [O, C], isLinear: true, forwardCopy: true, halfCopies };
  const arena = new ParameterArena(bench.backend, new Map([["weight", entry]]));
  arena.load("weight", numbers.array(O * C));
  arena.refreshCopies();
  return arena;
}

async function measure(bench: Bench, pass: Pass, size: Size, precision: Precision): Promise<Measured> {
  const [T, C, O] = size;
  const [xs, weights, dys] = [new Numbers(1), new Numbers(2), new Numbers(3)];
  const arena = weightOf(bench, weights, size, precision);
  try {
    const parameter: Parameter = arena.get("weight");
    if (parameter.kind !== "tensor") throw new Error("products: an arena holds plain tensors");
    const x = xs.tensor(bench.backend, [T, C]);
    const at = (numbers: Numbers, index: number): number =>
      precision === "f32" ? numbers.at(index) : numbers.halfAt(index);
    if (pass === "forward") {
      // In f16 this call rounds x, and its copy lives as long as x: the timed runs find it.
      const y = linear(x, parameter);
      const time = await bench.time(() => scope(() => void linear(x, parameter)));
      return {
        ...time,
        checked: await check(bench, "y", y, C, (t, o, c) => at(xs, t * C + c) * at(weights, o * C + c)),
      };
    }
    const dy = dys.tensor(bench.backend, [T, O]);
    const leaf = pass === "input" ? x : parameter.tensor;
    leaf.requiresGradient = true;
    const recording = record(() => linear(x, parameter));
    const target = empty(bench.backend, leaf.shape);
    const store = {
      target: (tensor: Tensor) => (tensor === leaf ? target : undefined),
      has: () => false,
      mark: () => {},
    };
    const seeds = new Map([[recording.result, dy]]);
    const time = await bench.time(() => recording.backward(seeds, store));
    const checked =
      pass === "input"
        ? await check(bench, "dx", target, O, (t, c, o) => at(dys, t * O + o) * at(weights, o * C + c))
        : await check(bench, "dW", target, T, (o, c, t) => at(dys, t * O + o) * at(xs, t * C + c));
    return { ...time, checked };
  } finally {
    arena.free();
  }
}

async function check(
  bench: Bench,
  what: string,
  result: Tensor,
  count: number,
  term: (row: number, column: number, k: number) => number,
): Promise<string> {
  const rows = spread(result.rows, checkedRows);
  const columns = spread(result.rowSize, checkedColumns);
  const [found, expected]: [number[], number[]] = [[], []];
  for (const [i, values] of (await readRows(result, rows)).entries())
    for (const column of columns) {
      let sum = 0;
      for (let k = 0; k < count; k++) sum += term(rows[i], column, k);
      found.push(values[column]);
      expected.push(sum);
    }
  return bench.compare(what, found, expected, tolerance);
}

function productCase(pass: Pass, name: string, size: Size, precision: Precision): Case {
  const [T, C, O] = size;
  const [operands, result] = {
    forward: [T * C + O * C, T * O],
    input: [T * O + O * C, T * C],
    weight: [T * O + T * C, O * C],
  }[pass];
  return {
    name: `${pass} ${precision} ${name} ${T}×${C}×${O}`,
    flops: 2 * T * C * O,
    bytes: (precision === "f32" ? 4 : 2) * operands + 4 * result,
    peer: { kind: "product", pass, precision, T, C, O },
    missing: ({ hasHalf }) => (precision === "f16" && !hasHalf ? "the adapter has no f16" : null),
    measure: (bench) => measure(bench, pass, size, precision),
  };
}

const precisions = ["f32", "f16"] as const;

export const products: PartOf = ({ products: { layers, decodeRows, trainingRows } }): Part => {
  const cases = (rows: number, wanted: readonly Pass[]): Case[] =>
    layers.flatMap(({ name, inputs, outputs }) =>
      wanted.flatMap((pass) =>
        precisions.map((precision) => productCase(pass, name, [rows, inputs, outputs], precision)),
      ),
    );
  const [first, ...others] = trainingRows;
  return {
    cases: [
      ...cases(first, passes),
      ...decodeRows.flatMap((rows) => cases(rows, ["forward"])),
      ...others.flatMap((rows) => cases(rows, passes)),
    ],
  };
};

/** The products that set a ceiling, beside the copies: the largest layer in training. */
export function ceilingProducts({ products: { layers, trainingRows } }: Parameters<PartOf>[0]): Case[] {
  const [{ name, inputs, outputs }] = layers;
  const rows = Math.max(...trainingRows);
  return precisions.flatMap((precision) =>
    passes.map((pass) => productCase(pass, name, [rows, inputs, outputs], precision)),
  );
}
