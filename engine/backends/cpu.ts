// The plain-TypeScript backend: typed arrays and loops. It defines what every kernel computes; gradient checks run on
// it in float64. Its buffer limit can be set, so that tests can compare tensors cut into segments with whole ones.

import { bytesPerElement, type DType, type NumberArray, newArray } from "../dtype.ts";
import {
  type Backend,
  type BackendLimits,
  type BackendStatistics,
  type BufferHandle,
  type Dispatch,
  noAbilities,
} from "./backend.ts";

interface CpuBuffer extends BufferHandle {
  readonly array: NumberArray;
}

export interface CpuOptions {
  maxBufferBytes?: number;
}

export class CpuBackend implements Backend {
  readonly kind = "cpu";
  readonly description = "plain TypeScript (float64 arithmetic)";
  readonly style = "plain";
  readonly memory = "host";
  readonly limits: BackendLimits;
  readonly abilities = noAbilities;
  readonly #live = new Map<number, CpuBuffer>();
  readonly #statistics: BackendStatistics = {
    liveBuffers: 0,
    liveBytes: 0,
    peakBytes: 0,
    pooledBytes: 0,
    dispatches: 0,
    flops: 0,
    submissions: 0,
    encodeMs: 0,
    waitMs: 0,
    pipelines: 0,
  };
  #next = 1;

  constructor(options: CpuOptions = {}) {
    this.limits = { maxBufferBytes: options.maxBufferBytes ?? Number.MAX_SAFE_INTEGER, segmentAlignment: 256 };
  }

  allocate(bytes: number, dtype: DType): BufferHandle {
    // Float buffers start as NaN, which reveals a kernel that reads elements that were never written.
    const array = newArray(dtype, bytes / bytesPerElement[dtype]);
    if (array instanceof Float32Array || array instanceof Float64Array) array.fill(Number.NaN);
    const buffer = { id: this.#next++, bytes, array };
    this.#live.set(buffer.id, buffer);
    const s = this.#statistics;
    s.liveBuffers++;
    s.liveBytes += bytes;
    s.peakBytes = Math.max(s.peakBytes, s.liveBytes);
    return buffer;
  }

  release(buffer: BufferHandle): void {
    if (!this.#live.delete(buffer.id)) throw new Error("CpuBackend: buffer released twice");
    this.#statistics.liveBuffers--;
    this.#statistics.liveBytes -= buffer.bytes;
  }

  write(buffer: BufferHandle, base: number, data: NumberArray): void {
    this.#array(buffer).set(data, base);
  }

  async read(ranges: readonly { buffer: BufferHandle; base: number; length: number }[]): Promise<NumberArray[]> {
    return ranges.map(({ buffer, base, length }) => this.#array(buffer).slice(base, base + length));
  }

  dispatch({ kernel, buffers, params, constants }: Dispatch): void {
    const names = Object.keys(kernel.bindings);
    const views = Object.fromEntries(
      buffers.map(({ buffer, base }, i) => [names[i], this.#array(buffer).subarray(base)]),
    );
    const start = performance.now();
    kernel.cpu(views, params, constants);
    this.#statistics.waitMs += performance.now() - start;
    this.#statistics.dispatches++;
    this.#statistics.flops += kernel.flops?.(params) ?? 0;
  }

  copy(from: BufferHandle, fromBase: number, to: BufferHandle, toBase: number, length: number): void {
    this.#array(to).set(this.#array(from).subarray(fromBase, fromBase + length), toBase);
  }

  flush(): void {}
  async idle(): Promise<void> {}

  statistics(): BackendStatistics {
    return { ...this.#statistics };
  }

  destroy(): void {
    this.#live.clear();
  }

  #array(buffer: BufferHandle): NumberArray {
    const found = this.#live.get(buffer.id);
    if (found === undefined) throw new Error("CpuBackend: buffer was released");
    return found.array;
  }
}
