// All parameters of a model in few buffers: the values and, on request, gradients and the optimiser's two moments, each
// in an arena of the same layout. Elementwise work over all parameters (AdamW, the gradient norm) then needs one
// dispatch per buffer.
//
// Layout. Tensors lie in the given order, each beginning at a multiple of 64 elements, in buffers within the adapter's
// limit. A tensor that fits in a buffer is never cut; a larger one is cut along its first axis, and its parts are
// placed like separate tensors. The gaps between tensors are zero in every arena and stay zero.

import { fillKernel } from "./accumulate.ts";
import { type GradientStore, noGradient } from "./autograd.ts";
import type { Backend, BackendLimits } from "./backends/backend.ts";
import { bytesPerElement, type DType, type NumberArray } from "./dtype.ts";
import { ShapeError } from "./errors.ts";
import { type MemoryPurpose, memoryLabel } from "./memory-purpose.ts";
import { packHalfPanels, writeHalf } from "./ops/matmul/half.ts";
import { packPanels, panelShape } from "./ops/matmul/matmul.ts";
import type { HalfCopies, Parameter, Weights } from "./parameters.ts";
import { assume } from "./replay.ts";
import { run } from "./run.ts";
import { keep, keepAll } from "./scope.ts";
import {
  allocateStorage,
  empty,
  type IndexRange,
  type Shape,
  type Storage,
  segmentRows,
  sizeOf,
  Tensor,
} from "./tensor.ts";

export interface ArenaEntry {
  readonly shape: Shape;
  /**
   * Whether this matrix [out, in] has a copy in panels, the layout that the forward product reads. Without one,
   * `linear` makes it again at each call. Default false.
   */
  readonly forwardCopy?: boolean;
  /** Whether `linear` is the only op that reads it, so that a copy of it needs no rows. Default false. */
  readonly isLinear?: boolean;
  /**
   * Whether it has two copies in f16 instead, in the layouts of all products: for linear layers only. Default false.
   */
  readonly halfCopies?: boolean;
  /**
   * The forward copies of all entries of one group follow each other in memory, in the order given, so that one product
   * reads them all. They must have rows of one length. Ignored where that is not possible: if outputs are no multiple of
   * 8, or all of them are too large for a buffer. So it is with copies in f16. Default: none.
   */
  readonly group?: string;
}

export interface ArenaOptions {
  /** Allocates gradients and both moments. Default false. */
  trainable?: boolean;
  /** Allocates gradients alone. Default: as `trainable`. */
  gradients?: boolean;
  /** f64 on the plain backend, for references. Default f32. */
  dtype?: "f32" | "f64";
}

/** Bytes on the device. */
export interface ArenaMemory {
  readonly values: number;
  readonly gradients: number;
  readonly moments: number;
  readonly copies: number;
}

export type ArenaPart = "values" | "gradients" | "moment1" | "moment2";
const purposes: Readonly<Record<ArenaPart, MemoryPurpose>> = {
  values: "weights",
  gradients: "gradients",
  moment1: "moments",
  moment2: "moments",
};
/** The tensors that a restart needs. */
const stateParts = ["values", "moment1", "moment2"] as const;

/** Tensors start at multiples of this, elements. */
const alignment = 64;
/** Tensors are read in pieces of at most this size, so that a large model needs no staging buffer of its own size. */
const readPieceBytes = 64 * 2 ** 20;

/** The memory that an arena will need, without making the arena. */
export function arenaMemory(
  backend: Pick<Backend, "limits">,
  entries: ReadonlyMap<string, ArenaEntry>,
  options: ArenaOptions = {},
): ArenaMemory {
  const { dtype = "f32" } = options;
  const bytes = layOut(backend.limits, entries, dtype).lengths.reduce((sum, n) => sum + n, 0) * bytesPerElement[dtype];
  const parts = partsOf(options);
  let copies = 0;
  for (const { shape, forwardCopy = false, halfCopies = false } of entries.values())
    if (halfCopies) copies += (sizeOf(panelShape(shape[0], shape[1])) + sizeOf(shape)) * bytesPerElement.f16;
    else if (forwardCopy) copies += sizeOf(panelShape(shape[0], shape[1])) * bytesPerElement[dtype];
  return {
    values: bytes,
    gradients: parts.includes("gradients") ? bytes : 0,
    moments: parts.includes("moment1") ? 2 * bytes : 0,
    copies,
  };
}

