// Tensors: shape, dtype, and storage as a list of segments cut along the first axis, each within the backend's buffer
// limit. Lifetime is explicit: the garbage collector does not see device memory (scope.ts).
import type { Backend, BufferHandle } from "./backends/backend.ts";
import { bytesPerElement, type DType, type NumberArray, toArray } from "./dtype.ts";
import { OutOfMemoryError, ShapeError } from "./errors.ts";
import { registerInScope } from "./scope.ts";

export type Shape = readonly number[];

/** `count` rows or columns, beginning at `start`. */
export interface IndexRange {
  readonly start: number;
  readonly count: number;
}

/** `rows` rows of a tensor, beginning `base` elements into `buffer`. */
export interface Segment {
  readonly buffer: BufferHandle;
  readonly base: number;
  readonly rows: number;
}

/** The buffers of one allocation, which are freed together. */
export class Storage {
  readonly backend: Backend;
  readonly buffers: readonly BufferHandle[];
  isFreed = false;

  constructor(backend: Backend, buffers: readonly BufferHandle[]) {
    this.backend = backend;
    this.buffers = buffers;
  }

  free(): void {
    if (this.isFreed) return;
    this.isFreed = true;
    for (const buffer of this.buffers) this.backend.release(buffer);
  }
}

/** Called when a view is made: of all elements under another shape (`from` null), or of the rows from `from` on. */
type ViewListener = (x: Tensor, y: Tensor, from: number | null) => void;

let viewListener: ViewListener = () => {};

/** For the tape, which records views. A tensor itself does not depend on the tape. */
export function onView(listener: ViewListener): void {
  viewListener = listener;
}

export class Tensor {
  readonly backend: Backend;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly segments: readonly Segment[];
  /** The owner of the memory. A view shares the storage of the tensor it was made from, and is freed with it. */
  readonly storage: Storage;
  readonly size: number;
  /** Length of the first axis; a scalar has one row. */
  readonly rows: number;
  /** Elements in a row: the product of all axes but the first. */
  readonly rowSize: number;
  /** Whether the tape records what is computed from it: true for parameters, and for results of ops on them. */
  requiresGradient = false;

  constructor(backend: Backend, shape: Shape, dtype: DType, segments: readonly Segment[], storage: Storage) {
    this.backend = backend;
    this.shape = shape;
    this.dtype = dtype;
    this.segments = segments;
    this.storage = storage;
    this.rows = shape[0] ?? 1;
    this.rowSize = rowSizeOf(shape);
    this.size = this.rows * this.rowSize;
  }

  /**
   * The same elements under another shape, without a copy. Inside `record` the gradient passes through.
   * @throws ShapeError when the number of elements differs, or a segment would be cut inside a row of the new shape
   */
  view(shape: Shape): Tensor {
    if (sizeOf(shape) !== this.size)
      throw new ShapeError(
        `view: expected ${this.size} elements as [${this.shape}], got [${shape}], ${sizeOf(shape)} elements`,
      );
    const from = this.rowSize;
    const to = rowSizeOf(shape);
    const segments = this.segments.map((s) => ({
      buffer: s.buffer,
      base: s.base,
      rows: to === 0 ? (shape[0] ?? 1) : (s.rows * from) / to,
    }));
    if (segments.some((s) => !Number.isInteger(s.rows)))
      throw new ShapeError(`view: a segment of [${this.shape}] would be cut inside a row of [${shape}]`);
    const y = new Tensor(this.backend, shape, this.dtype, segments, this.storage);
    viewListener(this, y, null);
    return y;
  }

  /**
   * Rows start … start + count − 1, without a copy. Inside `record` the gradient passes through; it is zero for other
   * rows.
   * @throws ShapeError when there are no such rows
   */
  sliceRows(start: number, count: number): Tensor {
    if (start < 0 || count < 0 || start + count > this.rows)
      throw new ShapeError(`sliceRows: rows ${start}…${start + count} of [${this.shape}]`);
    const segments: Segment[] = [];
    let first = 0;
    for (const s of this.segments) {
      const from = Math.max(start, first);
      const to = Math.min(start + count, first + s.rows);
      if (to > from) segments.push({ buffer: s.buffer, base: s.base + (from - first) * this.rowSize, rows: to - from });
      first += s.rows;
    }
    if (segments.length === 0) segments.push({ ...this.segments[0], rows: 0 });
    const y = new Tensor(this.backend, [count, ...this.shape.slice(1)], this.dtype, segments, this.storage);
    viewListener(this, y, start);
    return y;
  }

  /** Replaces all elements. */
  write(values: ArrayLike<number>): void {
    if (values.length !== this.size)
      throw new ShapeError(`write: expected ${this.size} elements for [${this.shape}], got ${values.length}`);
    const data = toArray(this.dtype, values);
    let offset = 0;
    for (const s of this.segments) {
      const length = s.rows * this.rowSize;
      if (length > 0) this.backend.write(s.buffer, s.base, data.subarray(offset, offset + length));
      offset += length;
    }
  }

  /** All elements, once the work queued so far is done. */
  async read(): Promise<NumberArray> {
    return (await readTensors([this]))[0];
  }

  free(): void {
    this.storage.free();
  }
}

export function sizeOf(shape: Shape): number {
  return (shape[0] ?? 1) * rowSizeOf(shape);
}

function rowSizeOf(shape: Shape): number {
  let product = 1;
  for (let axis = 1; axis < shape.length; axis++) product *= shape[axis];
  return product;
}

