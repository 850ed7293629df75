// The data of figures and report: plain objects with the content of a run folder's files.
//
// This file measures and estimates nothing; a figure shows the numbers that it is given and can list them as CSV. A
// missing cell, an absent objective and an undetermined estimate stay distinct from a zero up to the printed figure.

import type { SliceFacts } from "../../files/slice-facts.ts";
import type { Claim } from "../../statistics/claims/claim.ts";
import type { KlFromMap } from "../../statistics/kl-from.ts";
import type { CorrelationTrend } from "../../statistics/over-checkpoints.ts";
import type { CheckpointPair } from "../../statistics/pairs.ts";
import type { RaysShown } from "../../statistics/rays/ray-tables.ts";
import type { RingPoint } from "../../statistics/ring-curve.ts";
import type { CorrelationDeterminations } from "../../statistics/signal.ts";
import type { Trajectory } from "../../weights/trajectory-plane.ts";

/** An estimate as it is drawn: its value and the ends of its interval, null if there is no interval. */
export interface DrawnInterval {
  value: number;
  low: number | null;
  high: number | null;
}

/** null: undetermined (landscape/statistics/intervals.ts has the rule). */
export type DrawnEstimate = DrawnInterval | null;

/** One grid point. Errors are standard errors over prompts. */
export interface MapPoint {
  i: number;
  j: number;
  alpha: number;
  beta: number;
  reward: number;
  rewardError?: number | null;
  /** Half the width of the reward's 95% interval over prompts. */
  rewardReach?: number | null;
  /** KL(π_θ ‖ π_θ(α,β)) per token, in nats. */
  klToken: number;
  /** J, normalisation group-token; null if groups are too small to have an objective. */
  objective: number | null;
  /** Share of this point's rollouts with reward 0. */
  floorShare?: number | null;
}

export interface MapSummary {
  /** Correlation of the two maps, KL and R, at this budget. */
  r: DrawnEstimate;
  /** The same free of rollout noise; it can pass ±1. */
  rInfinity: DrawnEstimate;
  /** r∞ after each radius class's mean is subtracted. */
  withinRing: DrawnEstimate;
  /** NaN if the origin is not measured yet, or if the grid has none. */
  originReward: number;
  /** Half the width of its 95% interval over prompts. */
  originRewardReach?: number | null;
  /** Share of rollouts with reward 0, over all cells. */
  floorShare?: number | null;
  /** The prompts that each correlation needs if it is undetermined. */
  determined?: CorrelationDeterminations;
  /** Further columns of the report's table, in order. */
  further?: readonly { name: string; value: number | string | null }[];
}

/** A message of a conversation, as the page displays it. */
export interface DisplayedMessage {
  role: string;
  content: string;
}

/** The conversations at one grid point: the same prompts in the same order at every point. */
export interface CellConversations {
  i: number;
  j: number;
  conversations: readonly {
    messages: readonly DisplayedMessage[];
    reward: number;
    /** For each answer the UTF-16 units of text that each of its tokens adds; absent in runs that did not keep them. */
    tokenLengths?: readonly (readonly number[])[];
  }[];
}

/** The tokens that a conversation has in common with the checkpoint's, from its start on. */
export interface CommonStart {
  readonly tokens: number;
  /** Nothing differs. */
  readonly isSame: boolean;
}

/** The common starts of a map's conversations. */
export interface CommonStarts {
  /** "words" in a run that kept no token boundaries. */
  readonly unit: "tokens" | "words";
  readonly cells: readonly { readonly i: number; readonly j: number; readonly starts: readonly CommonStart[] }[];
}

/** The checkpoint's reward with other rollout noise, and the map's cells against it (landscape/statistics/noise-floor.ts). */
export interface MapNoiseFloor {
  /** Mean reward of each draw. */
  readonly draws: readonly number[];
  readonly mean: DrawnEstimate;
  readonly deviation: DrawnEstimate;
  /** Holds 95% of further draws; null with fewer than two draws. */
  readonly range: { readonly low: number; readonly high: number } | null;
  /** Cells below and above the range, of all but the checkpoint's. */
  readonly below: number;
  readonly above: number;
  readonly cells: number;
}

