// What a comparison found, and the table that says it.
import { type Ceilings, shareOf } from "../ceilings.ts";
import type { Times } from "./worker.ts";

/** One library at one task. */
export interface Timing {
  contestant: string;
  /** Milliseconds of one run: median over the rounds, the best round, and the first run with all its compilation. */
  medianMs: number;
  bestMs: number;
  firstMs: number;
  /** Of every round, in order. */
  rounds: readonly Times[];
}

/** A peer, with what ours took in the turn before each of its own. */
export interface PeerTiming extends Timing {
  oursBeside: readonly Times[];
}

export interface Comparison {
  task: string;
  flops: number;
  /** Over all rounds with all peers. */
  ours: Timing;
  others: readonly PeerTiming[];
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** @param rounds  milliseconds of one run in each round, at least one round */
export function timingOf(contestant: string, firstMs: number, rounds: readonly Times[]): Timing {
  const times = rounds.map(({ ms }) => ms);
  return { contestant, medianMs: median(times), bestMs: Math.min(...times), firstMs, rounds };
}

/**
 * How many times as long a peer takes: the median over rounds of its time through ours. The two of a round were taken one after
 * another, so that what else the machine did in the meantime weighs on both; on a busy machine processor time says more.
 */
export function ratioOf({ rounds, oursBeside }: PeerTiming, of: keyof Times = "ms"): number {
  return median(rounds.map((theirs, i) => theirs[of] / oursBeside[i][of]));
}

/** Rows in Markdown: one for each library at each task, with what ours took in the same rounds. */
export function tableLines(comparisons: readonly Comparison[], ceilings: Ceilings | null): string[] {
  const lines = [
    "| task | peer | ours, ms | peer, ms | ratio | ratio of processor time | ours, GFLOP/s | share of matmul ceiling |",
    "|---|---|---:|---:|---:|---:|---:|---:|",
  ];
  for (const { task, flops, others } of comparisons)
    for (const other of others) {
      const oursMs = median(other.oursBeside.map(({ ms }) => ms));
      const gflopsPerSecond = flops / oursMs / 1e6;
      const share =
        ceilings === null
          ? "–"
          : `${(100 * shareOf({ gflopsPerSecond, gigabytesPerSecond: 0 }, ceilings).share).toFixed(0)}%`;
      const cells = [
        task,
        other.contestant,
        oursMs.toPrecision(3),
        other.medianMs.toPrecision(3),
        ratioOf(other).toFixed(2),
        ratioOf(other, "processorMs").toFixed(2),
        gflopsPerSecond.toFixed(1),
        share,
      ];
      lines.push(`| ${cells.join(" | ")} |`);
    }
  return lines;
}
