// FOOTHOLD_TRACE=1: where the time goes, by phase and kernel, as tables on standard error when the process ends.
// Without the variable the cost is one comparison per dispatch.
//
// The device writes a timestamp at the beginning and at the end of a compute pass, so a traced dispatch has a pass of
// its own. The cost of passes is not in the kernels' times, but the whole run becomes slower. Bytes are those of the
// tensors that a dispatch binds, each counted once: the least that the kernel moves if it touches all of them.

/** Whether this process traces: FOOTHOLD_TRACE is set and not empty. */
export function isTracing(): boolean {
  return Boolean(process.env["FOOTHOLD_TRACE"]);
}

/** Totals over the dispatches of one kernel in one phase. */
export interface KernelTime {
  kernel: string;
  /** "" before the first phase is named. */
  phase: string;
  count: number;
  milliseconds: number;
  /** 0: the kernel does not count its operations. */
  flops: number;
  bytes: number;
}

/** Largest number of dispatches in one submission: WebGPU's largest query set holds 4,096 timestamps. */
const mostDispatches = 2048;

/** Times each dispatch of a device that has the feature "timestamp-query". */
export class Trace {
  /** The phase of the next dispatches. */
  phase = "";
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  /** Buffers that the host can read, kept for reuse. */
  readonly #copies: GPUBuffer[] = [];
  readonly #times = new Map<string, KernelTime>();
  readonly #underWay = new Set<Promise<void>>();
  #begun: Omit<KernelTime, "count" | "milliseconds">[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#queries = device.createQuerySet({ label: "trace", type: "timestamp", count: 2 * mostDispatches });
    this.#resolved = device.createBuffer({
      label: "trace",
      size: 16 * mostDispatches,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
  }

  /** Whether the current submission must end before another pass begins. */
  get isFull(): boolean {
    return this.#begun.length === mostDispatches;
  }

  /** A compute pass for one dispatch; the caller ends it. */
  beginPass(
    encoder: GPUCommandEncoder,
    { name: kernel }: { name: string },
    flops: number,
    bytes: number,
  ): GPUComputePassEncoder {
    const index = this.#begun.push({ kernel, phase: this.phase, flops, bytes }) - 1;
    return encoder.beginComputePass({
      label: kernel,
      timestampWrites: {
        querySet: this.#queries,
        beginningOfPassWriteIndex: 2 * index,
        endOfPassWriteIndex: 2 * index + 1,
      },
    });
  }

  /**
   * Encodes a copy of the timestamps of all passes since the last call to memory that the host can read.
   * @returns a function to call once the encoder's commands are submitted: it fetches the timestamps when they are
   *          there
   */
  resolve(encoder: GPUCommandEncoder): () => void {
    const begun = this.#begun;
    this.#begun = [];
    if (begun.length === 0) return () => {};
    const copy =
      this.#copies.pop() ??
      this.#device.createBuffer({
        label: "trace",
        size: 16 * mostDispatches,
        usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      });
    encoder.resolveQuerySet(this.#queries, 0, 2 * begun.length, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, copy, 0, 16 * begun.length);
    return () => {
      const arrival = copy.mapAsync(GPUMapMode.READ).then(
        () => this.#collect(begun, copy),
        () => {}, // The device was lost: the next read reports it.
      );
      this.#underWay.add(arrival);
      arrival.finally(() => this.#underWay.delete(arrival));
    };
  }

  /** Waits for the times of everything submitted so far. */
  async settle(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  /** What has arrived so far. */
  times(): KernelTime[] {
    return [...this.#times.values()];
  }

  #collect(begun: readonly Omit<KernelTime, "count" | "milliseconds">[], copy: GPUBuffer): void {
    const stamps = new BigUint64Array(copy.getMappedRange()); // ns
    begun.forEach(({ kernel, phase, flops, bytes }, i) => {
      const key = `${phase}\n${kernel}`;
      const time = this.#times.get(key) ?? { kernel, phase, count: 0, milliseconds: 0, flops: 0, bytes: 0 };
      this.#times.set(key, time);
      time.count++;
      // A driver may swap the stamps of a pass that took no time.
      time.milliseconds += Math.max(0, Number(stamps[2 * i + 1] - stamps[2 * i])) / 1e6;
      time.flops += flops;
      time.bytes += bytes;
    });
    copy.unmap();
    this.#copies.push(copy);
  }
}

/** Kernels below this share of their phase share one line if there are several. */
const speck = 0.001;

/** A table per phase, and in it a line per kernel; the longest first in both. */
export function summaryOf(times: readonly KernelTime[]): string {
  const phases = [...new Set(times.map(({ phase }) => phase))].map((phase) => {
    const kernels = times.filter((time) => time.phase === phase).sort((a, b) => b.milliseconds - a.milliseconds);
    return { phase, kernels, all: sumOf("", kernels) };
  });
  phases.sort((a, b) => b.all.milliseconds - a.all.milliseconds);
  return phases
    .flatMap(({ phase, kernels, all }) => {
      const specks = kernels.filter(({ milliseconds }) => milliseconds < speck * all.milliseconds);
      const listed =
        specks.length < 2
          ? kernels
          : [...kernels.filter((k) => !specks.includes(k)), sumOf(`${specks.length} others`, specks)];
      return [
        `${phase === "" ? "kernels" : phase}: ${all.count} dispatches, ${duration(all.milliseconds)} of kernels`,
        ...listed.map((time) => line(time, all.milliseconds)),
      ];
    })
    .join("\n");
}

function sumOf(kernel: string, times: readonly KernelTime[]): KernelTime {
  const sum: KernelTime = { kernel, phase: "", count: 0, milliseconds: 0, flops: 0, bytes: 0 };
  for (const { count, milliseconds, flops, bytes } of times) {
    sum.count += count;
    sum.milliseconds += milliseconds;
    sum.flops += flops;
    sum.bytes += bytes;
  }
  return sum;
}

function line({ kernel, count, milliseconds, flops, bytes }: KernelTime, ofMilliseconds: number): string {
  const share = ofMilliseconds > 0 ? (100 * milliseconds) / ofMilliseconds : 0;
  const perSecond = (amount: number): string => (milliseconds > 0 ? (amount / milliseconds / 1e6).toFixed(2) : "0.00");
  const cells = [
    `${share.toFixed(1)}%`.padStart(7),
    duration(milliseconds).padStart(10),
    `${count} ×`.padStart(9),
    duration(milliseconds / count).padStart(10),
    (flops > 0 ? `${perSecond(flops)} GFLOP/s` : "").padStart(16),
    `${perSecond(bytes)} GB/s`.padStart(13),
  ];
  return `  ${kernel.padEnd(26)}${cells.join(" ")}`;
}

function duration(milliseconds: number): string {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return milliseconds >= 1 ? `${milliseconds.toFixed(1)} ms` : `${(milliseconds * 1000).toFixed(1)} µs`;
}