interface Arena {
  readonly storage: Storage;
  /** Each whole buffer as a tensor [elements]. */
  readonly buffers: readonly Tensor[];
  readonly tensors: ReadonlyMap<string, Tensor>;
}

export class ParameterArena implements Weights {
  readonly backend: Backend;
  readonly dtype: "f32" | "f64";
  readonly isPerturbed = false;
  /** In the order given. */
  readonly names: readonly string[];
  /**
   * Where a backward pass stores the gradients of the values. `has` is true for gradients written since
   * `clearGradients`, so that micro-batches add up.
   */
  readonly gradients: GradientStore;
  readonly #entries: ReadonlyMap<string, ArenaEntry>;
  readonly #memory: ArenaMemory;
  readonly #arenas = new Map<ArenaPart, Arena>();
  readonly #parameters = new Map<string, Parameter & { kind: "tensor" }>();
  readonly #staleCopies = new Set<string>();
  /** Grows when copies become stale or are updated: recorded work reads them without asking. */
  version = 0;
  readonly #written = new Set<Tensor>();

  /**
   * All elements are zero at first.
   * @throws OutOfMemoryError when one row of a tensor is larger than the adapter's largest binding, or when there is no
   *   memory for one of the buffers; those made before are freed then
   */
  constructor(backend: Backend, entries: ReadonlyMap<string, ArenaEntry>, options: ArenaOptions = {}) {
    const { dtype = "f32" } = options;
    this.backend = backend;
    this.dtype = dtype;
    this.names = [...entries.keys()];
    for (const [name, { shape, forwardCopy = false, halfCopies = false }] of entries)
      if ((forwardCopy || halfCopies) && shape.length !== 2)
        throw new ShapeError(
          `ParameterArena: ${name}: only a matrix [out, in] has a copy for the forward product, this is [${shape}]`,
        );
    this.#entries = entries;
    this.#memory = arenaMemory(backend, entries, options);
    const layout = layOut(backend.limits, entries, dtype);
    keepAll(() => {
      for (const part of partsOf(options)) this.#arenas.set(part, makeArena(backend, part, layout, entries, dtype));
      this.#allocateCopies();
    });
    const isFollowed = this.#arenas.has("gradients");
    const nameOf = new Map<Tensor, string>();
    for (const name of this.names) {
      const tensor = this.value(name);
      tensor.requiresGradient = isFollowed;
      nameOf.set(tensor, name);
    }
    this.gradients = {
      target: (leaf) => {
        const name = nameOf.get(leaf);
        return name === undefined || !isFollowed ? undefined : this.gradient(name);
      },
      has: (leaf) => this.#written.has(leaf),
      mark: (leaf) => void this.#written.add(leaf),
    };
  }

  #allocateCopies(): void {
    const { backend, dtype } = this;
    const grouped = groupedPanels(backend, this.#entries, dtype);
    for (const [name, { shape, forwardCopy = false, halfCopies = false }] of this.#entries) {
      const copy = (of: Shape, type: DType, label: string): Tensor =>
        keep(empty(backend, of, type, memoryLabel("compute copies", `${name}.${label}`)));
      const ownPanels = (): Tensor => copy(panelShape(shape[0], shape[1]), dtype, "panels");
      const panels = forwardCopy && !halfCopies ? (grouped.get(name) ?? ownPanels()) : null;
      const half: HalfCopies | undefined = halfCopies
        ? {
            rows: copy(shape, "f16", "rows"),
            panels: grouped.get(name) ?? copy(panelShape(shape[0], shape[1]), "f16", "panels"),
          }
        : undefined;
      this.#parameters.set(name, { kind: "tensor", tensor: this.value(name), panels, half });
      if (panels !== null || half !== undefined) this.#staleCopies.add(name);
    }
  }

