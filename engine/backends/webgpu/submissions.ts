// Work on its way to the device. Dispatches are collected in one compute pass, which is submitted at `flush`, when it is
// long, or when a caller reads: then together with the copies for the host.
import type { NumberArray } from "../../dtype.ts";
import type { Failures } from "./failures.ts";
import type { PooledBuffer } from "./pool.ts";
import { ParameterBlocks } from "./prepared.ts";
import type { PreparedDispatch } from "./recorded.ts";
import type { Trace } from "./timing.ts";

/** Dispatches per submission: a longer queue is submitted in parts. */
const mostDispatches = 2048;

/** The time of a dispatch beyond its products, in floating-point operations: about 60 µs on lavapipe. It serves to guess how long a wait is. */
const operationsPerDispatch = 1.5e6;

/** Bytes that the host writes in the middle of one submission's work; more begin another submission. */
const uploadBytes = 256 * 1024;

export class Submissions {
  readonly #device: GPUDevice;
  readonly #failures: Failures;
  /** null: kernels are not timed. */
  readonly #trace: Trace | null;
  readonly blocks: ParameterBlocks;
  readonly #uploads: GPUBuffer;
  readonly #uploadBytes = new Uint8Array(uploadBytes);
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  /** The pipeline that the pass runs now. */
  #pipeline: GPUComputePipeline | null = null;
  #uploadCount = 0;
  #kernels: string[] = [];
  /** How many there were. */
  count = 0;
  dispatches = 0;
  flops = 0;
  /** Time spent submitting, ms. */
  submitMs = 0;
  /** What was submitted since the last wait, in floating-point operations. */
  #work = 0;

  constructor(device: GPUDevice, failures: Failures, trace: Trace | null) {
    this.#device = device;
    this.#failures = failures;
    this.#trace = trace;
    this.blocks = new ParameterBlocks(device);
    this.#uploads = device.createBuffer({
      label: "uploads",
      size: uploadBytes,
      usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
  }

  /** Whether there is work that is not submitted yet. */
  get isOpen(): boolean {
    return this.#encoder !== null;
  }

  write(buffer: PooledBuffer, base: number, data: Exclude<NumberArray, Float64Array>): void {
    // A queue write is executed before any work that is not yet submitted. That matters only if such work uses this
    // buffer: then the data is written to an upload buffer, and copied from there in the order of that work.
    if (this.#encoder !== null && buffer.lastUse === this.count) {
      if (this.#uploadCount + data.byteLength <= uploadBytes) {
        this.#uploadBytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), this.#uploadCount);
        this.#endPass();
        this.#encoder.copyBufferToBuffer(this.#uploads, this.#uploadCount, buffer.gpu, base * 4, data.byteLength);
        this.#uploadCount += data.byteLength;
        return;
      }
      this.flush();
    }
    this.#device.queue.writeBuffer(buffer.gpu, base * 4, data.buffer, data.byteOffset, data.byteLength);
  }

  copy(source: PooledBuffer, from: number, target: PooledBuffer, to: number, length: number): void {
    this.openForCopies().copyBufferToBuffer(source.gpu, from * 4, target.gpu, to * 4, length * 4);
    source.lastUse = this.count;
    target.lastUse = this.count;
  }

  queue({ kernel, cell, group, buffers, bytes }: PreparedDispatch): void {
    if (this.#kernels.length === mostDispatches || this.#trace?.isFull) this.flush();
    if (!this.blocks.place(cell)) {
      this.flush();
      this.blocks.restart();
      this.blocks.place(cell);
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
    for (let i = 0; i < buffers.length; i++) buffers[i].lastUse = this.count;
    pass.setBindGroup(0, group, cell.offset);
    const [x, y, z] = cell.workgroups;
    if (y === 1 && z === 1) pass.dispatchWorkgroups(x);
    else pass.dispatchWorkgroups(x, y, z);
    this.#kernels.push(kernel.name);
    this.dispatches++;
    this.flops += cell.flops;
    this.#work += cell.flops + operationsPerDispatch;
  }

  /** The encoder, outside a pass, for copies after the work so far. */
  openForCopies(): GPUCommandEncoder {
    const encoder = this.#openEncoder();
    this.#endPass();
    return encoder;
  }

  /** What was submitted since the last call, in floating-point operations. */
  takeWork(): number {
    const work = this.#work;
    this.#work = 0;
    return work;
  }

  flush(): void {
    if (this.#encoder === null) return;
    const start = performance.now();
    this.#endPass();
    const readTimes = this.#trace?.resolve(this.#encoder);
    this.blocks.write();
    const { queue } = this.#device;
    if (this.#uploadCount > 0) queue.writeBuffer(this.#uploads, 0, this.#uploadBytes, 0, this.#uploadCount);
    queue.submit([this.#encoder.finish()]);
    readTimes?.();
    this.#failures.submitted(this.#kernels);
    this.#encoder = null;
    this.#uploadCount = 0;
    this.#kernels = [];
    this.count++;
    this.submitMs += performance.now() - start;
  }

  #openEncoder(): GPUCommandEncoder {
    if (this.#encoder === null) {
      this.#device.pushErrorScope("validation");
      this.#encoder = this.#device.createCommandEncoder();
    }
    return this.#encoder;
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
    this.#pipeline = null;
  }
}