/** How many rows go into each segment under the backend's limits. Throws when one row alone is too large. */
export function segmentRows(backend: Pick<Backend, "limits">, shape: Shape, dtype: DType, label: string): number[] {
  const rows = shape[0] ?? 1;
  const rowBytes = rowSizeOf(shape) * bytesPerElement[dtype];
  const { maxBufferBytes, segmentAlignment } = backend.limits;
  if (rows * rowBytes <= maxBufferBytes) return [rows];
  if (rowBytes > maxBufferBytes)
    throw new OutOfMemoryError(
      `${label}: one row of [${shape}] ${dtype} is ${rowBytes} bytes, the adapter's largest binding is ${maxBufferBytes}. ` +
        "Choose an adapter with larger bindings (--adapter).",
    );
  let most = Math.floor(maxBufferBytes / rowBytes);
  // A multiple of the alignment keeps the start of every segment aligned for vector loads. If even the smallest such
  // number of rows is too large, each segment gets a buffer of its own, which is aligned anyway.
  for (let n = most; n > 0; n--)
    if ((n * rowBytes) % segmentAlignment === 0) {
      most = n;
      break;
    }
  const counts: number[] = [];
  for (let left = rows; left > 0; left -= most) counts.push(Math.min(most, left));
  return counts;
}

/** A new tensor of undefined content, owned by the innermost scope. */
export function empty(backend: Backend, shape: Shape, dtype: DType = "f32", label = "tensor"): Tensor {
  const rowSize = rowSizeOf(shape);
  const counts = segmentRows(backend, shape, dtype, label);
  const lengths = counts.map((rows) => rows * rowSize);
  const storage = allocateStorage(backend, lengths, dtype, label);
  const segments = storage.buffers.map((buffer, i): Segment => ({ buffer, base: 0, rows: counts[i] }));
  return new Tensor(backend, shape, dtype, segments, storage);
}

/**
 * Buffers of these lengths in elements, all or none, owned by the innermost scope as one. Their content is undefined.
 * @throws OutOfMemoryError when there is no memory for one of them
 */
export function allocateStorage(backend: Backend, lengths: readonly number[], dtype: DType, label: string): Storage {
  const buffers: BufferHandle[] = [];
  try {
    for (const length of lengths) buffers.push(backend.allocate(length * bytesPerElement[dtype], dtype, label));
  } catch (thrown) {
    for (const buffer of buffers) backend.release(buffer);
    throw thrown;
  }
  const storage = new Storage(backend, buffers);
  registerInScope(storage);
  return storage;
}

/** A new tensor with these elements, owned by the innermost scope. */
export function fromArray(
  backend: Backend,
  values: ArrayLike<number>,
  shape: Shape = [values.length],
  dtype: DType = "f32",
  label = "tensor",
): Tensor {
  const tensor = empty(backend, shape, dtype, label);
  tensor.write(values);
  return tensor;
}

/**
 * Copies all elements into another tensor of the same type and size, on the device.
 * @throws ShapeError when they differ in type or size
 */
export function copyElements(from: Tensor, to: Tensor): void {
  if (from.dtype !== to.dtype || from.size !== to.size)
    throw new ShapeError(
      `copyElements: expected ${from.size} elements of ${from.dtype}, got room for ${to.size} of ${to.dtype}`,
    );
  const place = ({ segments, rowSize }: Tensor) =>
    segments.map(({ buffer, base, rows }) => ({ buffer, base, length: rows * rowSize }));
  const [sources, targets] = [place(from), place(to)];
  for (let i = 0, j = 0; i < sources.length && j < targets.length; ) {
    const [source, target] = [sources[i], targets[j]];
    const length = Math.min(source.length, target.length);
    from.backend.copy(source.buffer, source.base, target.buffer, target.base, length);
    for (const part of [source, target]) {
      part.base += length;
      part.length -= length;
    }
    if (source.length === 0) i++;
    if (target.length === 0) j++;
  }
}

/** Reads several tensors of one backend with one wait. */
export async function readTensors(tensors: readonly Tensor[]): Promise<NumberArray[]> {
  if (tensors.length === 0) return [];
  const ranges = tensors.flatMap((t) =>
    t.segments.map((s) => ({ buffer: s.buffer, base: s.base, length: s.rows * t.rowSize, dtype: t.dtype })),
  );
  const parts = await tensors[0].backend.read(ranges);
  let next = 0;
  return tensors.map((t) => {
    const own = parts.slice(next, next + t.segments.length);
    next += t.segments.length;
    if (own.length === 1) return own[0];
    const whole = toArray(t.dtype, new Array(t.size).fill(0));
    let offset = 0;
    for (const part of own) {
      whole.set(part, offset);
      offset += part.length;
    }
    return whole;
  });
}

/**
 * The part of a buffer from the first to the last of these tensors in it, as numbers, and where each begins there; null if
 * they lie in several buffers.
 */
export function spanOf(tensors: readonly Tensor[]): { span: Tensor; starts: readonly number[] } | null {
  const [{ backend, dtype, storage }] = tensors;
  const [{ buffer }] = tensors[0].segments;
  if (tensors.some(({ segments }) => segments.length !== 1 || segments[0].buffer !== buffer)) return null;
  const bases = tensors.map(({ segments }) => segments[0].base);
  const base = Math.min(...bases);
  const rows = Math.max(...tensors.map(({ segments, size }) => segments[0].base + size)) - base;
  const span = new Tensor(backend, [rows], dtype, [{ buffer, base, rows }], storage);
  return { span, starts: bases.map((own) => own - base) };
}
