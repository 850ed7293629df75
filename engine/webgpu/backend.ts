// The WebGPU backend on Dawn. Dispatches collect in one compute pass; parameter blocks collect in one host array and go to
// the device in one write; both are handed over at `flush`, when the array is full, or when somebody reads.
import { globals } from "webgpu";
import type { Backend, BackendLimits, BackendStatistics, BufferHandle, Dispatch } from "../backend.ts";
import { bytesPerElement, type DType, type NumberArray } from "../dtype.ts";
import { asError, DeviceError } from "../errors.ts";
import { type AnyKernel, parameterBlock } from "../kernel.ts";
import { blockBytes, Pipelines } from "./pipelines.ts";
import { BufferPool, type PooledBuffer } from "./pool.ts";

// Dawn's names for usages and stages (GPUBufferUsage and the like), where browsers have them.
Object.assign(globalThis, globals);

/** Nobody ever wakes it: a wait on it is a sleep. */
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Parameter blocks in flight: a longer queue is handed over in parts. */
const blocksPerSubmission = 2048;

export interface WebGpuOptions {
  description: string;
  style: Backend["style"];
  /** Lower the buffer limit: tests force every tensor into segments with it. */
  maxBufferBytes?: number;
}

export class WebGpuBackend implements Backend {
  readonly kind = "webgpu";
  readonly description: string;
  readonly style: Backend["style"];
  readonly limits: BackendLimits;
  readonly device: GPUDevice;
  readonly #pool: BufferPool;
  readonly #pipelines: Pipelines;
  readonly #uniforms: GPUBuffer;
  readonly #blocks = new ArrayBuffer(blocksPerSubmission * blockBytes);
  readonly #blockBytes = new Uint8Array(this.#blocks);
  readonly #blockU32 = new Uint32Array(this.#blocks);
  readonly #blockI32 = new Int32Array(this.#blocks);
  readonly #blockF32 = new Float32Array(this.#blocks);
  readonly #maxGroups: number;
  readonly #staging: GPUBuffer[] = [];
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #blockCount = 0;
  #kernels: string[] = [];
  #failure: DeviceError | null = null;
  #dispatches = 0;
  #flops = 0;
  #submissions = 0;
  #encodeMs = 0;
  #waitMs = 0;
  /** Reads and waits under way. */
  #waiting = 0;
  #waitStart = { now: 0, encodeMs: 0 };

  constructor(device: GPUDevice, options: WebGpuOptions) {
    this.device = device;
    this.description = options.description;
    this.style = options.style;
    const most = Math.min(device.limits.maxBufferSize, device.limits.maxStorageBufferBindingSize);
    this.limits = { maxBufferBytes: Math.min(options.maxBufferBytes ?? most, most), segmentAlignment: 256 };
    this.#maxGroups = device.limits.maxComputeWorkgroupsPerDimension;
    this.#uniforms = device.createBuffer({
      label: "params",
      size: blocksPerSubmission * blockBytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.#pipelines = new Pipelines(device, this.#uniforms);
    this.#pool = new BufferPool(device, this.limits.maxBufferBytes, (buffer) => this.#pipelines.forget(buffer));
    device.lost.then((info) => {
      if (info.reason !== "destroyed") this.#failure ??= new DeviceError(`the GPU device was lost: ${info.message}`);
    });
    device.onuncapturederror = (event) => {
      this.#failure ??= new DeviceError(event.error.message);
    };
  }

  allocate(bytes: number, _dtype: DType, label: string): BufferHandle {
    return this.#pool.allocate(bytes, label);
  }

  release(buffer: BufferHandle): void {
    this.#pool.release(buffer as PooledBuffer);
  }

  write(buffer: BufferHandle, base: number, data: NumberArray): void {
    if (data instanceof Float64Array) throw new DeviceError("write: f64 has no place on a GPU; use the plain backend");
    if (data.length === 0) return;
    // A queue write overtakes what is not handed over yet.
    this.flush();
    const { gpu } = buffer as PooledBuffer;
    this.device.queue.writeBuffer(gpu, base * 4, data.buffer, data.byteOffset, data.byteLength);
  }

