// Progress: bars on a terminal, plain lines on a pipe and in CI. Always on standard error, so that standard output
// holds only the result of a command.
//
//   const sweep = progress.phase("sweep", 49, "cells");
//   sweep.advance(1, "reward 0.31");
//   sweep.done();                                            // sweep: 49 cells in 12.3 s, 4.0 cells/s
import { MultiBar, type SingleBar } from "cli-progress";

export interface Phase {
  /** Counts `count` more as done (default 1); the note is shown after the count until the next call. */
  advance(count?: number, note?: string): void;
  /**
   * Sets how much is done in all. Fractions are allowed: only whole items are shown, but rate and time left use the
   * fraction.
   */
  moveTo(value: number, note?: string): void;
  /** A phase inside this one, shown below it. @param from  how much an earlier process has done */
  phase(name: string, total: number, unit: string, from?: number): Phase;
  /** Ends it and every phase inside it. */
  done(): void;
}

export interface Progress {
  phase(name: string, total: number, unit: string, from?: number): Phase;
  /** Prints a line of text that stays, above the bars. */
  line(text: string): void;
  /** Ends everything still shown, such as before a message. */
  close(): void;
}

export interface ProgressOptions {
  /** Lines and notes as the reader is to see them. Default: as they are. */
  words?: (text: string) => string;
  /** Shows nothing at all. */
  quiet?: boolean;
  stream?: NodeJS.WritableStream & { isTTY?: boolean };
  /** Milliseconds on a monotonic clock. */
  now?: () => number;
  /** On a pipe, at most one line per this many milliseconds. */
  plainIntervalMs?: number;
}

/** Where the state of all phases is shown. */
interface Display {
  begin(phase: Counted): void;
  change(phase: Counted): void;
  end(phase: Counted): void;
  line(text: string): void;
}

/** The state of one phase. */
interface Counted {
  readonly name: string;
  readonly total: number;
  readonly unit: string;
  readonly from: number;
  readonly depth: number;
  readonly startMs: number;
  value: number;
  note: string;
}

export function createProgress(options: ProgressOptions = {}): Progress {
  const stream = options.stream ?? process.stderr;
  const now = options.now ?? (() => performance.now());
  const words = options.words ?? ((text) => text);
  // The reader of standard error may have gone (| head): the work continues.
  if (stream.listenerCount("error") === 0) stream.on("error", () => {});
  const display = options.quiet
    ? silentDisplay
    : stream.isTTY && !process.env["CI"]
      ? barDisplay(stream, now)
      : plainDisplay(stream, now, options.plainIntervalMs ?? 5000);
  const active: Counted[] = [];

  /** Ends the phases from this index on, the innermost first. */
  const endFrom = (index: number) => {
    while (index >= 0 && active.length > index) {
      const ended = active.pop();
      if (ended) display.end(ended);
    }
  };
  const begin = (depth: number, name: string, total: number, unit: string, from = 0): Phase => {
    endFrom(depth); // the next phase ends a phase that was not ended
    const counted: Counted = { name, total, unit, from, depth, startMs: now(), value: from, note: "" };
    active.push(counted);
    display.begin(counted);
    const moveTo = (value: number, note?: string): void => {
      if (!active.includes(counted)) return;
      counted.value = value;
      if (note !== undefined) counted.note = words(note);
      display.change(counted);
    };
    return {
      advance: (count = 1, note) => moveTo(counted.value + count, note),
      moveTo,
      phase: (...args) => begin(depth + 1, ...args),
      done: () => endFrom(active.indexOf(counted)),
    };
  };
  return {
    phase: (...args) => begin(0, ...args),
    line: (text) => display.line(words(text)),
    close: () => endFrom(0),
  };
}

const silentDisplay: Display = { begin() {}, change() {}, end() {}, line() {} };

function plainDisplay(stream: NodeJS.WritableStream, now: () => number, intervalMs: number): Display {
  const shown: Counted[] = [];
  let lastMs = Number.NEGATIVE_INFINITY;
  const write = (text: string) => {
    lastMs = now();
    stream.write(`${text}\n`);
  };
  return {
    begin(phase) {
      shown.push(phase);
      if (phase.depth === 0 && phase.total > phase.from) write(`${phase.name}: ${countText(phase)}`);
    },
    change() {
      if (now() - lastMs >= intervalMs) write(shown.map((p) => `${p.name}: ${stateText(p, now())}`).join(" > "));
    },
    end(phase) {
      shown.pop();
      if (phase.depth === 0) write(summaryText(phase, now()));
    },
    line: (text) => {
      stream.write(`${text}\n`); // no progress: it does not count as one of the limited lines
    },
  };
}

