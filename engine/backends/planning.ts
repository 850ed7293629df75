// A backend that computes nothing, allocates nothing, and counts what another backend would allocate. Work that is run
// on it tells how much memory it needs, in milliseconds and before anything is allocated, by the same code that later
// allocates.
//
// It cuts tensors by the limits of the other backend, and rounds and keeps buffers as the other's pool does. Every
// value that is read back is 1: a valid token, and a finite norm.

import { bytesPerElement, type DType, type NumberArray, newArray } from "../dtype.ts";
import { memoryLabel } from "../memory-purpose.ts";
import type { Abilities, Backend, BackendLimits, BackendStatistics, BufferHandle, KernelForm } from "./backend.ts";
import { capacityFor, keepFreeBytes } from "./webgpu/pool.ts";

/** The label under which a peak lists the free buffers of the pool. */
const spareLabel = memoryLabel("spare", "released, kept for reuse");

export class PlanningBackend implements Backend {
  readonly kind: Backend["kind"];
  readonly description: string;
  readonly style: Backend["style"];
  readonly memory: Backend["memory"];
  readonly limits: BackendLimits;
  readonly abilities: Abilities;
  readonly #live = new Map<number, { label: string; bytes: number }>();
  readonly #byLabel = new Map<string, number>();
  /** How many released buffers of each size the pool keeps. */
  readonly #free = new Map<number, number>();
  #next = 1;
  #liveBytes = 0;
  #freeBytes = 0;
  #peakBytes = 0;
  /** The moment of peak use: how much memory was live, and for what. */
  #mostLive = 0;
  #isMostLive = false;
  #atMostLive: ReadonlyMap<string, number> = new Map();
  #stagingBytes = 0;
  readonly #forms = new Map<string, KernelForm>();
  #dispatches = 0;
  #flops = 0;

  /** @param meant  the backend that the work is meant for */
  constructor(meant: Pick<Backend, "kind" | "description" | "style" | "memory" | "limits" | "abilities">) {
    this.kind = meant.kind;
    this.description = `plan for ${meant.description}`;
    this.style = meant.style;
    this.memory = meant.memory;
    this.limits = meant.limits;
    this.abilities = meant.abilities;
  }

  allocate(bytes: number, _dtype: DType, label: string): BufferHandle {
    const isPooled = this.kind === "webgpu";
    const capacity = isPooled ? capacityFor(bytes, this.limits.maxBufferBytes) : bytes;
    const ready = this.#free.get(capacity) ?? 0;
    if (ready > 0) {
      this.#free.set(capacity, ready - 1);
      this.#freeBytes -= capacity;
    }
    const buffer = { id: this.#next++, bytes: capacity };
    this.#live.set(buffer.id, { label, bytes: capacity });
    this.#count(label, capacity);
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes + this.#freeBytes);
    if (this.#liveBytes > this.#mostLive) {
      this.#mostLive = this.#liveBytes;
      this.#isMostLive = true;
    }
    return buffer;
  }

  release({ id }: BufferHandle): void {
    const buffer = this.#live.get(id);
    if (buffer === undefined) throw new Error("PlanningBackend: buffer released twice");
    this.#noteMostLive();
    this.#live.delete(id);
    this.#count(buffer.label, -buffer.bytes);
    if (this.kind !== "webgpu") return;
    this.#freeBytes += buffer.bytes;
    this.#free.set(buffer.bytes, (this.#free.get(buffer.bytes) ?? 0) + 1);
  }

  write(): void {}

  copy(): void {}

  dispatch({ kernel, params, constants }: Parameters<Backend["dispatch"]>[0]): void {
    this.#forms.set(`${kernel.name} ${JSON.stringify(constants)}`, { kernel, constants });
    this.#dispatches++;
    this.#flops += kernel.flops?.(params) ?? 0;
  }

  async read(ranges: readonly { length: number; dtype: DType }[]): Promise<NumberArray[]> {
    this.#trim();
    const bytes = ranges.reduce((sum, { length, dtype }) => sum + length * bytesPerElement[dtype], 0);
    this.#stagingBytes = Math.max(this.#stagingBytes, bytes);
    return ranges.map(({ length, dtype }) => newArray(dtype, length).fill(1));
  }

  flush(): void {}

  async idle(): Promise<void> {
    this.#trim();
  }

  statistics(): BackendStatistics {
    return {
      liveBuffers: this.#live.size,
      liveBytes: this.#liveBytes,
      peakBytes: this.#peakBytes,
      pooledBytes: this.#freeBytes,
      dispatches: this.#dispatches,
      flops: this.#flops,
      submissions: 0,
      encodeMs: 0,
      waitMs: 0,
      pipelines: 0,
    };
  }

  destroy(): void {}

  /** Bytes per label at peak use, plus the most that the pool keeps beside that. They sum to `peakBytes`. */
  bytesAtPeak(): ReadonlyMap<string, number> {
    this.#noteMostLive();
    return new Map([...this.#atMostLive, [spareLabel, this.#peakBytes - this.#mostLive]]);
  }

  /** Every kernel that the work ran, with each set of constants. */
  get forms(): readonly KernelForm[] {
    return [...this.#forms.values()];
  }

  /** Bytes of the largest read: a device copies them into memory that the host can see. */
  get stagingBytes(): number {
    return this.#stagingBytes;
  }

  #count(label: string, bytes: number): void {
    this.#liveBytes += bytes;
    this.#byLabel.set(label, (this.#byLabel.get(label) ?? 0) + bytes);
  }

  /** The device is idle: the pool frees what is beyond its limit, the largest buffers first. */
  #trim(): void {
    for (const [capacity, count] of [...this.#free].sort(([one], [other]) => other - one)) {
      const given = Math.min(count, Math.ceil(Math.max(0, this.#freeBytes - keepFreeBytes) / capacity));
      this.#free.set(capacity, count - given);
      this.#freeBytes -= given * capacity;
    }
  }

  /** Called before the first release after the peak. */
  #noteMostLive(): void {
    if (this.#isMostLive) this.#atMostLive = new Map([...this.#byLabel].filter(([, bytes]) => bytes > 0));
    this.#isMostLive = false;
  }
}