  dispatch(work: Dispatch): void {
    const start = performance.now();
    this.#encode(work);
    this.#encodeMs += performance.now() - start;
  }

  #encode({ kernel, buffers, params, constants }: Dispatch): void {
    const groups = this.#workgroups(kernel, kernel.workgroups(params, constants));
    if (groups === null) return;
    if (this.#blockCount === blocksPerSubmission) this.flush();
    if (this.#pass === null) {
      this.device.pushErrorScope("validation");
      this.#encoder = this.device.createCommandEncoder();
      this.#pass = this.#encoder.beginComputePass();
    }
    const offset = this.#blockCount * blockBytes;
    this.#writeBlock(kernel, offset / 4, buffers, params);
    this.#blockCount++;
    const pass = this.#pass;
    pass.setPipeline(this.#pipelines.pipeline(kernel, constants));
    const group = this.#pipelines.group(
      kernel,
      buffers.map((b) => b.buffer as PooledBuffer),
    );
    pass.setBindGroup(0, group, [offset]);
    pass.dispatchWorkgroups(...groups);
    this.#kernels.push(kernel.name);
    this.#dispatches++;
    this.#flops += kernel.flops?.(params) ?? 0;
  }

  flush(): void {
    if (this.#pass === null || this.#encoder === null) return;
    const start = performance.now();
    this.#pass.end();
    this.device.queue.writeBuffer(this.#uniforms, 0, this.#blockBytes, 0, this.#blockCount * blockBytes);
    this.device.queue.submit([this.#encoder.finish()]);
    const kernels = this.#kernels;
    this.device.popErrorScope().then(
      (error) => {
        if (error !== null) this.#failure ??= new DeviceError(`${[...new Set(kernels)].join(", ")}: ${error.message}`);
      },
      (error) => {
        this.#failure ??= new DeviceError(asError(error).message);
      },
    );
    this.#pass = null;
    this.#encoder = null;
    this.#blockCount = 0;
    this.#kernels = [];
    this.#submissions++;
    this.#encodeMs += performance.now() - start;
  }

  async read(
    ranges: readonly { buffer: BufferHandle; base: number; length: number; dtype: DType }[],
  ): Promise<NumberArray[]> {
    this.flush();
    let bytes = 0;
    const places = ranges.map(({ length, dtype }) => {
      const place = bytes;
      bytes += Math.ceil((length * bytesPerElement[dtype]) / 8) * 8;
      return place;
    });
    const staging = this.#takeStaging(Math.max(bytes, 8));
    const encoder = this.device.createCommandEncoder();
    ranges.forEach(({ buffer, base, length }, i) => {
      if (length > 0)
        encoder.copyBufferToBuffer((buffer as PooledBuffer).gpu, base * 4, staging, places[i], length * 4);
    });
    this.device.queue.submit([encoder.finish()]);
    try {
      await this.#patiently(staging.mapAsync(GPUMapMode.READ, 0, Math.max(bytes, 8)));
    } catch (error) {
      throw this.#failure ?? new DeviceError(`reading from the GPU failed: ${asError(error).message}`);
    }
    const copy = staging.getMappedRange(0, Math.max(bytes, 8)).slice(0);
    staging.unmap();
    this.#staging.push(staging);
    this.#settle();
    this.#throwFailure();
    return ranges.map(({ length, dtype }, i) => {
      switch (dtype) {
        case "f32":
          return new Float32Array(copy, places[i], length);
        case "i32":
          return new Int32Array(copy, places[i], length);
        case "u32":
          return new Uint32Array(copy, places[i], length);
        default:
          throw new DeviceError(`reading ${dtype} tensors from a GPU is not possible; convert to f32 first`);
      }
    });
  }

  async idle(): Promise<void> {
    this.flush();
    await this.#patiently(this.device.queue.onSubmittedWorkDone());
    this.#settle();
    this.#throwFailure();
  }

  statistics(): BackendStatistics {
    return {
      liveBuffers: this.#pool.liveBuffers,
      liveBytes: this.#pool.liveBytes,
      peakBytes: this.#pool.peakBytes,
      pooledBytes: this.#pool.freeBytes,
      dispatches: this.#dispatches,
      flops: this.#flops,
      submissions: this.#submissions,
      encodeMs: this.#encodeMs,
      waitMs: this.#waitMs,
      pipelines: this.#pipelines.count,
    };
  }

  destroy(): void {
    this.flush();
    this.device.destroy();
  }

  /**
   * Waits for the GPU without burning a core: Dawn on Node asks for news at every turn of the event loop, as fast as it can
   * turn. On a software driver that core is half of the machine. So the thread sleeps a little between two turns.
   */
  async #patiently<T>(promise: Promise<T>): Promise<T> {
    if (this.#waiting++ === 0) this.#waitStart = { now: performance.now(), encodeMs: this.#encodeMs };
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    const longestMs = this.style === "gpu" ? 0.1 : 2;
    let sleepMs = 0.05;
    while (!isSettled) {
      await new Promise((resolve) => setImmediate(resolve));
      if (isSettled) break;
      Atomics.wait(sleeper, 0, 0, sleepMs);
      sleepMs = Math.min(sleepMs * 1.5, longestMs);
    }
    if (--this.#waiting === 0) {
      // Waits that overlap count once, and what was encoded during them is not waiting.
      const { now, encodeMs } = this.#waitStart;
      this.#waitMs += performance.now() - now - (this.#encodeMs - encodeMs);
    }
    return promise;
  }

  /** All work that was handed over is done; where nothing was begun since, released memory can go. */
  #settle(): void {
    if (this.#pass === null && this.#waiting === 0) this.#pool.destroyDoomed();
  }

  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = null;
    if (failure !== null) throw failure;
  }

  #takeStaging(bytes: number): GPUBuffer {
    const index = this.#staging.findIndex((b) => b.size >= bytes);
    if (index >= 0) return this.#staging.splice(index, 1)[0];
    if (this.#staging.length > 4) this.#staging.shift()?.destroy();
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, 4096)));
    return this.device.createBuffer({
      label: "staging",
      size,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
  }

  #workgroups(
    kernel: AnyKernel,
    asked: readonly [number] | readonly [number, number, number],
  ): [number, number, number] | null {
    const [x, y, z] = asked.length === 1 ? [asked[0], 1, 1] : asked;
    if (x === 0 || y === 0 || z === 0) return null;
    if (asked.length === 1 && x > this.#maxGroups) {
      const rows = Math.ceil(x / this.#maxGroups);
      return [Math.ceil(x / rows), rows, 1];
    }
    if (Math.max(x, y, z) > this.#maxGroups)
      throw new DeviceError(`${kernel.name}: ${x}×${y}×${z} workgroups, the adapter takes ${this.#maxGroups} an axis`);
    return [x, y, z];
  }

  #writeBlock(kernel: AnyKernel, at: number, buffers: Dispatch["buffers"], params: Record<string, number>): void {
    let word = at;
    for (const { name, type } of blockOf(kernel)) {
      const value = params[name];
      if (value === undefined) throw new DeviceError(`${kernel.name}: no value for param "${name}"`);
      if (type === "f32") this.#blockF32[word] = value;
      else if (type === "i32") this.#blockI32[word] = value;
      else this.#blockU32[word] = value;
      word++;
    }
    if (word - at > blockBytes / 4) throw new DeviceError(`${kernel.name}: more than ${blockBytes / 4} params`);
    if (buffers.length === 0) throw new DeviceError(`${kernel.name}: no bindings`);
  }
}

const blocks = new Map<AnyKernel, ReturnType<typeof parameterBlock>>();
function blockOf(kernel: AnyKernel): ReturnType<typeof parameterBlock> {
  const found = blocks.get(kernel);
  if (found !== undefined) return found;
  const made = parameterBlock(kernel);
  blocks.set(kernel, made);
  return made;
}
