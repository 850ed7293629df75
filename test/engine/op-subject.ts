// An op with the inputs and settings of one case, as `checkOp` runs it on any backend: outputs, and gradients that begin in
// every way the tape knows.

import { type GradientStore, type Recording, record } from "../../engine/autograd.ts";
import type { Backend } from "../../engine/backends/backend.ts";
import { type DType, isFloat, type NumberArray } from "../../engine/dtype.ts";
import type { Op } from "../../engine/op.ts";
import { scopeAsync } from "../../engine/scope.ts";
import { fromArray, readTensors, type Shape, segmentRows, sizeOf, type Tensor } from "../../engine/tensor.ts";
import { normals } from "./normals.ts";

export interface Given {
  values: ArrayLike<number>;
  shape: Shape;
  dtype: DType;
}

/** How the gradient of an input begins: assigned onto NaN, added onto `before`, or not at all. */
export type Start = "assigned" | "added" | "unasked";
export const before = (size: number): Float64Array => normals(99, size);

/** Arenas place tensors at multiples of this, elements. */
const alignment = 64;
/** What lies around a gradient, to be found there afterwards. */
const sentinel = 12345;

/**
 * A tensor amid a larger one on the device, as parameters and gradients lie in their arenas: it begins where its buffer does
 * not, and what is read or written outside shows. Only where the larger one is a single segment. Or at an odd element, as a view of
 * single numbers may: kernels that read in fours must not take it for the element before.
 */
class Placed {
  readonly tensor: Tensor;
  readonly #whole: Tensor;
  readonly #margin: number;

