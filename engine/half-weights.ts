// A model's weights for the forward pass alone, with the matrices in f16. A matrix is stored once, in the panels that the
// forward product reads; an embedding is read from its panels too. Norms and biases stay f32. No f32 copy of a matrix is
// on the device: values are rounded in small pieces while they are loaded.
import type { Backend } from "./backends/backend.ts";
import { bytesPerElement } from "./dtype.ts";
import { ShapeError } from "./errors.ts";
import { memoryLabel } from "./memory-purpose.ts";
import { packHalfPanels } from "./ops/matmul/half.ts";
import { panelShape } from "./ops/matmul/matmul.ts";
import { allocateGroups } from "./parameter-arena.ts";
import type { Parameter, Weights, WeightTensors } from "./parameters.ts";
import { keep, keepAll, scope } from "./scope.ts";
import { empty, fromArray, type Shape, sizeOf, type Tensor } from "./tensor.ts";

/** The smallest magnitude that rounds to a number beyond the largest f16, 65504. */
export const smallestBeyondHalf = 65520;

/** Largest number of elements of a matrix that are in f32 at a time while it loads. */
const roundedAtOnce = 2 ** 20;

export interface HalfEntry {
  readonly shape: Shape;
  /** Whether it is a matrix [out, in] in f16 panels. If not, it is f32. */
  readonly isHalf: boolean;
  /** What one product reads follows each other in memory, as in a `ParameterArena`. Default: none. */
  readonly group?: string;
}

/**
 * The tensors of weights for the forward pass alone: f16 panels of a matrix, or f32 in Hugging Face's layout. What one product
 * reads, that is the panels of a group, and its biases, is one tensor each.
 * @throws ShapeError when what is to be in panels is no matrix
 */
export function allocateForward(backend: Backend, entries: ReadonlyMap<string, HalfEntry>): Map<string, WeightTensors> {
  const grouped = { f16: new Map<string, Tensor>(), f32: new Map<string, Tensor>() };
  for (const dtype of ["f16", "f32"] as const) {
    const wanted = new Map<string, { shape: Shape; group: string }>();
    for (const [name, { shape, isHalf, group }] of entries)
      if (group !== undefined && isHalf === (dtype === "f16") && (!isHalf || shape[0] % 8 === 0))
        wanted.set(name, { shape: isHalf ? panelsOf(name, shape) : shape, group });
    grouped[dtype] = allocateGroups(backend, wanted, dtype, (group) => memoryLabel("weights", group));
  }
  const make = (shape: Shape, dtype: "f16" | "f32", label: string): Tensor =>
    keep(empty(backend, shape, dtype, memoryLabel("weights", label)));
  return new Map(
    [...entries].map(([name, { shape, isHalf }]) => [
      name,
      isHalf
        ? { rows: null, panels: grouped.f16.get(name) ?? make(panelsOf(name, shape), "f16", `${name}.panels`) }
        : { rows: grouped.f32.get(name) ?? make(shape, "f32", name), panels: null },
    ]),
  );
}

function panelsOf(name: string, shape: Shape): Shape {
  if (shape.length !== 2)
    throw new ShapeError(`${name}: only a matrix [out, in] is stored in f16 panels, this is [${shape}]`);
  return panelShape(shape[0], shape[1]);
}

/** Bytes on the device of the weights that have these entries. */
export function halfMemory(entries: ReadonlyMap<string, HalfEntry>): number {
  let bytes = 0;
  for (const { shape, isHalf } of entries.values())
    bytes += isHalf
      ? sizeOf(panelShape(shape[0], shape[1])) * bytesPerElement.f16
      : sizeOf(shape) * bytesPerElement.f32;
  return bytes;
}

export class HalfWeights implements Weights {
  readonly backend: Backend;
  readonly dtype = "f32";
  readonly isPerturbed = false;
  readonly operands = "f16";
  /** In the order given. */
  readonly names: readonly string[];
  readonly #parameters = new Map<string, Parameter & { kind: "forward" }>();

  /** The content is undefined until every tensor was loaded. */
  constructor(backend: Backend, entries: ReadonlyMap<string, HalfEntry>) {
    this.backend = backend;
    this.names = [...entries.keys()];
    const tensors = keepAll(() => allocateForward(backend, entries));
    for (const [name, { shape }] of entries) {
      const weight = tensors.get(name) ?? { rows: null, panels: null };
      this.#parameters.set(name, { kind: "forward", shape, weight });
    }
  }

