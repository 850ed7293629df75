// A part is a list of cases that share a backend. A case that fails becomes a failed row, and the next one runs; a case
// for which no time is left becomes a row that was left out.
import type { Backend } from "../../engine/backends/backend.ts";
import { OutOfMemoryError } from "../../engine/errors.ts";
import { asError } from "../../engine/host/errors.ts";
import { scopeAsync } from "../../engine/scope.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { type QueueTime, timeQueue } from "./device-clock.ts";
import type { PeerWork } from "./peers.ts";
import type { Fault, PartName, Row } from "./results.ts";
import type { Sizes } from "./sizes.ts";

/** What a case found. Amounts are those of one run; they replace the case's own if they are given. */
export interface Measured extends QueueTime {
  checked: string | null;
  note?: string;
  flops?: number;
  bytes?: number;
  tokens?: number;
}

export interface Case {
  name: string;
  flops?: number;
  bytes?: number;
  tokens?: number;
  /** The same work for PyTorch (peers.py). Default: it is not compared. */
  peer?: PeerWork;
  /** Why this adapter cannot run it; null (the default) if it can. */
  missing?: (bench: Bench) => string | null;
  measure(bench: Bench): Promise<Measured>;
}

/** The cases of a part; nothing is made before a case is measured. */
export interface Part {
  cases: readonly Case[];
  /** Called after the last case. */
  free?: () => void;
}

export type PartOf = (sizes: Sizes) => Part;

/** The runs of a case that are needed at the least: one untimed, the estimate, one sample and one for the check. */
const fewestRuns = 4;

/** The backend of a part with its remaining time. */
export class Bench {
  readonly backend: Backend;
  readonly hasHalf: boolean;
  readonly sizes: Sizes;
  readonly fault: Fault | null;
  readonly #end: number;
  readonly #limitMs: number;

  constructor(backend: Backend, hasHalf: boolean, sizes: Sizes, limitMs: number, fault: Fault | null) {
    this.backend = backend;
    this.hasHalf = hasHalf;
    this.sizes = sizes;
    this.fault = fault;
    this.#limitMs = limitMs;
    this.#end = performance.now() + limitMs;
  }

  get leftMs(): number {
    return this.#end - performance.now();
  }

  /** Times a queue of runs, in at most a twentieth of the part's time. */
  time(run: () => void): Promise<QueueTime> {
    const mostMs = Math.max(20, Math.min(this.leftMs / 2, this.#limitMs / 20));
    return timeQueue(this.backend, run, { sampleMs: this.sizes.sampleMs, mostMs });
  }

  /**
   * Compares elements with their values in float64.
   * @param tolerance  of the largest expected value among them
   * @returns  what was compared, in words
   * @throws Error that names the element
   */
  compare(what: string, found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): string {
    let scale = 0;
    for (let i = 0; i < expected.length; i++) scale = Math.max(scale, Math.abs(expected[i]));
    const spoil = this.fault === "wrong" ? 1.01 : 1;
    // This form makes NaN fail.
    for (let i = 0; i < expected.length; i++)
      if (!(Math.abs(spoil * found[i] - expected[i]) <= tolerance * scale))
        throw new Error(
          `wrong value: ${what}, compared element ${i}: expected ${expected[i]} ± ${(tolerance * scale).toExponential(1)}, got ${spoil * found[i]}`,
        );
    if (!(scale > 0)) throw new Error(`${what}: every compared value is 0: nothing was checked`);
    return `${expected.length} of ${what}`;
  }

  /** The row of one case. */
  async row(part: PartName, one: Case, predictedMs: number): Promise<Row> {
    const row = { ...emptyRow(part, one.name), flops: one.flops ?? 0, bytes: one.bytes ?? 0, tokens: one.tokens ?? 0 };
    const missing = one.missing?.(this) ?? null;
    if (missing !== null) return { ...row, outcome: "left out", reason: missing };
    if (this.leftMs <= 0) return { ...row, outcome: "left out", reason: "the part's time is used up" };
    if (fewestRuns * predictedMs > this.leftMs) {
      const seconds = (ms: number): string => `${(ms / 1000).toPrecision(2)} s`;
      const reason = `about ${seconds(predictedMs)} per run, and ${seconds(this.leftMs)} of the part's time are left`;
      return { ...row, outcome: "left out", reason };
    }
    try {
      const { note = null, ...found } = await scopeAsync(() => one.measure(this));
      if (!(found.milliseconds > 0)) throw new Error(`a run took ${found.milliseconds} ms: the clock cannot be right`);
      return { ...row, ...found, note, outcome: "measured" };
    } catch (thrown) {
      const { name, message } = asError(thrown);
      const reason = thrown instanceof OutOfMemoryError ? `out of memory: ${message}` : `${name}: ${message}`;
      return { ...row, outcome: "failed", reason: reason.replace(/^Error: /, "").replaceAll("\n", " ") };
    }
  }
}

export function emptyRow(part: PartName, name: string): Row {
  return {
    ...{ part, name, outcome: "measured", reason: null, milliseconds: null, clock: null, wallMilliseconds: null },
    ...{ samples: 0, runsPerSample: 0, flops: 0, bytes: 0, tokens: 0, checked: null, note: null },
  };
}

/** For tests: ends this process, or keeps it busy for ever. */
export async function plantDeath(fault: Fault | null): Promise<void> {
  if (fault !== "crash" && fault !== "hang") return;
  await new Promise((resolve) => setTimeout(resolve, 50)); // what was reported is on its way
  if (fault === "crash") process.kill(process.pid, "SIGKILL");
  for (;;);
}

/** Runs all cases in order. A case's time is predicted from the rates of the cases before it. */
export async function runPart(
  name: PartName,
  { cases, free }: Part,
  bench: Bench,
  report: (row: Row) => void,
): Promise<void> {
  let msPerFlop = 0;
  for (const [i, one] of cases.entries()) {
    const row = await bench.row(name, one, (one.flops ?? 0) * msPerFlop);
    if (row.milliseconds !== null && row.flops > 0) {
      // Large cases run at a higher rate than small ones, so the highest rate so far predicts them.
      const own = row.milliseconds / row.flops;
      msPerFlop = msPerFlop === 0 ? own : Math.min(msPerFlop, own);
    }
    report(row);
    if (i === 0) await plantDeath(bench.fault);
  }
  free?.();
}

/** The bytes of some rows of a matrix, read one after the other. */
export async function readRows(tensor: Tensor, rows: readonly number[]): Promise<ArrayLike<number>[]> {
  const found: ArrayLike<number>[] = [];
  for (const row of rows) found.push(await tensor.sliceRows(row, 1).read());
  return found;
}

/** Indices below `count`, spread over it, with the first and the last. */
export function spread(count: number, wanted: number): number[] {
  if (count <= wanted) return Array.from({ length: count }, (_, i) => i);
  return Array.from({ length: wanted }, (_, i) => Math.round((i * (count - 1)) / (wanted - 1)));
}