/** The landscape around one checkpoint in one slice. */
export interface LandscapeMap {
  step: number;
  slice: number;
  /** Points per side. */
  n: number;
  /** The grid spans ±radius on both axes. */
  radius: number;
  /** In any order; a point that has not been measured is absent. */
  points: readonly MapPoint[];
  summary: MapSummary;
  /** A remark that every figure made from this map must show, such as "cells from two adapters". */
  mark?: string;
  /** Reward against KL by ring, from the checkpoint outwards (landscape/statistics/ring-curve.ts). */
  rings?: readonly RingPoint[];
  conversations?: readonly CellConversations[];
  /** Absent if it was not measured. */
  noiseFloor?: MapNoiseFloor;
  /** What its directions are; absent in runs of earlier versions. */
  directions?: SliceFacts;
}

/** KL that both directions were scaled to at the edges of these maps, nats per token; null where they keep their norms. */
export const edgeKlOf = (maps: readonly LandscapeMap[]): number | null =>
  maps.map(({ directions }) => directions?.fixedKl?.target).find((target) => target !== undefined) ?? null;

export interface TrainingRow {
  step: number;
  reward: number | null;
  evalReward?: number | null;
  /** Standard error over the evaluation's episodes. */
  evalRewardError?: number | null;
  /** Half the width of its 95% interval: Student's t over the episodes. */
  evalRewardReach?: number | null;
  /** Metrics of the figure of health, by their names in metrics.jsonl. */
  health?: Readonly<Record<string, number | null | undefined>>;
}

/** Correlations of one checkpoint, as means over its slices. */
export interface SliceMean {
  step: number;
  r: DrawnEstimate;
  rInfinity: DrawnEstimate;
  withinRing: DrawnEstimate;
}

/** A conversation of a training step. */
export interface TrainingConversation {
  readonly episode: number;
  readonly rollout: number;
  readonly reward: number;
  readonly advantage: number;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
}

/** Sample conversations of one training step. */
export interface TrainingSample {
  readonly step: number;
  readonly conversations: readonly TrainingConversation[];
}

export interface Study {
  name: string;
  settings: readonly { key: string; value: string | number | boolean }[];
  /** What a reader must know first, shown at the top of the report. */
  notes: readonly string[];
  training: readonly TrainingRow[];
  maps: readonly LandscapeMap[];
  /** Means over slices, from five slices on. */
  sliceMeans?: readonly SliceMean[];
  /** Sample conversations of training steps, in the order of the steps. */
  trainingSamples?: readonly TrainingSample[];
  /** What the task is, in a sentence. */
  task?: string;
  /** The incomplete parts, in sentences. */
  gaps?: readonly string[];
  /** Claims with their conclusions, tables and figures. */
  claims?: readonly Claim[];
  /** Rays around the checkpoints; null or absent if there are none. */
  rays?: RaysShown | null;
  /** Maps with KL from the policies of other checkpoints; empty or absent if there are none. */
  klFrom?: readonly KlFromMap[];
  /** The checkpoints in the plane of their first two principal components; null or absent if it was not computed. */
  trajectory?: Trajectory | null;
  /** KL and reward between checkpoints; absent or empty if they are not measured. */
  pairs?: readonly CheckpointPair[];
  /** Slopes of the correlations over the checkpoints, slice by slice. */
  trends?: readonly CorrelationTrend[];
  /** The name of the intervals; "95% interval" only if simulated coverage allows it. */
  intervalName?: string;
  /** Why some values have none, in sentences; empty or absent if all have one. */
  noInterval?: readonly string[];
}

export type Quantity = "reward" | "kl" | "objective";
export const QUANTITIES: readonly Quantity[] = ["reward", "kl", "objective"];