  constructor(
    backend: Backend,
    values: ArrayLike<number>,
    shape: Shape,
    dtype: DType,
    name: string,
    around: number,
    isOdd = false,
  ) {
    const rowSize = sizeOf(shape.slice(1));
    let rows = 1;
    while ((rows * rowSize) % alignment !== 0) rows++;
    const larger = [shape[0] + 2 * rows, ...shape.slice(1)];
    const fits = isFloat(dtype) && rowSize > 0 && segmentRows(backend, larger, dtype, name).length === 1;
    this.#margin = backend.kind === "webgpu" && fits ? rows * rowSize : 0;
    if (this.#margin === 0) {
      this.#whole = fromArray(backend, values, shape, dtype, name);
      this.tensor = this.#whole;
      return;
    }
    if (isOdd) {
      const size = sizeOf(shape);
      this.#margin = alignment + 1;
      const odd = new Float64Array(size + 2 * this.#margin).fill(around);
      odd.set(values, this.#margin);
      this.#whole = fromArray(backend, odd, [odd.length], dtype, name);
      this.tensor = this.#whole.sliceRows(this.#margin, size).view(shape);
      return;
    }
    const all = new Float64Array(sizeOf(larger)).fill(around);
    all.set(values, this.#margin);
    this.#whole = fromArray(backend, all, larger, dtype, name);
    this.tensor = this.#whole.sliceRows(rows, shape[0]);
  }

  /** The tensor's elements. @throws Error when one of those around it is not the sentinel any more */
  async read(what: string): Promise<NumberArray> {
    const all = await this.#whole.read();
    const end = all.length - this.#margin;
    for (let i = 0; i < all.length; i++)
      if ((i < this.#margin || i >= end) && all[i] !== sentinel)
        throw new Error(`${what}: element ${i - this.#margin} was written, of ${this.tensor.size}`);
    return all.slice(this.#margin, end);
  }
}

/** Gradient targets filled beforehand, so that an element that is not written, or not added to, shows. */
class PreparedStore implements GradientStore {
  readonly targets = new Map<Tensor, Placed>();
  readonly #written = new Set<Tensor>();

  constructor(starts: ReadonlyMap<Tensor, Start>) {
    for (const [leaf, start] of starts) {
      if (start === "unasked") continue;
      const { backend, size, shape, dtype } = leaf;
      const fill = start === "added" ? before(size) : new Float64Array(size).fill(Number.NaN);
      this.targets.set(leaf, new Placed(backend, fill, shape, dtype, "prepared gradient", sentinel));
      if (start === "added") this.#written.add(leaf);
    }
  }
  target(leaf: Tensor): Tensor | undefined {
    return this.targets.get(leaf)?.tensor;
  }
  has(leaf: Tensor): boolean {
    return this.#written.has(leaf);
  }
  mark(leaf: Tensor): void {
    this.#written.add(leaf);
  }
}

export type Values = ReadonlyMap<string, NumberArray>;
export type Seeds = ReadonlyMap<string, ArrayLike<number>>;

/** How an op runs with f16 operands: from the same inputs to the same outputs, on a GPU. */
export type HalfRun<I extends string, Settings> = (
  inputs: { [K in I]: Tensor | null },
  settings: Settings,
) => Record<string, Tensor>;

/** An op with inputs and settings: what one case runs, on any backend. */
export class Subject<I extends string, O extends string, S extends string, Settings> {
  readonly op: Op<I, O, S, Settings>;
  readonly given: Readonly<Record<string, Given>>;
  readonly settings: Settings;
  /** Inputs that a gradient flows into. */
  readonly inputs: readonly string[];
  readonly #halfRun: HalfRun<I, Settings> | undefined;

  /** @param halfRun  in place of the op, on GPUs */
  constructor(
    op: Op<I, O, S, Settings>,
    given: Readonly<Record<string, Given>>,
    settings: Settings,
    halfRun?: HalfRun<I, Settings>,
  ) {
    this.op = op;
    this.#halfRun = halfRun;
    this.given = given;
    this.settings = settings;
    const constants: readonly string[] = op.definition.constants ?? [];
    this.inputs =
      op.definition.vjp === undefined
        ? []
        : Object.keys(given).filter((name) => isFloat(given[name].dtype) && !constants.includes(name));
  }

  /** The same with other values. */
  with(values: Readonly<Record<string, ArrayLike<number>>>): Subject<I, O, S, Settings> {
    const moved = Object.entries(values).map(([name, own]): [string, Given] => [
      name,
      { ...this.given[name], values: own },
    ]);
    return new Subject(this.op, { ...this.given, ...Object.fromEntries(moved) }, this.settings, this.#halfRun);
  }

  /** Shapes of the outputs, as the op's rule has them. */
  shapes(): Readonly<Record<string, Shape>> {
    const shapes = Object.fromEntries(Object.entries(this.given).map(([name, { shape }]) => [name, shape]));
    return this.op.definition.shapes(shapes as { [K in I]: Shape }, this.settings);
  }

  /** Elements of all inputs. */
  get cost(): number {
    return Object.values(this.given).reduce((size, { shape }) => size + sizeOf(shape), 1);
  }

  /** Inputs on a backend, floats in `dtype`; those that `shared` names are one tensor. */
  tensors(backend: Backend, dtype: DType, shared: readonly string[] = [], isOdd = false): { [K in I]: Tensor | null } {
    const inputs = {} as { [K in I]: Tensor | null };
    for (const optional of this.op.definition.optional ?? []) inputs[optional] = null;
    let one: Tensor | undefined;
    for (const [name, { values, shape, dtype: own }] of Object.entries(this.given)) {
      const isShared = shared.includes(name);
      const tensor =
        (isShared ? one : undefined) ??
        new Placed(backend, values, shape, isFloat(own) ? dtype : own, name, Number.NaN, isOdd).tensor;
      tensor.requiresGradient = this.inputs.includes(name);
      if (isShared) one = tensor;
      inputs[name as I] = tensor;
    }
    return inputs;
  }

  run(inputs: { [K in I]: Tensor | null }): Record<string, Tensor> {
    const tensors = Object.values<Tensor | null>(inputs).filter((tensor) => tensor !== null);
    if (this.#halfRun !== undefined && tensors[0].backend.kind === "webgpu")
      return this.#halfRun(inputs, this.settings);
    return this.op(inputs, this.settings);
  }

  /** Outputs, without a tape. */
  async outputs(backend: Backend, dtype: DType): Promise<Map<string, NumberArray>> {
    return scopeAsync(async () => named(this.run(this.tensors(backend, dtype))));
  }

  /** Gradients of one run, one map for each pair of upstream gradients and how gradients begin. */
  async gradients(
    backend: Backend,
    dtype: DType,
    passes: readonly { seeds: Seeds; starts: ReadonlyMap<string, Start> }[],
    shared: readonly string[] = [],
  ): Promise<{ outputs: Values; gradients: Values[] }> {
    return scopeAsync(async () => {
      const inputs = this.tensors(backend, dtype, shared);
      const recording = record(() => this.run(inputs));
      const gradients: Values[] = [];
      for (const { seeds, starts } of passes)
        gradients.push(
          await gradientsOf(
            recording,
            [...seeds].map(([name, values]) => [recording.result[name], values]),
            inputs,
            starts,
          ),
        );
      return { outputs: await named(recording.result), gradients };
    });
  }
}

async function named(tensors: Readonly<Record<string, Tensor>>): Promise<Map<string, NumberArray>> {
  const values = await readTensors(Object.values(tensors));
  return new Map(Object.keys(tensors).map((name, i) => [name, values[i]]));
}

/** One backward pass. Inputs that are one tensor begin, and end, as one. */
export function gradientsOf(
  recording: Recording<unknown>,
  seeds: readonly (readonly [Tensor, ArrayLike<number>])[],
  inputs: Readonly<Record<string, Tensor | null>>,
  starts: ReadonlyMap<string, Start>,
): Promise<Map<string, NumberArray>> {
  return scopeAsync(async () => {
    const leaves = new Map<string, Tensor>();
    for (const [name, start] of starts) {
      const leaf = inputs[name];
      if (leaf !== null && start !== "unasked") leaves.set(name, leaf);
    }
    const store = new PreparedStore(new Map([...leaves].map(([name, leaf]) => [leaf, starts.get(name) ?? "unasked"])));
    const tensors = new Map(
      seeds.map(([output, values]) => [
        output,
        fromArray(output.backend, values, output.shape, output.dtype, "upstream gradient"),
      ]),
    );
    recording.backward(tensors, store);
    const found = new Map<string, NumberArray>();
    for (const [name, leaf] of leaves) {
      const values = await store.targets.get(leaf)?.read(`d${name}`);
      if (values !== undefined) found.set(name, values);
    }
    return found;
  });
}
