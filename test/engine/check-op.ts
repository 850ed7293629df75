// `checkOp`: what every op must show. For each case it holds
//   the shape rule against the real output,
//   gradients against central differences, both in float64 on the plain backend,
//   each backend's outputs and gradients against those float64 values,
//   every subset of upstream gradients, gradients assigned onto NaN and added onto random numbers,
//   the same bits twice, and no buffer left behind.

import { backward, type GradientStore, record } from "../../engine/autograd.ts";
import type { Backend } from "../../engine/backend.ts";
import { type DType, isFloat, type NumberArray } from "../../engine/dtype.ts";
import type { Op } from "../../engine/op.ts";
import { scopeAsync } from "../../engine/scope.ts";
import { fromArray, type Shape, sizeOf, type Tensor } from "../../engine/tensor.ts";
import { reference, testBackends } from "../backends.ts";
import { assertClose, type Test, type Tolerance } from "../support.ts";

/** A shape of normal numbers, or values given in full, or numbers of another spread. */
export type InputSpec =
  | readonly number[]
  | { shape: Shape; scale?: number; mean?: number }
  | { shape: Shape; values: ArrayLike<number>; dtype?: DType };

export interface OpCase<I extends string, Settings> {
  inputs: { [K in I]?: InputSpec };
  settings?: Settings;
  /** Overrides the op's tolerance for this case, with its reason in a comment. */
  tolerance?: OpTolerance;
}

export interface OpTolerance {
  forward: Tolerance;
  gradient: Tolerance;
}

export interface CheckOptions<I extends string, Settings> {
  settings: Settings;
  cases: Record<string, OpCase<I, Settings> | { [K in I]?: InputSpec }>;
  /** f32 against float64. */
  tolerance: OpTolerance;
  /** Central differences against the vjp, both float64: relative to the gradient's scale. Default 1e-6. */
  differenceTolerance?: number;
  /** Outputs that have no derivative worth checking (saved tensors). */
  skipUpstream?: readonly string[];
}

/** Seeded normals rounded to f32, so that every backend starts from the same bits. */
export function normals(seed: number, count: number, scale = 1, mean = 0): Float64Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++)
    values[i] = Math.fround(mean + scale * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
  return values;
}

interface Given {
  values: ArrayLike<number>;
  shape: Shape;
  dtype: DType;
}

function realise(name: string, spec: InputSpec, seed: number): Given {
  if (!("shape" in spec)) return { values: normals(seed, sizeOf(spec)), shape: spec, dtype: "f32" };
  if ("values" in spec) return { values: spec.values, shape: spec.shape, dtype: spec.dtype ?? "f32" };
  void name;
  return { values: normals(seed, sizeOf(spec.shape), spec.scale, spec.mean), shape: spec.shape, dtype: "f32" };
}

/** Gradient targets filled beforehand: with NaN where the tape must assign, with known numbers where it must add. */
class PreparedStore implements GradientStore {
  readonly targets = new Map<Tensor, Tensor>();
  readonly #add: boolean;
  readonly #marked = new Set<Tensor>();

  constructor(leaves: readonly Tensor[], add: boolean) {
    this.#add = add;
    for (const leaf of leaves) {
      const fill = add ? normals(99, leaf.size) : new Float64Array(leaf.size).fill(Number.NaN);
      this.targets.set(leaf, fromArray(leaf.backend, fill, leaf.shape, leaf.dtype, "prepared gradient"));
    }
  }
  target(leaf: Tensor): Tensor | undefined {
    return this.targets.get(leaf);
  }
  has(leaf: Tensor): boolean {
    return this.#add || this.#marked.has(leaf);
  }
  mark(leaf: Tensor): void {
    this.#marked.add(leaf);
  }
  wasWritten(leaf: Tensor): boolean {
    return this.#marked.has(leaf);
  }
}

interface Outcome {
  outputs: Map<string, NumberArray>;
  outputShapes: Map<string, Shape>;
  gradients: Map<string, NumberArray>;
}

