// Work that was recorded once and is queued again (engine/replay.ts): a list of dispatches with all that they need, and what
// must hold of their buffers.
//
// A recording owns no memory. Buffers that lived before the recorded work must still hold the same tensors. Buffers that the
// work took from the pool and gave back must be free: then running the work again could take them too. Work is done in the
// order in which it is queued, so the replay may use them, as the next allocation may.
import type { AnyKernel } from "../../kernel.ts";
import type { RecordedWork } from "../backend.ts";
import { isHeld, type PooledBuffer } from "./pool.ts";
import type { PreparedCell } from "./prepared.ts";

export interface PreparedDispatch {
  readonly kernel: AnyKernel;
  readonly cell: PreparedCell;
  readonly group: GPUBindGroup;
  readonly buffers: readonly PooledBuffer[];
  /** Bytes that it reads and writes, for traces. */
  readonly bytes: number;
}

/** A dispatch, or writes of the host. */
type Entry = PreparedDispatch | (() => void);

export class Recorded implements RecordedWork {
  readonly dispatches: number;
  readonly entries: readonly Entry[];
  /** Buffers that lived before the work, or live since, and which allocation of each is meant. */
  readonly #live: readonly { readonly buffer: PooledBuffer; readonly allocation: number }[];
  readonly #scratch: readonly PooledBuffer[];

  constructor(
    entries: readonly Entry[],
    live: readonly { readonly buffer: PooledBuffer; readonly allocation: number }[],
    scratch: readonly PooledBuffer[],
  ) {
    this.entries = entries;
    this.dispatches = entries.filter((entry) => typeof entry !== "function").length;
    this.#live = live;
    this.#scratch = scratch;
  }

  /** Whether its buffers hold what they held, and its scratch memory is free. */
  get isCurrent(): boolean {
    for (const { buffer, allocation } of this.#live)
      if (!isHeld(buffer) || buffer.allocations !== allocation) return false;
    for (const buffer of this.#scratch) if (buffer.label !== null) return false;
    return true;
  }
}

/** Notes what is queued while a function runs. */
export class WorkNotes {
  readonly #entries: Entry[] = [];
  readonly #used = new Set<PooledBuffer>();
  readonly #allocated = new Set<PooledBuffer>();
  #isRepeated = true;
  #isRewriting = false;

  dispatched(work: PreparedDispatch): void {
    this.#entries.push(work);
    for (const buffer of work.buffers) this.#used.add(buffer);
  }

  allocated(buffer: PooledBuffer): void {
    this.#allocated.add(buffer);
  }

  released(buffer: PooledBuffer): void {
    if (!this.#allocated.has(buffer)) this.#isRepeated = false;
  }

  /** A write. The recording needs its buffer, even if no dispatch reads what was written. */
  written(buffer: PooledBuffer): void {
    this.#used.add(buffer);
    if (!this.#isRewriting) this.#isRepeated = false;
  }

  copied(): void {
    this.#isRepeated = false;
  }

  atEachReplay(write: () => void): void {
    this.#entries.push(write);
    this.#isRewriting = true;
    try {
      write();
    } finally {
      this.#isRewriting = false;
    }
  }

  /** The work, once the function has ended; null if running it again would do something else. */
  end(): Recorded | null {
    if (!this.#isRepeated) return null;
    const all = [...this.#used];
    return new Recorded(
      this.#entries,
      all.filter(({ label }) => label !== null).map((buffer) => ({ buffer, allocation: buffer.allocations })),
      all.filter(({ label }) => label === null),
    );
  }
}
