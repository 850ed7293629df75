// The WebGPU backend on Dawn. Dispatches are collected in one compute pass, which is submitted at `flush`, when it is
// long, or when a caller reads: then together with the copies for the host.
import { bytesPerElement, type DType, type NumberArray, newArray } from "../../dtype.ts";
import { DeviceError, OutOfMemoryError } from "../../errors.ts";
import { asError } from "../../host/errors.ts";
import { formatBytes } from "../../host/files.ts";
import {
  type Abilities,
  type Backend,
  type BackendLimits,
  type BackendStatistics,
  type BufferHandle,
  type Dispatch,
  type KernelForm,
  noAbilities,
  type RecordedWork,
  type WorkRecorder,
} from "../backend.ts";
import { Failures } from "./failures.ts";
import { Pipelines } from "./pipelines.ts";
import { BufferPool, lessMemory, type PooledBuffer } from "./pool.ts";
import { ParameterBlocks, PreparedCells } from "./prepared.ts";
import { copiesOf, Readback } from "./readback.ts";
import { type PreparedDispatch, Recorded, WorkNotes } from "./recorded.ts";
import { isTracing, summaryOf, Trace } from "./timing.ts";
import { Waits } from "./waiting.ts";

/** Dispatches per submission: a longer queue is submitted in parts. */
const mostDispatches = 2048;

/** The time of a dispatch beyond its products, in floating-point operations: about 60 µs on lavapipe. It serves to guess how long a wait is. */
const operationsPerDispatch = 1.5e6;

/** Bytes that the host writes in the middle of one submission's work; more begin another submission. */
const uploadBytes = 256 * 1024;

/**
 * SwiftShader states a limit of 1 GiB but cannot allocate a buffer of that size: Dawn adds some bytes to each
 * (measured: 16 are too many).
 */
const driverReserve = 256;

export interface WebGpuOptions {
  description: string;
  style: Backend["style"];
  memory: Backend["memory"];
  /** What the device was opened with (device.ts). Default: core WebGPU alone. */
  abilities?: Abilities;
  /** Whether its kernels are timed. Default: if FOOTHOLD_TRACE is set. */
  isTraced?: boolean;
  /** Lower the buffer limit: tests use it to force every tensor into segments. */
  maxBufferBytes?: number;
  /**
   * Largest total size of all buffers, bytes. Default on a software driver: the memory that the machine has free now,
   * because such a driver allocates more and the operating system then kills the process. Default on a GPU: no limit,
   * because its driver refuses.
   */
  totalBytes?: number;
}

