// A benchmark here is work that is checked first and then timed as a queue of dispatches, since the engine also runs it
// so. One sample of tinybench submits the whole queue and waits until the device is idle; the reported time is the
// sample's time divided by the length of the queue.
import { Bench } from "tinybench";
import type { Backend } from "../engine/backends/backend.ts";
import { scopeAsync } from "../engine/scope.ts";
import { type Ceilings, type Share, shareOf } from "./ceilings.ts";

export interface BenchCase {
  /** Pass, model, part and size: "forward tiny mlp up, 448 rows". */
  name: string;
  /** Floating-point operations of one run; a multiply-add is two. */
  flops: number;
  /** Bytes that one run must move, everything read or written once. */
  bytes: number;
  /** Needs tens of seconds or gigabytes: runs only when it is named, or with --all. Default false. */
  heavy?: boolean;
  /** Creates the operands of a run, in a scope that the harness ends. */
  setUp(backend: Backend): BenchWork;
}

export interface BenchWork {
  /** Submits one run to the backend without waiting. */
  run(): void;
  /** Called after one run: throws if its result is wrong. */
  check(): Promise<void>;
  /** What the engine chose for this adapter, such as the tile of a product: it ends the result's line. */
  choice?: string;
}

export interface BenchResult {
  name: string;
  flops: number;
  bytes: number;
  /**
   * Milliseconds of one run, over the samples: the median, the deviation (half of the samples are within `deviationMs`
   * of the median) and the best.
   */
  medianMs: number;
  deviationMs: number;
  bestMs: number;
  /**
   * Time of all processors that one run used. On a software driver it is comparable even if other processes keep the
   * machine busy.
   */
  processorMs: number;
  samples: number;
  runsPerSample: number;
  /** The first run, including the compilation of its pipelines. */
  firstMs: number;
  /** BenchWork.choice. */
  choice?: string;
  gflopsPerSecond: number;
  gigabytesPerSecond: number;
}

export interface BenchOptions {
  /** Time for the samples of one case, milliseconds. */
  timeMs?: number;
  /** The shortest time that one sample should take. */
  sampleMs?: number;
}

/** Fewer samples give no useful median; more would take long, since a run may take seconds. */
const fewestSamples = 5;

/** @throws the errors of the case's check and of the backend */
export async function measure(backend: Backend, one: BenchCase, options: BenchOptions = {}): Promise<BenchResult> {
  const { timeMs = 1000, sampleMs = 50 } = options;
  return scopeAsync(async () => {
    const work = one.setUp(backend);
    await backend.idle();
    const queue = async (count: number): Promise<number> => {
      const start = performance.now();
      for (let i = 0; i < count; i++) work.run();
      await backend.idle();
      return performance.now() - start;
    };
    const firstMs = await queue(1);
    await work.check();
    const probes = firstMs > sampleMs ? 1 : 2;
    const runsPerSample = Math.max(1, Math.ceil(sampleMs / ((await queue(probes)) / probes)));
    if (runsPerSample > 1) await queue(runsPerSample);

    const bench = new Bench({ time: timeMs, iterations: fewestSamples, warmup: false, throws: true });
    let samples = 0;
    bench.add(one.name, async () => {
      samples++;
      await queue(runsPerSample);
    });
    const before = process.cpuUsage();
    const [{ result }] = await bench.run();
    const used = process.cpuUsage(before);
    if (!("latency" in result)) throw new Error(`${one.name}: tinybench gave no statistics (${result.state})`);
    const { latency } = result;
    const medianMs = latency.p50 / runsPerSample;
    return {
      name: one.name,
      flops: one.flops,
      bytes: one.bytes,
      medianMs,
      deviationMs: latency.mad / runsPerSample,
      bestMs: latency.min / runsPerSample,
      processorMs: (used.user + used.system) / 1000 / (samples * runsPerSample),
      samples: latency.samplesCount,
      runsPerSample,
      firstMs,
      gflopsPerSecond: one.flops / medianMs / 1e6,
      gigabytesPerSecond: one.bytes / medianMs / 1e6,
      ...(work.choice === undefined ? {} : { choice: work.choice }),
    };
  });
}

/**
 * A line of the table that is printed while benchmarks run; with ceilings, it has the share of the ceiling that the
 * case comes closer to.
 */
export function resultLine(result: BenchResult, ceilings: Ceilings | null = null): string {
  const { name, medianMs, deviationMs, bestMs, gflopsPerSecond, gigabytesPerSecond, processorMs, firstMs } = result;
  const { choice } = result;
  return [
    name.padEnd(52),
    `${time(medianMs)} ± ${time(deviationMs).trimStart().padEnd(8)}`,
    `best ${time(bestMs)}`,
    `${gflopsPerSecond.toFixed(2).padStart(8)} GFLOP/s`,
    `${gigabytesPerSecond.toFixed(2).padStart(7)} GB/s`,
    ...(ceilings === null ? [] : [shareText(shareOf(result, ceilings))]),
    `processors ${time(processorMs)}`,
    `first ${time(firstMs)}`,
    ...(choice === undefined ? [] : [choice]),
  ].join("  ");
}

/** The results as a Markdown table, in the order of the files. */
export function markdownLines(
  results: readonly (BenchResult & { file: string })[],
  ceilings: Ceilings | null,
): string[] {
  const lines = [
    "| case | median ± spread | GFLOP/s | GB/s | share of its ceiling | processor time |",
    "|---|---:|---:|---:|---:|---:|",
  ];
  let last = "";
  for (const result of results) {
    if (result.file !== last) lines.push(`| *${result.file}* | | | | | |`);
    last = result.file;
    const cells = [
      result.name,
      `${time(result.medianMs).trim()} ± ${time(result.deviationMs).trim()}`,
      result.gflopsPerSecond.toFixed(2),
      result.gigabytesPerSecond.toFixed(2),
      ceilings === null ? "–" : shareText(shareOf(result, ceilings)).trim(),
      time(result.processorMs).trim(),
    ];
    lines.push(`| ${cells.join(" | ")} |`);
  }
  return lines;
}

function shareText({ share, of }: Share): string {
  return `${(100 * share).toFixed(0).padStart(3)}% of ${of.padEnd(6)}`;
}

function time(milliseconds: number): string {
  const text =
    milliseconds < 1
      ? `${(milliseconds * 1000).toFixed(0)} µs`
      : `${milliseconds < 1000 ? milliseconds.toPrecision(3) : milliseconds.toFixed(0)} ms`;
  return text.padStart(8);
}
