// Device buffers, reused. Work runs in the order it was queued. So a released buffer may serve the next allocation at
// once: everything that reads it was queued before anything that will write it. Free buffers beyond a limit are
// returned to the driver, but only when the device is idle: a software driver was seen to access a destroyed buffer
// that earlier work used.

import { OutOfMemoryError } from "../../errors.ts";
import { formatBytes } from "../../host/files.ts";
import type { BufferHandle } from "../backend.ts";

export interface PooledBuffer extends BufferHandle {
  readonly gpu: GPUBuffer;
  readonly capacity: number;
  /** Number of the submission that contains the last work on it. */
  lastUse: number;
  /**
   * What it holds; null while it is free, and `destroyed` when it is gone. The GPU's own buffer keeps the first label: changing
   * it takes 1 µs.
   */
  label: string | null;
  /** How often it was allocated: a number that stands for what it holds now. */
  allocations: number;
}

const destroyed = "destroyed";

/** Whether a buffer holds a tensor: it is neither free nor gone. */
export const isHeld = ({ label }: PooledBuffer): boolean => label !== null && label !== destroyed;

/** Free buffers beyond this many bytes are destroyed when the device is idle. */
export const keepFreeBytes = 512 * 2 ** 20;
const smallest = 256;

export class BufferPool {
  readonly #createBuffer: (label: string, size: number) => GPUBuffer;
  readonly #maxBufferBytes: number;
  readonly #totalBytes: number;
  /**
   * Free buffers by size; the oldest is last and is reused first. Equal steps therefore get the same buffers in the
   * same order, and find their bind groups in the cache. (If the newest were reused first, each step would get
   * different ones.)
   */
  readonly #free = new Map<number, PooledBuffer[]>();
  readonly #onDestroy: (buffer: PooledBuffer) => void;
  #next = 1;
  #liveBuffers = 0;
  liveBytes = 0;
  peakBytes = 0;
  freeBytes = 0;

  /**
   * @param createBuffer  asks the device for a buffer
   * @param limits        bytes of the largest buffer and of all together
   * @param onDestroy     called before a buffer is returned to the driver
   */
  constructor(
    createBuffer: (label: string, size: number) => GPUBuffer,
    limits: { maxBufferBytes: number; totalBytes: number },
    onDestroy: (buffer: PooledBuffer) => void,
  ) {
    this.#createBuffer = createBuffer;
    this.#maxBufferBytes = limits.maxBufferBytes;
    this.#totalBytes = limits.totalBytes;
    this.#onDestroy = onDestroy;
  }

  get liveBuffers(): number {
    return this.#liveBuffers;
  }

  /** @throws OutOfMemoryError if the buffer, or all buffers together, would exceed the limits */
  allocate(bytes: number, label: string): PooledBuffer {
    const capacity = capacityFor(bytes, this.#maxBufferBytes);
    let buffer = this.#free.get(capacity)?.pop();
    if (buffer === undefined) buffer = this.#create(capacity, label);
    else this.freeBytes -= capacity;
    buffer.label = label;
    buffer.allocations++;
    this.#liveBuffers++;
    this.liveBytes += capacity;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes + this.freeBytes);
    return buffer;
  }

  release(buffer: PooledBuffer): void {
    if (buffer.label === null) throw new Error(`BufferPool: a buffer of ${buffer.capacity} bytes was released twice`);
    this.#liveBuffers--;
    this.liveBytes -= buffer.capacity;
    buffer.label = null;
    this.freeBytes += buffer.capacity;
    const list = this.#free.get(buffer.capacity);
    if (list === undefined) this.#free.set(buffer.capacity, [buffer]);
    else list.splice(placeOf(buffer, list), 0, buffer);
  }

  /**
   * Destroys free buffers, the largest first, until at most `keep` bytes are free. Call it only when no work is
   * pending.
   */
  trim(keep = keepFreeBytes): void {
    if (this.freeBytes <= keep) return;
    for (const capacity of [...this.#free.keys()].sort((a, b) => b - a)) {
      const list = this.#free.get(capacity) ?? [];
      while (this.freeBytes > keep) {
        const buffer = list.pop();
        if (buffer === undefined) break;
        this.freeBytes -= capacity;
        this.#onDestroy(buffer);
        buffer.label = destroyed;
        buffer.gpu.destroy();
      }
      if (list.length === 0) this.#free.delete(capacity);
    }
  }

  #create(capacity: number, label: string): PooledBuffer {
    if (capacity > this.#maxBufferBytes)
      throw new OutOfMemoryError(
        `${label}: a buffer of ${formatBytes(capacity)}, but the adapter's largest has ${formatBytes(this.#maxBufferBytes)}. ` +
          "Choose an adapter with larger buffers (--adapter).",
      );
    const total = this.liveBytes + capacity;
    if (total > this.#totalBytes)
      throw new OutOfMemoryError(
        `${label}: ${formatBytes(capacity)} more would make ${formatBytes(total)} in ${this.liveBuffers + 1} buffers; the adapter ` +
          `has room for ${formatBytes(this.#totalBytes)}. ${lessMemory}`,
      );
    return {
      id: this.#next++,
      bytes: capacity,
      capacity,
      lastUse: -1,
      allocations: 0,
      label,
      gpu: this.#createBuffer(label, capacity),
    };
  }
}

/** The position of a buffer in a list that descends by id. */
function placeOf({ id }: PooledBuffer, list: readonly PooledBuffer[]): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].id > id) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What a user can do if memory does not suffice. */
export const lessMemory = "Work on less at a time, or choose an adapter with more memory (--adapter).";

/**
 * Size classes. Up to 4 MiB: powers of two, so that batches of all sizes share few buffers and few bind groups. Above:
 * four classes per power of two, so that at most a fifth of a buffer is unused.
 */
export function capacityFor(bytes: number, most: number): number {
  if (bytes <= smallest) return smallest;
  const power = bytes <= 2 ** 31 ? 2 ** (32 - Math.clz32(bytes - 1)) : 2 ** Math.ceil(Math.log2(bytes));
  if (power <= 2 ** 22) return Math.max(bytes, Math.min(power, most));
  const step = power / 8;
  return Math.max(bytes, Math.min(Math.ceil(bytes / step) * step, most));
}