/** Runs an op once on a backend, with upstream gradients for some outputs. */
async function evaluate<I extends string, O extends string, S extends string, Settings>(
  backend: Backend,
  dtype: DType,
  op: Op<I, O, S, Settings>,
  given: Record<string, Given>,
  settings: Settings,
  upstream: ReadonlyMap<string, ArrayLike<number>>,
  add: boolean,
): Promise<Outcome> {
  return scopeAsync(async () => {
    const inputs = {} as { [K in I]: Tensor | null };
    for (const optional of op.definition.optional ?? []) inputs[optional] = null;
    const leaves: [string, Tensor][] = [];
    for (const [name, { values, shape, dtype: own }] of Object.entries(given)) {
      const tensor = fromArray(backend, values, shape, isFloat(own) ? dtype : own, name);
      if (isFloat(own)) {
        tensor.requiresGradient = upstream.size > 0;
        leaves.push([name, tensor]);
      }
      inputs[name as I] = tensor;
    }
    const recording = record(() => op(inputs, settings));
    const outputs = new Map<string, NumberArray>();
    const outputShapes = new Map<string, Shape>();
    for (const [name, tensor] of Object.entries<Tensor>(recording.result)) {
      outputs.set(name, await tensor.read());
      outputShapes.set(name, tensor.shape);
    }
    const gradients = new Map<string, NumberArray>();
    if (upstream.size > 0 && op.definition.vjp) {
      const store = new PreparedStore(
        leaves.map(([, tensor]) => tensor),
        add,
      );
      const seeds = new Map<Tensor, Tensor>();
      for (const [name, values] of upstream) {
        const output = recording.result[name as O];
        seeds.set(output, fromArray(backend, values, output.shape, dtype, "seed"));
      }
      backward(recording, seeds, store);
      for (const [name, leaf] of leaves) {
        const target = store.target(leaf);
        if (target && (store.wasWritten(leaf) || add)) gradients.set(name, await target.read());
      }
    }
    return { outputs, outputShapes, gradients };
  });
}

/** Every subset that is not empty. */
function subsets<T>(items: readonly T[]): T[][] {
  return Array.from({ length: 2 ** items.length - 1 }, (_, bits) => items.filter((__, i) => ((bits + 1) >> i) & 1));
}

export function checkOp<I extends string, O extends string, S extends string, Settings>(
  test: Test,
  op: Op<I, O, S, Settings>,
  options: CheckOptions<I, Settings>,
): void {
  for (const [caseName, written] of Object.entries(options.cases)) {
    const one: OpCase<I, Settings> =
      "inputs" in written ? (written as OpCase<I, Settings>) : { inputs: written as { [K in I]?: InputSpec } };
    const settings = one.settings ?? options.settings;
    const tolerance = one.tolerance ?? options.tolerance;
    const given: Record<string, Given> = {};
    Object.entries<InputSpec | undefined>(one.inputs).forEach(([name, spec], i) => {
      if (spec !== undefined) given[name] = realise(name, spec, i + 1);
    });
    const { name } = op.definition;

    test(`${name}: ${caseName}`, async () => {
      const plain = await evaluate(reference, "f64", op, given, settings, new Map(), false);
      const shapes = op.definition.shapes(
        Object.fromEntries(Object.entries(given).map(([n, g]) => [n, g.shape])) as { [K in I]: Shape },
        settings,
      );
      for (const [output, shape] of Object.entries<Shape>(shapes))
        if (String(plain.outputShapes.get(output)) !== String(shape))
          throw new Error(`${output}: shape rule says [${shape}]`);

      const differentiable = [...plain.outputs.keys()].filter((o) => !(options.skipUpstream ?? []).includes(o));
      const seeds = new Map(differentiable.map((o, i) => [o, normals(50 + i, plain.outputs.get(o)?.length ?? 0)]));
      const wanted = op.definition.vjp ? subsets(differentiable) : [];
      const truth = new Map<string, Outcome>();
      for (const subset of wanted) {
        const upstream = new Map(subset.map((o) => [o, seeds.get(o) ?? []]));
        const outcome = await evaluate(reference, "f64", op, given, settings, upstream, false);
        truth.set(subset.join(), outcome);
        await centralDifferences(op, given, settings, upstream, outcome.gradients, options.differenceTolerance ?? 1e-6);
      }

      for (const { name: backendName, backend } of await testBackends()) {
        const before = backend.statistics().liveBuffers;
        const context = `${backendName}: ${caseName}`;
        const first = await evaluate(backend, "f32", op, given, settings, new Map(), false);
        for (const [output, values] of plain.outputs)
          assertClose(`${context}: ${output}`, first.outputs.get(output) ?? [], values, tolerance.forward);
        for (const subset of wanted) {
          const upstream = new Map(subset.map((o) => [o, seeds.get(o) ?? []]));
          const expected = truth.get(subset.join())?.gradients ?? new Map<string, NumberArray>();
          const assigned = await evaluate(backend, "f32", op, given, settings, upstream, false);
          const added = await evaluate(backend, "f32", op, given, settings, upstream, true);
          for (const [input, values] of expected) {
            const what = `${context}: d${input} for upstream {${subset}}`;
            assertClose(what, assigned.gradients.get(input) ?? [], values, tolerance.gradient);
            const start = normals(99, values.length);
            const sum = Float64Array.from(values, (v, i) => v + start[i]);
            // Adding onto numbers of order one costs a rounding of the sum.
            assertClose(`${what}, added`, added.gradients.get(input) ?? [], sum, {
              ...tolerance.gradient,
              absolute: (tolerance.gradient.absolute ?? 0) + 1e-6,
            });
          }
          const again = await evaluate(backend, "f32", op, given, settings, upstream, false);
          for (const [input, values] of assigned.gradients)
            sameBits(`${context}: d${input} twice`, again.gradients.get(input), values);
          for (const [output, values] of first.outputs)
            sameBits(`${context}: ${output} twice`, again.outputs.get(output), values);
        }
        const left = backend.statistics().liveBuffers - before;
        if (left !== 0) throw new Error(`${context}: ${left} buffers left behind`);
      }
    });
  }
}