  /** The parameter as ops take it: the value and, if it has one, its copy for the forward product, up to date. */
  get(name: string): Parameter {
    assume(this);
    if (this.#staleCopies.has(name)) this.refreshCopies();
    const found = this.#parameters.get(name);
    if (found === undefined) throw new Error(`ParameterArena: there is no tensor "${name}"`);
    return found;
  }

  /** Always the same tensor; it requires a gradient if the arena has memory for gradients. */
  value(name: string): Tensor {
    return this.#tensor("values", name);
  }

  /** Whether `linear` is the only op that reads the parameter. */
  isLinear(name: string): boolean {
    return this.#entries.get(name)?.isLinear ?? false;
  }

  /** The group of the parameter (`ArenaEntry.group`). */
  groupOf(name: string): string | undefined {
    return this.#entries.get(name)?.group;
  }

  gradient(name: string): Tensor {
    return this.#tensor("gradients", name);
  }

  moment1(name: string): Tensor {
    return this.#tensor("moment1", name);
  }

  moment2(name: string): Tensor {
    return this.#tensor("moment2", name);
  }

  /** The buffers of a part as tensors [elements], in the same order for every part. */
  buffers(part: ArenaPart): readonly Tensor[] {
    return this.#arena(part).buffers;
  }

  /** Discards all gradients: the next backward pass assigns. */
  clearGradients(): void {
    this.#written.clear();
  }

  /** Sets gradients that no backward pass wrote since `clearGradients` to zero. */
  completeGradients(): void {
    for (const name of this.names) {
      if (this.#written.has(this.value(name))) continue;
      const gradient = this.gradient(name);
      run(fillKernel, { y: gradient }, { rowSize: gradient.rowSize, value: 0 });
      this.#written.add(this.value(name));
    }
  }

  /** Replaces the values of a tensor. `refreshCopies` then updates its copies for the forward product. */
  load(name: string, values: ArrayLike<number>, part: ArenaPart = "values"): void {
    const tensor = this.#tensor(part, name);
    if (values.length !== tensor.size)
      throw new ShapeError(
        `ParameterArena: ${name}: expected ${tensor.size} elements for [${tensor.shape}], got ${values.length}`,
      );
    tensor.write(values);
    if (part !== "values" || !this.#hasCopies(name)) return;
    this.#staleCopies.add(name);
    this.version++;
  }

  /** Reads tensors into host memory, as f32: the named ones, or all. */
  async read(names: readonly string[] = this.names, part: ArenaPart = "values"): Promise<Map<string, Float32Array>> {
    const tensors = new Map(names.map((name) => [name, this.#tensor(part, name)]));
    return readInPieces(this.backend, tensors);
  }

  /** Everything that a restart needs: values and, if there are any, moments, as `PART.NAME`. */
  async readState(): Promise<Map<string, { shape: Shape; data: Float32Array }>> {
    const state = new Map<string, { shape: Shape; data: Float32Array }>();
    for (const part of stateParts.filter((p) => this.#arenas.has(p)))
      for (const [name, data] of await this.read(this.names, part))
        state.set(`${part}.${name}`, { shape: this.#tensor(part, name).shape, data });
    return state;
  }

  /**
   * Restores what `readState` returned, copies for the forward product included.
   * @throws ShapeError when a tensor is missing, unknown or of another size; nothing is changed then
   */
  loadState(state: ReadonlyMap<string, ArrayLike<number>>): void {
    const expected = new Map<string, { part: ArenaPart; name: string; size: number }>();
    for (const part of stateParts.filter((p) => this.#arenas.has(p)))
      for (const [name, { size }] of this.#arena(part).tensors) expected.set(`${part}.${name}`, { part, name, size });
    const missing = [...expected.keys()].filter((key) => !state.has(key));
    const unknown = [...state.keys()].filter((key) => !expected.has(key));
    const missized = [...expected].filter(([key, { size }]) => state.has(key) && state.get(key)?.length !== size);
    if (missing.length + unknown.length + missized.length > 0)
      throw new ShapeError(
        [
          "loadState: the state is not of this model",
          ...missing.map((key) => `${key} is missing`),
          ...unknown.map((key) => `${key} is not known`),
          ...missized.map(([key, { size }]) => `${key}: expected ${size} elements, got ${state.get(key)?.length}`),
        ].join("; "),
      );
    for (const [key, { part, name }] of expected) this.load(name, state.get(key) ?? [], part);
    this.refreshCopies();
  }

  /** Updates the copies for the forward product from the loaded values. */
  refreshCopies(): void {
    if (this.#staleCopies.size > 0) this.version++;
    // A forward pass may be the first to need a copy; the tape must not record how it is made.
    noGradient(() => {
      for (const name of this.#staleCopies) {
        const { tensor, panels, half } = this.#parameters.get(name) ?? {};
        if (tensor !== undefined && panels) packPanels(tensor, panels);
        if (tensor !== undefined && half) {
          writeHalf(tensor, half.rows);
          packHalfPanels(tensor, half.panels);
        }
      }
    });
    this.#staleCopies.clear();
  }

  /** Call this after writing the value buffers as a whole: it updates all copies. */
  valuesChanged(): void {
    for (const name of this.names) if (this.#hasCopies(name)) this.#staleCopies.add(name);
    this.refreshCopies();
  }

  #hasCopies(name: string): boolean {
    const { panels, half } = this.#parameters.get(name) ?? {};
    return Boolean(panels ?? half);
  }

  memory(): ArenaMemory {
    return this.#memory;
  }

  free(): void {
    for (const { storage } of this.#arenas.values()) storage.free();
    for (const { panels, half } of this.#parameters.values())
      for (const copy of [panels, half?.rows, half?.panels]) copy?.free();
  }

  #arena(part: ArenaPart): Arena {
    const found = this.#arenas.get(part);
    if (found === undefined)
      throw new Error(`ParameterArena: made without room for ${part}; ask for it by { trainable: true }`);
    return found;
  }

  #tensor(part: ArenaPart, name: string): Tensor {
    const found = this.#arena(part).tensors.get(name);
    if (found === undefined) throw new Error(`ParameterArena: there is no tensor "${name}"`);
    return found;
  }
}

/** Panels of the members of each group, which are parts of one tensor: in f16, or in the arena's type. */
function groupedPanels(
  backend: Backend,
  entries: ReadonlyMap<string, ArenaEntry>,
  dtype: "f32" | "f64",
): Map<string, Tensor> {
  const [halves, others] = [true, false].map((isHalf) => {
    const shapes = new Map<string, { shape: Shape; group: string }>();
    for (const [name, { shape, forwardCopy = false, halfCopies = false, group }] of entries)
      if (group !== undefined && shape[0] % 8 === 0 && (isHalf ? halfCopies : forwardCopy && !halfCopies))
        shapes.set(name, { shape: panelShape(shape[0], shape[1]), group });
    const type = isHalf ? "f16" : dtype;
    return allocateGroups(backend, shapes, type, (group) => memoryLabel("compute copies", `${group}.panels`));
  });
  return new Map([...halves, ...others]);
}

/**
 * One tensor for each group, and its parts, one after another, as tensors of their own. A group is left out if it is too
 * large for a buffer, or its members' rows differ in shape.
 * @param wanted  for each name, shape and group
 */
export function allocateGroups(
  backend: Backend,
  wanted: ReadonlyMap<string, { readonly shape: Shape; readonly group: string }>,
  dtype: DType,
  labelOf: (group: string) => string,
): Map<string, Tensor> {
  const parts = new Map<string, Tensor>();
  for (const { group, whole, members } of joinedShapes(backend, wanted, dtype)) {
    const tensor = keep(empty(backend, whole, dtype, labelOf(group)));
    for (const { name, start, count } of members) parts.set(name, tensor.sliceRows(start, count));
  }
  return parts;
}

/** The shape of a group's tensor, and the rows of each member. */
export interface JoinedShape {
  readonly group: string;
  readonly whole: Shape;
  readonly members: readonly (IndexRange & { readonly name: string })[];
}

/** The groups that one tensor each can hold (`allocateGroups`). */
export function joinedShapes(
  backend: Pick<Backend, "limits">,
  wanted: ReadonlyMap<string, { readonly shape: Shape; readonly group: string }>,
  dtype: DType,
): JoinedShape[] {
  const groups = new Map<string, { name: string; shape: Shape }[]>();
  for (const [name, { shape, group }] of wanted) groups.set(group, [...(groups.get(group) ?? []), { name, shape }]);
  const found: JoinedShape[] = [];
  for (const [group, joined] of groups) {
    const [{ shape }] = joined;
    const whole = [joined.reduce((sum, one) => sum + one.shape[0], 0), ...shape.slice(1)];
    const isAlike = joined.every((one) => one.shape.slice(1).join() === shape.slice(1).join());
    if (!isAlike || sizeOf(whole) * bytesPerElement[dtype] > backend.limits.maxBufferBytes) continue;
    let start = 0;
    const members = joined.map(({ name, shape: [count] }) => {
      start += count;
      return { name, start: start - count, count };
    });
    found.push({ group, whole, members });
  }
  return found;
}

function partsOf({ trainable = false, gradients = trainable }: ArenaOptions): ArenaPart[] {
  return [
    "values",
    ...(gradients ? (["gradients"] as const) : []),
    ...(trainable ? (["moment1", "moment2"] as const) : []),
  ];
}

interface Layout {
  /** Elements of each buffer, a multiple of the alignment. */
  readonly lengths: readonly number[];
  readonly places: ReadonlyMap<string, readonly { buffer: number; base: number; rows: number }[]>;
}

function layOut(limits: BackendLimits, entries: ReadonlyMap<string, ArenaEntry>, dtype: "f32" | "f64"): Layout {
  const align = (elements: number): number => Math.ceil(elements / alignment) * alignment;
  const elementBytes = bytesPerElement[dtype];
  // A multiple of the alignment, so that every padded part fits (adapters report limits such as 4 GiB − 4).
  const capacity = Math.floor(limits.maxBufferBytes / elementBytes / alignment) * alignment;
  const within = { limits: { ...limits, maxBufferBytes: capacity * elementBytes } };
  const lengths: number[] = [];
  const places = new Map<string, { buffer: number; base: number; rows: number }[]>();
  for (const [name, { shape }] of entries) {
    const rowSize = sizeOf(shape.slice(1));
    const parts = segmentRows(within, shape, dtype, name).map((rows) => {
      const length = align(rows * rowSize);
      if (lengths.length === 0 || lengths[lengths.length - 1] + length > capacity) lengths.push(0);
      const buffer = lengths.length - 1;
      const base = lengths[buffer];
      lengths[buffer] += length;
      return { buffer, base, rows };
    });
    places.set(name, parts);
  }
  return { lengths, places };
}

function makeArena(
  backend: Backend,
  part: ArenaPart,
  { lengths, places }: Layout,
  entries: ReadonlyMap<string, ArenaEntry>,
  dtype: "f32" | "f64",
): Arena {
  const storage = allocateStorage(backend, lengths, dtype, memoryLabel(purposes[part], part));
  const handles = storage.buffers;
  const buffers = handles.map(
    (buffer, i) => new Tensor(backend, [lengths[i]], dtype, [{ buffer, base: 0, rows: lengths[i] }], storage),
  );
  // No scope owns them: the arena is freed as a whole.
  for (const y of buffers) keep(y);
  for (const y of buffers) run(fillKernel, { y }, { rowSize: 1, value: 0 });
  const tensors = new Map<string, Tensor>();
  for (const [name, parts] of places) {
    const segments = parts.map(({ buffer, base, rows }) => ({ buffer: handles[buffer], base, rows }));
    tensors.set(name, new Tensor(backend, entries.get(name)?.shape ?? [], dtype, segments, storage));
  }
  return { storage, buffers, tensors };
}

async function readInPieces(
  backend: Backend,
  tensors: ReadonlyMap<string, Tensor>,
): Promise<Map<string, Float32Array>> {
  const whole = new Map<string, Float32Array>();
  let batch: { into: Float32Array; range: Parameters<Backend["read"]>[0][number] }[] = [];
  let batchBytes = 0;
  const limit = Math.min(readPieceBytes, backend.limits.maxBufferBytes);
  const readBatch = async (): Promise<void> => {
    if (batch.length === 0) return;
    const parts: NumberArray[] = await backend.read(batch.map(({ range }) => range));
    batch.forEach(({ into }, i) => {
      into.set(parts[i]);
    });
    batch = [];
    batchBytes = 0;
  };
  for (const [name, tensor] of tensors) {
    const values = new Float32Array(tensor.size);
    whole.set(name, values);
    const { dtype } = tensor;
    const longest = Math.floor(limit / bytesPerElement[dtype]);
    let offset = 0;
    for (const { buffer, base, rows } of tensor.segments) {
      const end = base + rows * tensor.rowSize;
      for (let from = base; from < end; from += longest) {
        const length = Math.min(longest, end - from);
        const bytes = length * bytesPerElement[dtype];
        if (batchBytes + bytes > limit) await readBatch();
        batch.push({ into: values.subarray(offset, offset + length), range: { buffer, base: from, length, dtype } });
        batchBytes += bytes;
        offset += length;
      }
    }
  }
  await readBatch();
  return whole;
}
