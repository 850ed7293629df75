// A backend moves bytes and runs kernels. It knows no op: `dispatch` is its one door for work.
import type { DType, NumberArray } from "../dtype.ts";
import type { AdapterStyle, AnyKernel, Constants } from "../kernel.ts";

/** A piece of device memory. Whole buffers are bound; where a tensor lies in one is said by element offsets. */
export interface BufferHandle {
  readonly id: number;
  readonly bytes: number;
}

export interface Dispatch {
  kernel: AnyKernel;
  /** In the order of the kernel's bindings. `base` counts elements, `length` those that the cell has of the tensor. */
  buffers: readonly { buffer: BufferHandle; base: number; length: number; dtype: DType }[];
  /** Every entry of the parameter block, by name. */
  params: Record<string, number>;
  constants: Constants;
}

/** A kernel in one of its forms: what a pipeline is made of. */
export interface KernelForm {
  readonly kernel: AnyKernel;
  readonly constants: Constants;
}

export interface BackendLimits {
  /** Largest buffer that can be allocated and bound, bytes. Larger tensors are stored in segments. */
  maxBufferBytes: number;
  /** Segments but the last are a multiple of this, bytes. */
  segmentAlignment: number;
}

export interface BackendStatistics {
  liveBuffers: number;
  liveBytes: number;
  peakBytes: number;
  pooledBytes: number;
  dispatches: number;
  /** Floating-point operations of the kernels that count them. */
  flops: number;
  submissions: number;
  /** Time spent encoding and handing over work, and time spent waiting for it, ms. */
  encodeMs: number;
  waitMs: number;
  pipelines: number;
  /** Kept for work that binds the same buffers again; on a GPU only. */
  bindGroups?: number;
}

export interface Backend {
  readonly kind: "cpu" | "webgpu";
  /** Adapter and driver, for people and provenance. */
  readonly description: string;
  /** Which of a kernel's variants suits this adapter: software drivers and GPUs want opposite ones. */
  readonly style: AdapterStyle;
  /**
   * Where its buffers lie. "host": in the memory of this machine, from which software drivers take more than there is, so the
   * backend limits them to what is free. "device": in a GPU's own, whose driver refuses what does not fit.
   */
  readonly memory: "host" | "device";
  readonly limits: BackendLimits;

  /** Content is undefined: a kernel writes all that it owns. */
  allocate(bytes: number, dtype: DType, label: string): BufferHandle;
  release(buffer: BufferHandle): void;
  /** Copies host data into a buffer, in order with the work given so far. */
  write(buffer: BufferHandle, base: number, data: NumberArray): void;
  /** Copies out `length` elements of each range, after all work given so far. Throws what that work did wrong. */
  read(ranges: readonly { buffer: BufferHandle; base: number; length: number; dtype: DType }[]): Promise<NumberArray[]>;
  dispatch(work: Dispatch): void;
  /** Names what follows, for traces (FOOTHOLD_TRACE). */
  phase?(name: string): void;
  /** Compiles all of these that are not compiled yet, side by side: work that meets them need not wait for each in turn. */
  prepare?(forms: Iterable<KernelForm>): Promise<void>;
  /** Hands over the work given so far without waiting for it. */
  flush(): void;
  /** Waits for all work given so far. */
  idle(): Promise<void>;
  statistics(): BackendStatistics;
  /** Frees everything; the backend is of no use afterwards. */
  destroy(): void;
}
