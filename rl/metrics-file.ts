// metrics.jsonl: one line of JSON per record of a run, in the order of steps.
// The file of a resumed run must equal that of an uninterrupted run byte for byte. So it holds no times. When it is
// opened, lines after the step that the run resumes from are removed, and so is an incomplete last line.
import { closeSync, existsSync, fsyncSync, ftruncateSync, openSync, readFileSync } from "node:fs";
import { explained, FileError, writeAll, writeAtomic } from "../engine/host/index.ts";

export type MetricValue = number | string | boolean | null;

/** A record about the weights after `step`. Keys are written in the order of the object. */
export interface MetricsRecord {
  readonly step: number;
  readonly [metric: string]: MetricValue;
}

export interface MetricsFile {
  /** Bytes that were removed on opening: later steps, or an incomplete last line. */
  readonly removedBytes: number;
  /** Step of the last record in the file, or -1. */
  readonly lastStep: number;
  /**
   * Writes one line and waits until it is on the disk. The caller saves its state afterwards, so that no saved state is
   * ahead of its metrics. A number that is not finite becomes null. @throws Error when the step is before the last one
   */
  append(record: MetricsRecord): void;
  close(): void;
}

/**
 * Opens or creates the file of a run that has done `step` steps; -1 for a new run.
 * @throws FileError when a line that should stay is damaged
 */
export function openMetrics(path: string, step: number): MetricsFile {
  const file = explained(path, () => openSync(path, "a+"));
  let lastStep: number;
  let removedBytes: number;
  try {
    const bytes = readFileSync(file);
    const kept = keptPrefix(bytes, step, path);
    lastStep = kept.lastStep;
    removedBytes = bytes.length - kept.length;
    if (removedBytes > 0) {
      ftruncateSync(file, kept.length);
      fsyncSync(file);
    }
  } catch (caught) {
    closeSync(file);
    throw caught;
  }
  return {
    removedBytes,
    get lastStep() {
      return lastStep;
    },
    append(record) {
      if (!Number.isSafeInteger(record.step) || record.step < 0 || record.step < lastStep)
        throw new Error(`${path}: expected a step from ${Math.max(lastStep, 0)} on, got ${record.step}`);
      const line = Buffer.from(`${JSON.stringify(record)}\n`);
      explained(path, () => {
        writeAll(file, line);
        fsyncSync(file);
      });
      lastStep = record.step;
    },
    close: () => closeSync(file),
  };
}

/**
 * Removes metrics from the record of `step` if it is the last one in the file. Needed when a run is extended: its
 * former last step was evaluated only because it was the last.
 */
export function dropFromLast(path: string, step: number, isDropped: (metric: string) => boolean): void {
  if (!existsSync(path)) return;
  const lines = explained(path, () => readFileSync(path, "utf8")).split("\n");
  const last = lines.length - 2; // after the last newline comes nothing
  if (last < 0 || lines.at(-1) !== "" || stepOf(lines[last]) !== step) return;
  const entries = Object.entries<unknown>(JSON.parse(lines[last]));
  const kept = entries.filter(([metric]) => !isDropped(metric));
  if (kept.length === entries.length) return;
  lines[last] = JSON.stringify(Object.fromEntries(kept));
  writeAtomic(path, lines.join("\n"));
}

/**
 * Length in bytes of the lines up to `step`, and the last of their steps. Steps never decrease, so these lines are a
 * prefix.
 */
function keptPrefix(bytes: Buffer, step: number, path: string): { length: number; lastStep: number } {
  let length = 0;
  let lastStep = -1;
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const newline = bytes.indexOf("\n", start);
    const end = newline < 0 ? bytes.length : newline;
    const found = newline < 0 ? null : stepOf(bytes.toString("utf8", start, end));
    if (found !== null && found > step) break;
    if (found === null || found < lastStep) {
      // A kill or a power cut can only damage the end of a file. Damage before lines that should stay has another
      // cause, and so has a valid line of an earlier step.
      const soundAfter = bytes
        .toString("utf8", end)
        .split("\n")
        .slice(0, -1)
        .some((later) => (stepOf(later) ?? Number.POSITIVE_INFINITY) <= step);
      if (found === null && !soundAfter) break;
      throw new FileError(
        `${path}: line ${line}: expected a record {"step": …} of step ${Math.max(lastStep, 0)} or later, got ` +
          `${JSON.stringify(bytes.toString("utf8", start, Math.min(end, start + 60)))}. Restore the file, or delete the line.`,
      );
    }
    lastStep = found;
    start = end + 1;
    length = start;
  }
  return { length, lastStep };
}

function stepOf(line: string): number | null {
  try {
    const record: unknown = JSON.parse(line);
    if (typeof record !== "object" || record === null || !("step" in record)) return null;
    return typeof record.step === "number" && Number.isSafeInteger(record.step) ? record.step : null;
  } catch {
    return null;
  }
}
