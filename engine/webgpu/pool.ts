// Device buffers, reused. Work runs in the order it was given, so a buffer that was released may serve the next allocation
// at once: whatever still reads it was queued before whatever will write it.
import type { BufferHandle } from "../backend.ts";
import { OutOfMemoryError } from "../errors.ts";

export interface PooledBuffer extends BufferHandle {
  readonly gpu: GPUBuffer;
  readonly capacity: number;
}

/** Free buffers kept beyond this many bytes are destroyed. */
const keepFreeBytes = 512 * 2 ** 20;
const smallest = 256;

export class BufferPool {
  readonly #device: GPUDevice;
  readonly #maxBufferBytes: number;
  readonly #free = new Map<number, PooledBuffer[]>();
  readonly #onDestroy: (buffer: PooledBuffer) => void;
  #next = 1;
  readonly #doomed: PooledBuffer[] = [];
  #live = new Set<number>();
  liveBytes = 0;
  peakBytes = 0;
  freeBytes = 0;

  constructor(device: GPUDevice, maxBufferBytes: number, onDestroy: (buffer: PooledBuffer) => void) {
    this.#device = device;
    this.#maxBufferBytes = maxBufferBytes;
    this.#onDestroy = onDestroy;
  }

  get liveBuffers(): number {
    return this.#live.size;
  }

  allocate(bytes: number, label: string): PooledBuffer {
    const capacity = capacityFor(bytes, this.#maxBufferBytes);
    const buffer = this.#free.get(capacity)?.pop() ?? this.#create(capacity, label);
    if (buffer.gpu.label === "free") this.freeBytes -= capacity;
    buffer.gpu.label = label;
    this.#live.add(buffer.id);
    this.liveBytes += capacity;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes + this.freeBytes);
    return buffer;
  }

  release(buffer: PooledBuffer): void {
    if (!this.#live.delete(buffer.id)) throw new Error(`BufferPool: ${buffer.gpu.label} released twice`);
    this.liveBytes -= buffer.capacity;
    if (this.freeBytes + buffer.capacity > keepFreeBytes) {
      this.#doomed.push(buffer);
      return;
    }
    buffer.gpu.label = "free";
    this.freeBytes += buffer.capacity;
    const list = this.#free.get(buffer.capacity);
    if (list === undefined) this.#free.set(buffer.capacity, [buffer]);
    else list.push(buffer);
  }

  /**
   * Destroys what was released beyond the limit. To be called when no work is under way: a software driver was seen to touch
   * the memory of a buffer that had been destroyed behind the work that uses it.
   */
  destroyDoomed(): void {
    for (const buffer of this.#doomed.splice(0)) {
      this.#onDestroy(buffer);
      buffer.gpu.destroy();
    }
  }

  /** Gives the memory of all free buffers back. */
  trim(): void {
    for (const list of this.#free.values())
      for (const buffer of list) {
        this.#onDestroy(buffer);
        buffer.gpu.destroy();
      }
    this.#free.clear();
    this.freeBytes = 0;
  }

  #create(capacity: number, label: string): PooledBuffer {
    if (capacity > this.#maxBufferBytes)
      throw new OutOfMemoryError(
        `${label}: a buffer of ${capacity} bytes is above the limit of ${this.#maxBufferBytes}.`,
      );
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    return {
      id: this.#next++,
      bytes: capacity,
      capacity,
      gpu: this.#device.createBuffer({ label, size: capacity, usage }),
    };
  }
}

/**
 * Size classes: powers of two up to 4 MiB, so that batches of all sizes share few buffers (and few bind groups); above that
 * four to a power of two, so that at most a fifth is spare.
 */
function capacityFor(bytes: number, most: number): number {
  if (bytes <= smallest) return smallest;
  const power = 2 ** Math.ceil(Math.log2(bytes));
  if (power <= 2 ** 22) return Math.max(bytes, Math.min(power, most));
  const step = power / 8;
  return Math.max(bytes, Math.min(Math.ceil(bytes / step) * step, most));
}
