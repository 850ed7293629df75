// Where the time went: timings.jsonl, one line a measured part, the only place of a run folder (but for TensorBoard and
// provenance) where clocks are read. The report holds none, so that a resumed run's equals an undisturbed one's.
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { explained } from "../../engine/host/index.ts";
import type { Backend, BackendStatistics } from "../../engine/index.ts";

export class Timings {
  readonly #path: string;
  readonly #backend: Backend;

  constructor(folder: string, backend: Backend) {
    this.#path = join(folder, "timings.jsonl");
    this.#backend = backend;
  }

  record(line: Readonly<Record<string, number | string>>): void {
    explained(this.#path, () => appendFileSync(this.#path, `${JSON.stringify(line)}\n`));
  }

  async measure<T>(part: string, body: () => Promise<T>): Promise<T> {
    const before = this.#backend.statistics();
    const start = performance.now();
    const result = await body();
    this.#part(part, start, before);
    return result;
  }

  #part(part: string, start: number, before: BackendStatistics): void {
    const after = this.#backend.statistics();
    const seconds = (performance.now() - start) / 1000;
    this.record({
      part,
      seconds,
      waitSeconds: (after.waitMs - before.waitMs) / 1000,
      encodeSeconds: (after.encodeMs - before.encodeMs) / 1000,
      gigaflop: (after.flops - before.flops) / 1e9,
      dispatches: after.dispatches - before.dispatches,
    });
  }

  /** Writes the totals. @returns them as a line for people */
  finish(seconds: number): string {
    const { waitMs, encodeMs, flops, dispatches, pipelines, peakBytes } = this.#backend.statistics();
    const share = (part: number): string => `${((100 * part) / seconds).toFixed(0)}%`;
    const rssBytes = process.resourceUsage().maxRSS * 1024;
    this.record({
      part: "all",
      seconds,
      waitSeconds: waitMs / 1000,
      encodeSeconds: encodeMs / 1000,
      gigaflop: flops / 1e9,
      dispatches,
      pipelines,
      peakBytes,
      rssBytes,
    });
    const host = seconds - (waitMs + encodeMs) / 1000;
    return (
      `Time: kernels ${share(waitMs / 1000)}, dispatch ${share(encodeMs / 1000)}, host ${share(host)}; ` +
      `${(flops / 1e9 / Math.max(waitMs / 1000, 1e-9)).toFixed(1)} GFLOP/s of matrix products and attention while kernels ran; ` +
      `${pipelines} pipelines; resident memory ${(rssBytes / 2 ** 30).toFixed(2)} GiB at most`
    );
  }
}