export function sameBits(what: string, actual: NumberArray | undefined, expected: NumberArray): void {
  if (actual === undefined || actual.length !== expected.length) throw new Error(`${what}: other length`);
  for (let i = 0; i < expected.length; i++)
    if (!Object.is(actual[i], expected[i])) throw new Error(`${what}: element ${i}: ${expected[i]}, then ${actual[i]}`);
}

/** Elements are checked one by one up to this size; larger inputs by random directions and some single elements. */
const elementwiseLimit = 96;

async function centralDifferences<I extends string, O extends string, S extends string, Settings>(
  op: Op<I, O, S, Settings>,
  given: Record<string, Given>,
  settings: Settings,
  upstream: ReadonlyMap<string, ArrayLike<number>>,
  gradients: ReadonlyMap<string, NumberArray>,
  tolerance: number,
): Promise<void> {
  const loss = async (changed: Record<string, Given>): Promise<number> => {
    const { outputs } = await evaluate(reference, "f64", op, changed, settings, new Map(), false);
    let sum = 0;
    for (const [name, seed] of upstream) {
      const values = outputs.get(name) ?? [];
      for (let i = 0; i < seed.length; i++) sum += values[i] * seed[i];
    }
    return sum;
  };
  for (const [input, gradient] of gradients) {
    const start = Float64Array.from(given[input].values);
    const size = start.length;
    const scale = Math.max(1, ...start.map(Math.abs));
    const directions: { name: string; along: Float64Array }[] = [];
    const single = (i: number): void => {
      const along = new Float64Array(size);
      along[i] = 1;
      directions.push({ name: `element ${i}`, along });
    };
    if (size <= elementwiseLimit) for (let i = 0; i < size; i++) single(i);
    else {
      for (const i of new Set([0, size - 1, size >> 1, 63, 64, 65])) if (i < size) single(i);
      for (let k = 0; k < 4; k++) directions.push({ name: `random direction ${k}`, along: normals(700 + k, size) });
    }
    const gradientScale = Math.max(...gradient.map(Math.abs), 1e-3);
    for (const { name, along } of directions) {
      // Central differences err by h²·f‴ and by rounding/h: at h = 1e-4·scale both are near 1e-8 of the gradient. Two steps
      // combined (Richardson) take the first away.
      const at = async (h: number): Promise<number> => {
        const moved = (sign: number): Record<string, Given> => ({
          ...given,
          [input]: { ...given[input], values: start.map((v, i) => v + sign * h * along[i]) },
        });
        return ((await loss(moved(1))) - (await loss(moved(-1)))) / (2 * h);
      };
      const length = Math.sqrt(along.reduce((s, a) => s + a * a, 0));
      const h = (2e-4 * scale) / length;
      const estimate = (4 * (await at(h / 2)) - (await at(h))) / 3;
      const expected = along.reduce((s, a, i) => s + a * gradient[i], 0);
      const allowed = tolerance * gradientScale * length;
      if (!(Math.abs(estimate - expected) <= allowed))
        throw new Error(
          `d${input}: ${name}: central differences give ${estimate}, the vjp ${expected} (allowed ${allowed.toExponential(1)})`,
        );
    }
  }
}
