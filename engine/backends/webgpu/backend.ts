// The WebGPU backend on Dawn: it joins the parts of this folder. Buffers come from a pool (pool.ts), kernels are compiled once
// (pipelines.ts), dispatches are collected and submitted together (submissions.ts), and what the host reads is copied
// (readback.ts) and waited for (waiting.ts).
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
import { PreparedCells } from "./prepared.ts";
import { copiesOf, Readback } from "./readback.ts";
import { type PreparedDispatch, Recorded, WorkNotes } from "./recorded.ts";
import { Submissions } from "./submissions.ts";
import { isTracing, summaryOf, Trace } from "./timing.ts";
import { Waits } from "./waiting.ts";

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
  readonly #submissions: Submissions;
  readonly #waits: Waits;
  readonly #readback: Readback;
  /** Time spent encoding work, ms. */
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
    this.#trace = (options.isTraced ?? isTracing()) ? this.#startTrace() : null;
    this.#submissions = new Submissions(device, this.#failures, this.#trace);
    this.#pipelines = new Pipelines(device, this.#submissions.blocks.buffer, (kernel, message) => {
      this.#failures.add(new DeviceError(`${kernel}: the adapter refuses its shader: ${message}`));
    });
    this.#cells = new PreparedCells(this.#pipelines, device.limits.maxComputeWorkgroupsPerDimension);
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
    this.#submissions.write(own, base, data);
  }

  copy(from: BufferHandle, fromBase: number, to: BufferHandle, toBase: number, length: number): void {
    if (length === 0) return;
    this.#notes?.copied();
    this.#submissions.copy(from as PooledBuffer, fromBase, to as PooledBuffer, toBase, length);
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
      else this.#submissions.queue(entry);
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
    this.#submissions.queue(prepared);
  }

  flush(): void {
    this.#submissions.flush();
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
        const staging = this.#readback.encode(this.#submissions.openForCopies(), ranges, copies);
        this.flush();
        await this.#readback.fetch(staging, copies, arrays, this.#submissions.takeWork());
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
      await this.#waits.until(this.device.queue.onSubmittedWorkDone(), this.#submissions.takeWork());
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
      dispatches: this.#submissions.dispatches,
      flops: this.#submissions.flops,
      submissions: this.#submissions.count,
      encodeMs: this.#encodeMs + this.#submissions.submitMs,
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
    if (!this.#submissions.isOpen && !this.#waits.isWaiting) this.#pool.trim();
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
