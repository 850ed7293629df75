// Runs a step of work again and again. Most of the host's time for a dispatch is spent above the device: checks of shapes,
// allocations, and looking up what was prepared. So where the backend can, a step that comes again is recorded once and then
// replayed: its dispatches are queued as they were, with the same pipelines, buffers and parameters.
//
// A replay does what the step's function would do if it ran again. For this the function
// - depends on nothing but its key, the content of tensors, and weights;
// - gets the numbers that change from step to step in tensors that are written before it runs, or by `fromHost`;
// - writes its results into tensors that were made before it, since all that it makes is freed at its end;
// - waits for nothing.
// What it may not do is noticed where possible: if it writes to a tensor in another way, it is run each time.
//
// A recording is dropped if something that it assumed has changed: a tensor that it used was freed, memory that it needs
// in between is used by others, or weights say so (`assume`). Then the function runs, and is recorded again.
import { isRecording } from "./autograd.ts";
import type { Backend, RecordedWork } from "./backends/backend.ts";
import type { DType } from "./dtype.ts";
import { scope } from "./scope.ts";
import { empty, type Shape, type Tensor } from "./tensor.ts";

/** Something that recorded work depends on. Its number changes whenever work that was recorded before may be wrong now. */
export interface Versioned {
  readonly version: number;
}

/** What the work that is being recorded has assumed; null if none is being recorded. */
let assumed: Map<Versioned, number> | null = null;

/** Says that the work of the innermost step depends on this: if its version changes, the step is recorded again. */
export function assume(source: Versioned): void {
  if (assumed !== null && !assumed.has(source)) assumed.set(source, source.version);
}

/**
 * A new tensor with these elements, owned by the innermost scope. In a step that is replayed, `values` is called each time. It
 * may depend on what changes from step to step; the shape may not.
 */
export function fromHost(
  backend: Backend,
  values: () => ArrayLike<number>,
  shape: Shape,
  dtype: DType = "f32",
  label = "tensor",
): Tensor {
  const tensor = empty(backend, shape, dtype, label);
  const write = (): void => tensor.write(values());
  if (assumed === null || backend.recorder === undefined) write();
  else backend.recorder.atEachReplay(write);
  return tensor;
}

interface Recording {
  readonly work: RecordedWork;
  readonly assumed: ReadonlyMap<Versioned, number>;
}

/** Recordings kept of one kind of step. */
const mostRecordings = 8;

/** Steps of one kind: each key stands for one list of dispatches. */
export class Replay {
  readonly #backend: Backend;
  /** The one that was not used for longest is first. */
  readonly #recordings = new Map<string, Recording>();
  /** How many steps were replayed, and how many ran. */
  replayed = 0;
  ran = 0;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /**
   * Runs `body`, or replays what it did when it last ran with this key. All tensors that it makes are freed.
   * @param key  stands for all that the list of dispatches depends on, such as the number of rows
   */
  run(key: string, body: () => void): void {
    const { recorder } = this.#backend;
    const whole = (): void => scope(() => void body());
    // Inside other recorded work it is a part of that. A tape needs the ops themselves.
    if (recorder === undefined || assumed !== null || isRecording()) {
      this.ran++;
      whole();
      return;
    }
    const found = this.#recordings.get(key);
    this.#recordings.delete(key);
    if (found !== undefined && isCurrent(found) && recorder.replay(found.work)) {
      this.#recordings.set(key, found);
      this.replayed++;
      return;
    }
    this.ran++;
    const own = new Map<Versioned, number>();
    assumed = own;
    let work: RecordedWork | null = null;
    try {
      work = recorder.record(whole);
    } finally {
      assumed = null;
    }
    if (work === null) return;
    const [oldest] = this.#recordings.keys();
    if (this.#recordings.size >= mostRecordings && oldest !== undefined) this.#recordings.delete(oldest);
    this.#recordings.set(key, { work, assumed: own });
  }
}

function isCurrent(recording: Recording): boolean {
  for (const [source, version] of recording.assumed) if (source.version !== version) return false;
  return true;
}