/** One finished figure: the drawing, and the numbers in it. */
export interface Figure {
  /** File name without extension. */
  name: string;
  title: string;
  svg: string;
  csv: string;
}

/**
 * The n × n values of a quantity, entry j·n + i: alpha varies along a row, beta from row to row; NaN for a missing
 * value. The objective is J − J(0,0), NaN everywhere if J is missing at the origin.
 * @throws RangeError for a point outside the grid, given twice, or with a reward or KL that is not a finite number
 */
export function gridValues(map: LandscapeMap, quantity: Quantity): Float64Array {
  const where = `map at step ${map.step}, slice ${map.slice}`;
  const { n } = map;
  if (!Number.isInteger(n) || n < 2) throw new RangeError(`${where}: expected at least 2 points per side, got ${n}`);
  const origin = quantity === "objective" ? (checkpointPoint(map)?.objective ?? Number.NaN) : 0;
  const values = new Float64Array(n * n).fill(Number.NaN);
  const seen = new Set<number>();
  for (const point of map.points) {
    const { i, j } = point;
    const at = `${where}, point (${i}, ${j})`;
    if (!(Number.isInteger(i) && Number.isInteger(j) && i >= 0 && i < n && j >= 0 && j < n))
      throw new RangeError(`${at}: expected whole numbers from 0 to ${n - 1}`);
    if (seen.has(j * n + i)) throw new RangeError(`${at}: expected once, got twice`);
    seen.add(j * n + i);
    for (const [name, value] of [
      ["reward", point.reward],
      ["KL", point.klToken],
    ] as const)
      if (!Number.isFinite(value)) throw new RangeError(`${at}: expected a finite ${name}, got ${value}`);
    values[j * n + i] = quantityOf(point, quantity) - origin;
  }
  return values;
}

function quantityOf(point: MapPoint, quantity: Quantity): number {
  switch (quantity) {
    case "reward":
      return point.reward;
    case "kl":
      return point.klToken;
    case "objective":
      return point.objective ?? Number.NaN;
  }
}

/** The checkpoint itself, if the grid has it (odd n) and it is already measured. */
export function checkpointPoint(map: LandscapeMap): MapPoint | undefined {
  return map.points.find((point) => point.alpha === 0 && point.beta === 0);
}

/** Whether J − J(0,0) can be drawn. */
export function hasObjective(map: LandscapeMap): boolean {
  return typeof checkpointPoint(map)?.objective === "number";
}

/** Distance of a point from the origin in units of the radius, from whole numbers so that a ring has one value. */
export function distanceInRadii(map: LandscapeMap, point: MapPoint): number {
  const u = 2 * point.i - (map.n - 1);
  const v = 2 * point.j - (map.n - 1);
  return Math.sqrt(u * u + v * v) / (map.n - 1);
}

/** Smallest and largest finite value, or null when there is none. */
export function extentOf(...lists: readonly ArrayLike<number>[]): [number, number] | null {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const list of lists)
    for (let k = 0; k < list.length; k++)
      if (Number.isFinite(list[k])) {
        low = Math.min(low, list[k]);
        high = Math.max(high, list[k]);
      }
  return low <= high ? [low, high] : null;
}

/** Maps by step, then slice: the order of panels, tables and files. */
export function inOrder(maps: readonly LandscapeMap[]): LandscapeMap[] {
  return [...maps].sort((a, b) => a.step - b.step || a.slice - b.slice);
}

/** The distinct values of a list of numbers, ascending. */
export function distinct(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

/** CSV after RFC 4180 with "\n" line ends; numbers in shortest round-trip form; an empty field for null. */
export function csv(
  header: readonly string[],
  rows: readonly (readonly (string | number | null | undefined)[])[],
): string {
  const field = (value: string | number | null | undefined) => {
    const written = value === null || value === undefined || Number.isNaN(value) ? "" : String(value);
    return /[",\r\n]/.test(written) ? `"${written.replaceAll('"', '""')}"` : written;
  };
  return [header, ...rows].map((row) => `${row.map(field).join(",")}\n`).join("");
}
