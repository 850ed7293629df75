// A backend moves bytes and runs kernels. It knows no op: all work enters through `dispatch`.
import type { DType, NumberArray } from "../dtype.ts";
import type { AdapterStyle, AnyKernel, Constants } from "../kernel.ts";

/** A piece of device memory. Whole buffers are bound; element offsets say where a tensor lies in its buffer. */
export interface BufferHandle {
  readonly id: number;
  readonly bytes: number;
}

export interface Dispatch {
  kernel: AnyKernel;
  /**
   * In the order of the kernel's bindings. `base` counts elements; `length` is the number of elements that this cell
   * has.
   */
  buffers: readonly { buffer: BufferHandle; base: number; length: number; dtype: DType }[];
  /**
   * Every entry of the parameter block, by name. The object stands for the cell: whoever passes it again passes the same
   * kernel, values and constants. It is never changed.
   */
  params: Readonly<Record<string, number>>;
  constants: Constants;
}

/** A kernel with particular constants: what a pipeline is made from. */
export interface KernelForm {
  readonly kernel: AnyKernel;
  readonly constants: Constants;
}

export interface BackendLimits {
  /** Largest buffer that can be allocated and bound, bytes. Larger tensors are stored in segments. */
  maxBufferBytes: number;
  /** The size of every segment but the last is a multiple of this, bytes. */
  segmentAlignment: number;
  /** Largest total size of all buffers, bytes; undefined if only the driver knows. */
  totalBytes?: number;
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
  /** Time spent encoding and submitting work, and time spent waiting for it, ms. */
  encodeMs: number;
  waitMs: number;
  pipelines: number;
  /** Bind groups kept for work that binds the same buffers again; on a GPU only. */
  bindGroups?: number;
}

/** A product that one subgroup computes on matrix units: A [M, K] · B [K, N] + C [M, N]. */
export interface MatrixShape {
  /** WGSL's name of the type of A and B: "f16", "u8", … */
  readonly componentType: string;
  /** WGSL's name of the type of C and of the result: "f32", "f16", "u32", … */
  readonly resultType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** What kernels may use beyond core WebGPU. The device was opened with it. */
export interface Abilities {
  /** `enable f16`. */
  readonly hasHalf: boolean;
  /** `enable subgroups`: least and most invocations of a subgroup; null if kernels cannot use subgroups. */
  readonly subgroups: { readonly least: number; readonly most: number } | null;
  /** `@subgroup_size(n)`. */
  readonly hasSubgroupSize: boolean;
  /** Products of `enable chromium_experimental_subgroup_matrix`; empty if the adapter has no matrix units. */
  readonly matrixShapes: readonly MatrixShape[];
  /** `var<immediate>`: parameters without a buffer. */
  readonly hasImmediates: boolean;
  /** Compute passes can be timed. */
  readonly hasTimestamps: boolean;
}

/** Core WebGPU alone. */
export const noAbilities: Abilities = {
  hasHalf: false,
  subgroups: null,
  hasSubgroupSize: false,
  matrixShapes: [],
  hasImmediates: false,
  hasTimestamps: false,
};

/** Work that was recorded, for the backend that recorded it. */
export interface RecordedWork {
  readonly dispatches: number;
}

/** Records the work that a function queues, and queues it again without the function (engine/replay.ts). */
export interface WorkRecorder {
  /**
   * Runs `body`, which queues its work as always.
   * @returns  null if running `body` again would do something else: it wrote to a buffer outside `atEachReplay`, or released
   *           one that is older than the call
   */
  record(body: () => void): RecordedWork | null;
  /** For writes inside `record`: runs `write` now, and at its place in every replay. */
  atEachReplay(write: () => void): void;
  /** @returns  false, and nothing is done, if a buffer of the work was released, or holds something else now */
  replay(work: RecordedWork): boolean;
}

export interface Backend {
  readonly kind: "cpu" | "webgpu";
  /** Adapter and driver, for people and provenance. */
  readonly description: string;
  /** Selects a variant of each kernel for this adapter: software drivers and GPUs need opposite ones. */
  readonly style: AdapterStyle;
  /**
   * Where its buffers lie. "host": in the memory of this machine; software drivers allocate more of it than there is,
   * so the backend limits them to what is free. "device": in the memory of a GPU, whose driver refuses what does not
   * fit.
   */
  readonly memory: "host" | "device";
  readonly limits: BackendLimits;
  readonly abilities: Abilities;

  /** Content is undefined: a kernel must write everything that it outputs. */
  allocate(bytes: number, dtype: DType, label: string): BufferHandle;
  release(buffer: BufferHandle): void;
  /** Copies host data into a buffer, in order with the work queued so far. */
  write(buffer: BufferHandle, base: number, data: NumberArray): void;
  /** Copies out `length` elements of each range, after all work queued so far. Throws the errors of that work. */
  read(ranges: readonly { buffer: BufferHandle; base: number; length: number; dtype: DType }[]): Promise<NumberArray[]>;
  dispatch(work: Dispatch): void;
  /** Copies elements of four bytes (of f64: eight), in order with the work queued so far, from one buffer into another. */
  copy(from: BufferHandle, fromBase: number, to: BufferHandle, toBase: number, length: number): void;
  /** Absent where running work again costs no more than queueing it again. */
  readonly recorder?: WorkRecorder;
  /** Names the phase of the following work, for traces (FOOTHOLD_TRACE). */
  phase?(name: string): void;
  /**
   * Compiles those that are not compiled yet, in parallel, so that later work need not wait for each in turn. lavapipe
   * makes their machine code only at the first dispatch (findings/lavapipe-compiles-at-dispatch.sh).
   */
  prepare?(forms: Iterable<KernelForm>): Promise<void>;
  /** Submits the work queued so far without waiting for it. */
  flush(): void;
  /** Waits for all work queued so far. */
  idle(): Promise<void>;
  statistics(): BackendStatistics;
  /** Frees everything; the backend cannot be used afterwards. */
  destroy(): void;
}
