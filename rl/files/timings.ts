// Where the time went: timings.jsonl, one line per measured part. Only this file, TensorBoard's files and
// provenance.json contain clock readings. The report holds none, so the report of a resumed run equals that of an
// undisturbed one.
import { appendFileSync, existsSync, readFileSync, truncateSync } from "node:fs";
import { explained } from "../../engine/host/index.ts";
import type { Backend, BackendStatistics } from "../../engine/index.ts";
import { timingsPath } from "./layout.ts";

export class Timings {
  readonly #path: string;
  readonly #backend: Backend;

  constructor(folder: string, backend: Backend) {
    this.#path = timingsPath(folder);
    this.#backend = backend;
    explained(this.#path, () => dropCutLine(this.#path));
  }

  /** Appends one line. */
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

/** Removes a last line that a kill cut short, since it would spoil the next one. Only a duration is lost. */
function dropCutLine(path: string): void {
  if (!existsSync(path)) return;
  const bytes = readFileSync(path);
  const end = bytes.lastIndexOf(10) + 1;
  if (end < bytes.length) truncateSync(path, end);
}