export class WebGpuBackend implements Backend {
  readonly kind = "webgpu";
  readonly description: string;
  readonly style: Backend["style"];
  readonly memory: Backend["memory"];
  readonly limits: BackendLimits;
  readonly abilities: Abilities;
  readonly device: GPUDevice;
  readonly #failures: Failures;
  readonly #pool: BufferPool;
  readonly #pipelines: Pipelines;
  readonly #cells: PreparedCells;
  readonly #blocks: ParameterBlocks;
  readonly #uploads: GPUBuffer;
  readonly #uploadBytes = new Uint8Array(uploadBytes);
  readonly #waits: Waits;
  readonly #readback: Readback;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  /** The pipeline that the pass runs now. */
  #pipeline: GPUComputePipeline | null = null;
  #uploadCount = 0;
  #kernels: string[] = [];
  #dispatches = 0;
  #flops = 0;
  #submissions = 0;
  /** What was submitted since the last wait, in floating-point operations. */
  #work = 0;
  #encodeMs = 0;
  /** null: no trace was asked for, or the adapter has no timestamps. */
  readonly #trace: Trace | null;
  /** What is noted of the work that is being recorded; null if none is. */
  #notes: WorkNotes | null = null;
  readonly recorder: WorkRecorder = {
    record: (body) => this.#record(body),
    atEachReplay: (write) => (this.#notes === null ? write() : this.#notes.atEachReplay(write)),
    replay: (work) => this.#replay(work),
  };

  constructor(device: GPUDevice, options: WebGpuOptions) {
    this.device = device;
    this.description = options.description;
    this.style = options.style;
    this.memory = options.memory;
    this.abilities = options.abilities ?? noAbilities;
    this.#failures = new Failures(device);
    this.#waits = new Waits(this.memory === "device" ? 0.1 : 2);
    this.#readback = new Readback(this.#waits, (label, size, usage) => this.#createBuffer(label, size, usage));
    const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
    const most = Math.min(maxBufferSize - driverReserve, maxStorageBufferBindingSize);
    const totalBytes = options.totalBytes ?? (this.memory === "host" ? process.availableMemory() : undefined);
    this.limits = { maxBufferBytes: Math.min(options.maxBufferBytes ?? most, most), segmentAlignment: 256, totalBytes };
    this.#blocks = new ParameterBlocks(device);
    this.#uploads = device.createBuffer({
      label: "uploads",
      size: uploadBytes,
      usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    this.#pipelines = new Pipelines(device, this.#blocks.buffer, (kernel, message) => {
      this.#failures.add(new DeviceError(`${kernel}: the adapter refuses its shader: ${message}`));
    });
    this.#cells = new PreparedCells(this.#pipelines, device.limits.maxComputeWorkgroupsPerDimension);
    this.#trace = (options.isTraced ?? isTracing()) ? this.#startTrace() : null;
    this.#pool = new BufferPool(
      (label, size) =>
        this.#createBuffer(label, size, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST),
      { maxBufferBytes: this.limits.maxBufferBytes, totalBytes: totalBytes ?? Number.POSITIVE_INFINITY },
      (buffer) => this.#pipelines.forget(buffer),
    );
  }

  allocate(bytes: number, _dtype: DType, label: string): BufferHandle {
    const buffer = this.#pool.allocate(bytes, label);
    this.#notes?.allocated(buffer);
    return buffer;
  }

  release(buffer: BufferHandle): void {
    this.#notes?.released(buffer as PooledBuffer);
    this.#pool.release(buffer as PooledBuffer);
  }

  write(buffer: BufferHandle, base: number, data: NumberArray): void {
    if (data instanceof Float64Array) throw new DeviceError("write: a GPU has no f64; use the plain backend");
    if (data.length === 0) return;
    const own = buffer as PooledBuffer;
    this.#notes?.written(own);
    // A queue write is executed before any work that is not yet submitted. That matters only if such work uses this
    // buffer: then the data is written to an upload buffer, and copied from there in the order of that work.
    if (this.#encoder !== null && own.lastUse === this.#submissions) {
      if (this.#uploadCount + data.byteLength <= uploadBytes) {
        this.#uploadBytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), this.#uploadCount);
        this.#endPass();
        this.#encoder.copyBufferToBuffer(this.#uploads, this.#uploadCount, own.gpu, base * 4, data.byteLength);
        this.#uploadCount += data.byteLength;
        return;
      }
      this.flush();
    }
    this.device.queue.writeBuffer(own.gpu, base * 4, data.buffer, data.byteOffset, data.byteLength);
  }

  copy(from: BufferHandle, fromBase: number, to: BufferHandle, toBase: number, length: number): void {
    if (length === 0) return;
    this.#notes?.copied();
    const [source, target] = [from as PooledBuffer, to as PooledBuffer];
    const encoder = this.#openEncoder();
    this.#endPass();
    encoder.copyBufferToBuffer(source.gpu, fromBase * 4, target.gpu, toBase * 4, length * 4);
    source.lastUse = this.#submissions;
    target.lastUse = this.#submissions;
  }

  #record(body: () => void): RecordedWork | null {
    if (this.#notes !== null) throw new Error("WebGpuBackend: work is recorded inside recorded work");
    const notes = new WorkNotes();
    this.#notes = notes;
    try {
      body();
    } finally {
      this.#notes = null;
    }
    return notes.end();
  }

  #replay(work: RecordedWork): boolean {
    if (!(work instanceof Recorded) || !work.isCurrent) return false;
    const start = performance.now();
    for (const entry of work.entries)
      if (typeof entry === "function") entry();
      else this.#queue(entry);
    this.#encodeMs += performance.now() - start;
    return true;
  }

  dispatch(work: Dispatch): void {
    const start = performance.now();
    this.#encode(work);
    this.#encodeMs += performance.now() - start;
  }

  #encode(work: Dispatch): void {
    const cell = this.#cells.of(work);
    if (cell === null) return;
    const { kernel, buffers } = work;
    const prepared: PreparedDispatch = {
      kernel,
      cell,
      group: this.#pipelines.group(cell.layout, buffers),
      buffers: buffers.map(({ buffer }) => buffer as PooledBuffer),
      bytes: buffers.reduce((sum, { length, dtype }) => sum + length * bytesPerElement[dtype], 0),
    };
    this.#notes?.dispatched(prepared);
    this.#queue(prepared);
  }

  #queue({ kernel, cell, group, buffers, bytes }: PreparedDispatch): void {
    if (this.#kernels.length === mostDispatches || this.#trace?.isFull) this.flush();
    if (!this.#blocks.place(cell)) {
      this.flush();
      this.#blocks.restart();
      this.#blocks.place(cell);
    }
    const encoder = this.#openEncoder();
    if (this.#trace !== null) {
      this.#endPass();
      this.#pass = this.#trace.beginPass(encoder, kernel, cell.flops, bytes);
    }
    this.#pass ??= encoder.beginComputePass();
    const pass = this.#pass;
    if (this.#pipeline !== cell.pipeline) {
      pass.setPipeline(cell.pipeline);
      this.#pipeline = cell.pipeline;
    }
    for (let i = 0; i < buffers.length; i++) buffers[i].lastUse = this.#submissions;
    pass.setBindGroup(0, group, cell.offset);
    const [x, y, z] = cell.workgroups;
    if (y === 1 && z === 1) pass.dispatchWorkgroups(x);
    else pass.dispatchWorkgroups(x, y, z);
    this.#kernels.push(kernel.name);
    this.#dispatches++;
    this.#flops += cell.flops;
    this.#work += cell.flops + operationsPerDispatch;
  }

  #takeWork(): number {
    const work = this.#work;
    this.#work = 0;
    return work;
  }

  #openEncoder(): GPUCommandEncoder {
    if (this.#encoder === null) {
      this.device.pushErrorScope("validation");
      this.#encoder = this.device.createCommandEncoder();
    }
    return this.#encoder;
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
    this.#pipeline = null;
  }

  flush(): void {
    if (this.#encoder === null) return;
    const start = performance.now();
    this.#endPass();
    const readTimes = this.#trace?.resolve(this.#encoder);
    this.#blocks.write();
    if (this.#uploadCount > 0) this.device.queue.writeBuffer(this.#uploads, 0, this.#uploadBytes, 0, this.#uploadCount);
    this.device.queue.submit([this.#encoder.finish()]);
    readTimes?.();
    this.#failures.submitted(this.#kernels);
    this.#encoder = null;
    this.#uploadCount = 0;
    this.#kernels = [];
    this.#submissions++;
    this.#encodeMs += performance.now() - start;
  }

  async read(
    ranges: readonly { buffer: BufferHandle; base: number; length: number; dtype: DType }[],
  ): Promise<NumberArray[]> {
    const arrays = ranges.map(({ length, dtype }) => {
      if (dtype !== "f32" && dtype !== "i32" && dtype !== "u32")
        throw new DeviceError(`read: ${dtype} tensors cannot be read from a GPU: expected f32, i32 or u32.`);
      return newArray(dtype, length);
    });
    try {
      for (const copies of copiesOf(ranges)) {
        const encoder = this.#openEncoder();
        this.#endPass();
        const staging = this.#readback.encode(encoder, ranges, copies);
        this.flush();
        await this.#readback.fetch(staging, copies, arrays, this.#takeWork());
      }
    } catch (error) {
      throw await this.#failures.causeOf(`reading from the GPU failed: ${asError(error).message}`);
    }
    if (this.#trace !== null) await this.#waits.until(this.#trace.settle());
    this.#settle();
    this.#failures.throwFirst();
    return arrays;
  }

  async idle(): Promise<void> {
    this.flush();
    try {
      await this.#waits.until(this.device.queue.onSubmittedWorkDone(), this.#takeWork());
      if (this.#trace !== null) await this.#waits.until(this.#trace.settle());
    } catch (error) {
      throw await this.#failures.causeOf(`waiting for the GPU failed: ${asError(error).message}`);
    }
    this.#settle();
    this.#failures.throwFirst();
  }

  async prepare(forms: Iterable<KernelForm>): Promise<void> {
    const start = performance.now() - this.#waits.waitMs;
    await this.#waits.until(this.#pipelines.prepare(forms));
    this.#encodeMs += performance.now() - this.#waits.waitMs - start;
  }

  phase(name: string): void {
    if (this.#trace !== null) this.#trace.phase = name;
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
      waitMs: this.#waits.waitMs,
      pipelines: this.#pipelines.count,
      bindGroups: this.#pipelines.groupCount,
    };
  }

  destroy(): void {
    this.flush();
    this.#failures.end();
    this.device.destroy();
  }

  /** All submitted work is done. If nothing was begun since, released memory can be freed. */
  #settle(): void {
    if (this.#encoder === null && !this.#waits.isWaiting) this.#pool.trim();
  }

  /** A buffer that the device may refuse: the next reader gets an error that names the tensor. */
  #createBuffer(label: string, size: number, usage: number): GPUBuffer {
    this.device.pushErrorScope("out-of-memory");
    const buffer = this.device.createBuffer({ label, size, usage });
    const { liveBytes, liveBuffers } = this.#pool;
    this.device.popErrorScope().then(
      (error) => {
        if (error !== null)
          this.#failures.add(
            new OutOfMemoryError(
              `${label}: the adapter has no ${formatBytes(size)} left beside ${formatBytes(liveBytes)} in ${liveBuffers} ` +
                `buffers (${error.message.split("\n")[0]}). ${lessMemory}`,
            ),
          );
      },
      () => {}, // The device was lost, which is reported by itself.
    );
    return buffer;
  }

  #startTrace(): Trace | null {
    if (!this.device.features.has("timestamp-query")) {
      process.stderr.write(`FOOTHOLD_TRACE: ${this.description} has no timestamps: kernels cannot be timed.\n`);
      return null;
    }
    const trace = new Trace(this.device);
    process.once("exit", () => {
      const times = trace.times();
      if (times.length > 0) process.stderr.write(`FOOTHOLD_TRACE on ${this.description}\n${summaryOf(times)}\n`);
    });
    return trace;
  }
}