  /**
   * A matrix is of kind "forward". Norms and biases are plain tensors without gradient: all ops take them.
   */
  get(name: string): Parameter {
    const parameter = this.#parameter(name);
    const { rows } = parameter.weight;
    return rows === null ? parameter : { kind: "tensor", tensor: rows, panels: null };
  }

  /**
   * Takes the elements of one tensor in order, in pieces of any length, and writes them to the device.
   * `end` must be called after the last piece.
   * @throws ShapeError when there are more or fewer elements than the tensor has
   */
  loader(name: string): { push(values: Float32Array): void; end(): void } {
    const { shape, weight } = this.#parameter(name);
    const { rows, panels } = weight;
    const total = sizeOf(shape);
    let taken = 0;
    const expectAtMost = (count: number): void => {
      taken += count;
      if (taken > total)
        throw new ShapeError(`HalfWeights: ${name}: expected ${total} elements for [${shape}], got at least ${taken}`);
    };
    const end = (): void => {
      if (taken !== total)
        throw new ShapeError(`HalfWeights: ${name}: expected ${total} elements for [${shape}], got ${taken}`);
    };
    if (panels === null) {
      return {
        push: (values) => {
          const start = taken;
          expectAtMost(values.length);
          if (rows !== null) writeElements(rows, start, values);
        },
        end,
      };
    }
    const width = shape[1];
    const staged = new Float32Array(Math.min(8 * panelsAtOnce(width), shape[0]) * width);
    let held = 0; // elements in `staged`
    let written = 0; // panels
    const flush = (): void => {
      if (held === 0) return;
      scope(() => {
        const part = fromArray(this.backend, staged.slice(0, held), [held / width, width], "f32", "loaded rows");
        packHalfPanels(part, panels.sliceRows(written, Math.ceil(part.rows / 8)));
        written += Math.ceil(part.rows / 8);
        held = 0;
      });
    };
    return {
      push: (values) => {
        expectAtMost(values.length);
        for (let from = 0; from < values.length; ) {
          const count = Math.min(values.length - from, staged.length - held);
          staged.set(values.subarray(from, from + count), held);
          held += count;
          from += count;
          if (held === staged.length) flush();
        }
      },
      end: () => {
        end();
        flush();
      },
    };
  }

  /** For memory plans: allocates and frees what `loader` does, for every tensor. */
  rehearseLoading(): void {
    for (const { shape, weight } of this.#parameters.values()) {
      const { panels } = weight;
      if (panels === null) continue;
      const most = panelsAtOnce(shape[1]);
      // All blocks but the last have one size.
      for (const start of new Set([0, Math.floor((panels.rows - 1) / most) * most]))
        scope(() => {
          const rows = Math.min(8 * most, shape[0] - 8 * start);
          const part = empty(this.backend, [rows, shape[1]], "f32", "loaded rows");
          packHalfPanels(part, panels.sliceRows(start, Math.ceil(rows / 8)));
        });
    }
  }

  free(): void {
    for (const { weight } of this.#parameters.values())
      for (const tensor of [weight.rows, weight.panels]) tensor?.free();
  }

  #parameter(name: string): Parameter & { kind: "forward" } {
    const found = this.#parameters.get(name);
    if (found === undefined) throw new Error(`HalfWeights: there is no tensor "${name}"`);
    return found;
  }
}

/** Panels of this width that are in f32 at a time. */
function panelsAtOnce(width: number): number {
  return Math.max(1, Math.floor(roundedAtOnce / (8 * width)));
}

/** Writes elements from `start` on, into the segments that hold them. */
export function writeElements(tensor: Tensor, start: number, data: Float32Array): void {
  const values = tensor.dtype === "f64" ? Float64Array.from(data) : data;
  let offset = 0; // of the segment, in the tensor
  for (const { buffer, base, rows } of tensor.segments) {
    const length = rows * tensor.rowSize;
    const from = Math.max(start, offset);
    const to = Math.min(start + data.length, offset + length);
    if (from < to) tensor.backend.write(buffer, base + from - offset, values.subarray(from - start, to - start));
    offset += length;
  }
}