function barDisplay(stream: NodeJS.WritableStream, now: () => number): Display {
  const bars = new Map<Counted, SingleBar>();
  const redrawMs = 100;
  let drawnMs = now();
  const multi = new MultiBar({
    stream,
    fps: 1000 / redrawMs,
    // Lines are cut to the terminal's width. Line wrapping and cursor of the terminal stay as they are, since a run may
    // be killed.
    linewrap: true,
    hideCursor: false,
    clearOnComplete: true,
    gracefulExit: false, // the command line handles signals
    format: (_options, { progress }, phase: Counted) => {
      const filled = Math.round(progress * 20);
      const bar = "█".repeat(filled) + "░".repeat(20 - filled);
      return `${"  ".repeat(phase.depth)}${phase.name.padEnd(16 - 2 * phase.depth)} ${bar} ${stateText(phase, now())}`;
    },
  });
  return {
    begin(phase) {
      bars.set(phase, multi.create(phase.total, phase.value, phase));
    },
    change(phase) {
      bars.get(phase)?.update(phase.value);
      // Timers do not fire while the plain-TypeScript backend computes.
      if (now() - drawnMs < redrawMs) return;
      drawnMs = now();
      multi.update();
    },
    end(phase) {
      const bar = bars.get(phase);
      bars.delete(phase);
      if (phase.depth === 0) multi.log(`${summaryText(phase, now())}\n`);
      if (bar) multi.remove(bar);
      if (bars.size === 0) multi.stop();
    },
    line(text) {
      if (bars.size === 0) stream.write(`${text}\n`);
      else multi.log(`${text}\n`);
    },
  };
}

/** "12/49 cells" */
function countText({ value, total, unit }: Counted): string {
  return `${whole(value)}/${total} ${unit}`;
}

/** Whole items done; a sum of fractions may be a rounding error below a whole number. */
function whole(value: number): number {
  return Math.floor(value + 1e-6);
}

/** "12/49 cells, 3.1 cells/s, 12 s left, reward 0.31" */
function stateText(phase: Counted, nowMs: number): string {
  const { value, total, from, unit, note } = phase;
  const parts = [countText(phase)];
  const elapsedMs = nowMs - phase.startMs;
  const done = value - from;
  if (done > 0 && elapsedMs > 0) {
    parts.push(formatRate(done, elapsedMs, unit));
    if (value < total) parts.push(`${formatDuration(((total - value) * elapsedMs) / done)} left`);
  }
  if (note !== "") parts.push(note);
  return parts.join(", ");
}

/** "sweep: 49 cells in 12.3 s, 4.0 cells/s"; the work of an earlier process is not part of the rate. */
function summaryText({ name, value, from, total, unit, startMs }: Counted, nowMs: number): string {
  const elapsedMs = nowMs - startMs;
  const done = value - from;
  const count = whole(value) < total ? `${whole(value)} of ${total}` : `${whole(value)}`;
  const earlier = from > 0 ? ` (${from} before)` : "";
  if (done <= 0 || elapsedMs <= 0) return `${name}: ${count} ${unit}${earlier}`;
  return `${name}: ${count} ${unit}${earlier} in ${formatDuration(elapsedMs)}, ${formatRate(done, elapsedMs, unit)}`;
}

/**
 * "4.00 cells/s"; if less than one is done per second or minute, the rate per minute or hour. Three significant digits.
 */
export function formatRate(count: number, elapsedMs: number, unit: string): string {
  const perSecond = (count * 1000) / elapsedMs;
  const [rate, time] =
    perSecond >= 1 ? [perSecond, "s"] : perSecond * 60 >= 1 ? [perSecond * 60, "min"] : [perSecond * 3600, "h"];
  return `${rate >= 100 ? Math.round(rate) : rate.toPrecision(3)} ${unit}/${time}`;
}

/** "850 ms", "12.3 s", "3 min 20 s", "2 h 5 min", "3 d 4 h": two units at most. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const pair = (whole: number, large: string, small: string, ratio: number) => {
    const rest = whole % ratio;
    return `${(whole - rest) / ratio} ${large}${rest > 0 ? ` ${rest} ${small}` : ""}`;
  };
  if (seconds < 3599.5) return pair(Math.round(seconds), "min", "s", 60);
  if (seconds < 86370) return pair(Math.round(seconds / 60), "h", "min", 60);
  return pair(Math.round(seconds / 3600), "d", "h", 24);
}
