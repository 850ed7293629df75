// Times a queue of work. Where the device has timestamps it times itself: a mark before and a mark after the queue, each
// the end of an empty pass, which comes after everything that was submitted before it. A queue that fits one submission is
// recorded as a whole before the first mark, so its time is the device's alone. A run of several submissions is marked
// before it is recorded: its time includes gaps in which the device waits for the host.
import type { Backend } from "../../engine/backends/backend.ts";
import { WebGpuBackend } from "../../engine/backends/webgpu/backend.ts";
import { median } from "../median.ts";

class Marks {
  readonly #backend: WebGpuBackend;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #copy: GPUBuffer;

  constructor(backend: WebGpuBackend) {
    this.#backend = backend;
    const { device } = backend;
    this.#queries = device.createQuerySet({ label: "marks", type: "timestamp", count: 2 });
    const bytes = 256;
    this.#resolved = device.createBuffer({
      label: "marks",
      size: bytes,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
    this.#copy = device.createBuffer({
      label: "marks",
      size: bytes,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
  }

  /** Submits a mark now: after everything submitted, before what the backend has only recorded. */
  set(index: 0 | 1): void {
    const { device } = this.#backend;
    const encoder = device.createCommandEncoder();
    encoder.beginComputePass({ timestampWrites: { querySet: this.#queries, endOfPassWriteIndex: index } }).end();
    device.queue.submit([encoder.finish()]);
  }

  /** Milliseconds between the two marks. */
  async read(): Promise<number> {
    const { device } = this.#backend;
    const encoder = device.createCommandEncoder();
    encoder.resolveQuerySet(this.#queries, 0, 2, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#copy, 0, 16);
    device.queue.submit([encoder.finish()]);
    const arrival = this.#copy.mapAsync(GPUMapMode.READ);
    await this.#backend.idle();
    await arrival;
    const stamps = new BigUint64Array(this.#copy.getMappedRange(0, 16));
    const milliseconds = Number(stamps[1] - stamps[0]) / 1e6;
    this.#copy.unmap();
    return milliseconds;
  }
}

const marksOf = new WeakMap<Backend, Marks>();

function marks(backend: Backend): Marks | null {
  if (!(backend instanceof WebGpuBackend) || !backend.abilities.hasTimestamps) return null;
  const found = marksOf.get(backend) ?? new Marks(backend);
  marksOf.set(backend, found);
  return found;
}

export interface QueueTime {
  milliseconds: number;
  clock: "timestamps" | "wall";
  wallMilliseconds: number;
  samples: number;
  runsPerSample: number;
}

export interface QueueOptions {
  /** The time that one sample should take. */
  sampleMs: number;
  /** The most that all samples together should take; at least one sample is taken. */
  mostMs: number;
}

/** Samples of a queue; of a queue that is short against the resolution of timestamps. */
const [usual, many] = [7, 25];
/** Timestamps that differ from this machine's clock by more than this are not trusted. */
const [least, most] = [0.001, 1.1];
/** Dawn rounds timestamps to multiples of this, ms. */
const quantum = 0.065536;
/** A time of fewer quanta is the mean over more samples, which rounding does not bias. */
const shortQuanta = 32;

interface Sample {
  wall: number;
  device: number | null;
  /** Runs that were recorded before the backend submitted by itself. */
  fitting: number;
}

async function sample(backend: Backend, clock: Marks | null, run: () => void, runs: number): Promise<Sample> {
  await backend.idle();
  const submissions = (): number => backend.statistics().submissions;
  const before = submissions();
  const start = performance.now();
  // One run may need several submissions: a mark before it is all that can be had.
  const isEarly = runs === 1;
  if (isEarly) clock?.set(0);
  let fitting = 0;
  for (let i = 0; i < runs; i++) {
    run();
    if (submissions() === before) fitting = i + 1;
  }
  const isWhole = fitting === runs;
  if (isWhole && !isEarly) clock?.set(0);
  backend.flush();
  clock?.set(1);
  await backend.idle();
  const wall = performance.now() - start;
  const device = clock === null ? null : await clock.read();
  return { wall, device: isWhole || isEarly ? device : null, fitting };
}

/**
 * The time of one run, over samples of enough runs each. The first run, which compiles, is not timed.
 * @param run  submits one run without waiting
 * @throws the errors of the device
 */
export async function timeQueue(backend: Backend, run: () => void, options: QueueOptions): Promise<QueueTime> {
  const clock = marks(backend);
  const take = (runs: number): Promise<Sample> => sample(backend, clock, run, runs);
  run();
  await backend.idle();
  const first = await take(1);
  const again = first.wall < options.sampleMs ? await take(3) : null;
  const one = Math.max(1e-3, again === null ? first.wall : again.wall / 3);
  let runsPerSample = Math.min(2000, Math.max(1, Math.ceil(options.sampleMs / one)));
  if (runsPerSample > 1 && clock !== null) {
    const { fitting } = await take(runsPerSample);
    runsPerSample = Math.max(1, fitting);
  }
  const found: Sample[] = [];
  const begun = performance.now();
  const isShort = ({ device }: Sample): boolean => device !== null && device < shortQuanta * quantum;
  while (found.length < (found.some(isShort) ? many : usual)) {
    found.push(await take(runsPerSample));
    const taken = performance.now() - begun;
    if (taken + taken / found.length > options.mostMs) break;
  }
  const wallMs = median(found.map(({ wall }) => wall));
  const stamped = found.flatMap(({ device }) => (device === null ? [] : [device]));
  const mean = stamped.reduce((sum, device) => sum + device, 0) / stamped.length;
  const deviceMs = stamped.length === 0 ? 0 : found.some(isShort) ? mean : median(stamped);
  const isSound = deviceMs > 2 * quantum && deviceMs >= least * wallMs && deviceMs <= most * wallMs + quantum;
  return {
    milliseconds: (isSound ? deviceMs : wallMs) / runsPerSample,
    clock: isSound ? "timestamps" : "wall",
    wallMilliseconds: wallMs / runsPerSample,
    samples: found.length,
    runsPerSample,
  };
}
