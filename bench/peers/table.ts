// The results of a comparison, and their table.
import { type Ceilings, shareOf } from "../ceilings.ts";
import { median } from "../median.ts";
import type { Times } from "./worker.ts";

/** One library at one task. */
export interface Timing {
  contestant: string;
  /** Milliseconds of one run: median over the rounds, the best round, and the first run with all its compilation. */
  medianMs: number;
  bestMs: number;
  firstMs: number;
  /** The times of every round, in order. */
  rounds: readonly Times[];
}

/** A peer, with the time of foothold's turn just before each turn of the peer. */
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

/** @param rounds  milliseconds of one run in each round, at least one round */
export function timingOf(contestant: string, firstMs: number, rounds: readonly Times[]): Timing {
  const times = rounds.map(({ ms }) => ms);
  return { contestant, medianMs: median(times), bestMs: Math.min(...times), firstMs, rounds };
}

/**
 * How many times as long a peer takes: the median over rounds of its time ÷ foothold's. The two times of a round were
 * measured one after the other, so other load on the machine affects both; on a busy machine the ratio of processor
 * time is more reliable.
 */
export function ratioOf({ rounds, oursBeside }: PeerTiming, of: keyof Times = "ms"): number {
  return median(rounds.map((theirs, i) => theirs[of] / oursBeside[i][of]));
}

/** Rows in Markdown: one per library and task, with foothold's time in the same rounds. */
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
