// The named averages of what is measured at a grid point (landscape/files/cells.ts), and their table `points.csv`.
import { FileError } from "../../engine/host/index.ts";
import { ShapeError } from "../../engine/index.ts";
import { coverAtOf, passAtKOf, successesOf } from "../../rl/index.ts";
import type { ByRollout, CellRecord, ReferenceSet } from "../files/cells.ts";
import { differencesOf } from "./claims/first-differences.ts";
import { mean, spread } from "./statistics.ts";

/** A row of points.csv. KL, k1, k3 and entropies in nats; an undefined value is NaN, an empty field in the file. */
export interface Point {
  i: number;
  j: number;
  alpha: number;
  beta: number;
  /** R: mean over rollouts, then prompts. */
  reward: number;
  /** Its standard error over prompts; NaN for one prompt. */
  reward_error: number;
  /** Pooled: Σ KL ÷ Σ tokens. The default KL axis. */
  kl_token: number;
  /** KL summed over a conversation, mean over rollouts, then prompts: the study's formula. */
  kl_sequence: number;
  /** Mean over sequences of each one's token mean. */
  kl_sequence_mean: number;
  k1_token: number;
  k3_token: number;
  k1_sequence_mean: number;
  k3_sequence_mean: number;
  /** Σ of a group's surrogate ÷ the group's tokens, mean over prompts: the study's formula. */
  j_group_token: number;
  /** Σ surrogate ÷ Σ tokens. */
  j_batch_token: number;
  /** Mean over sequences of each one's token mean. */
  j_sequence: number;
  /** Of the rollouts, per token. */
  entropy: number;
  /** Of π_θ(α,β) on the reference completions, per token. */
  reference_entropy: number;
  /** Mean tokens of a rollout. */
  length: number;
  truncated: number;
  /** NaN, an empty column, if the environment asks for no form. */
  format_failed: number;
  /**
   * `pass_at_K_reward_T`: unbiased pass@K, a success being a reward of at least T; K = 1, 2, 4 … up to the rollouts per
   * prompt.
   */
  [pass: `pass_at_${string}`]: number;
  /** `cover_at_TAU_reward_T`: share of prompts with a success rate of at least TAU. */
  [cover: `cover_at_${string}`]: number;
  /**
   * `differs_in_tenth_K`: share of rollouts that first differ from the checkpoint's in this tenth of its assistant
   * tokens; `differs_never`: share that does not; `differs_at`: mean assistant tokens before the first that differs, of
   * those that do. Absent if the cells of the file do not have it.
   */
  [differs: `differs_${string}`]: number;
}

const FIXED = [
  ...["i", "j", "alpha", "beta", "reward", "reward_error", "kl_token", "kl_sequence", "kl_sequence_mean"],
  ...["k1_token", "k3_token", "k1_sequence_mean", "k3_sequence_mean", "j_group_token", "j_batch_token", "j_sequence"],
  ...["entropy", "reference_entropy", "length", "truncated", "format_failed"],
] as const satisfies readonly string[];
/** Rewards from which a rollout counts as a success. */
export const SUCCESS_REWARDS = [1, 0.5] as const;
const COVER_TAUS = [0.25, 0.5, 0.75, 1];

export function sum(values: ArrayLike<number>): number {
  let result = 0;
  for (let k = 0; k < values.length; k++) result += values[k];
  return result;
}

export const total = (of: ByRollout): number => sum(of.map(sum));
const meanOfMeans = (of: ByRollout): number => mean(of.map(mean));
/** A sequence without tokens gives 0 and counts in the average. */
export const perToken = (amount: number, tokens: number): number => (tokens === 0 ? 0 : amount / tokens);
const pooled = (amounts: ByRollout, tokens: ByRollout): number => perToken(total(amounts), total(tokens));
function sequenceMean(amounts: ByRollout, tokens: ByRollout): number {
  let result = 0;
  let count = 0;
  for (let p = 0; p < amounts.length; p++) {
    const of = amounts[p];
    for (let g = 0; g < of.length; g++) result += perToken(of[g], tokens[p][g]);
    count += of.length;
  }
  return result / count;
}

const groupMeans = (amounts: ByRollout, tokens: ByRollout): number[] =>
  amounts.map((of, p) => perToken(sum(of), sum(tokens[p])));

/**
 * All named averages of a cell.
 * @throws ShapeError when the arrays of one set differ in prompts or rollouts, or a prompt has none
 */
export function pointOf(cell: CellRecord, reference: ReferenceSet): Point {
  checkShapes(cell, reference);
  const { i, j, alpha, beta, rollouts } = cell;
  const { kl, k1, k3, objective } = cell.reference;
  const { tokens } = reference;
  const point: Point = {
    i,
    j,
    alpha,
    beta,
    reward: meanOfMeans(rollouts.reward),
    reward_error: spread(rollouts.reward.map(mean)).standardError ?? Number.NaN,
    kl_token: pooled(kl, tokens),
    kl_sequence: meanOfMeans(kl),
    kl_sequence_mean: sequenceMean(kl, tokens),
    k1_token: pooled(k1, tokens),
    k3_token: pooled(k3, tokens),
    k1_sequence_mean: sequenceMean(k1, tokens),
    k3_sequence_mean: sequenceMean(k3, tokens),
    j_group_token: mean(groupMeans(objective, tokens)),
    j_batch_token: pooled(objective, tokens),
    j_sequence: sequenceMean(objective, tokens),
    entropy: pooled(rollouts.entropy, rollouts.tokens),
    reference_entropy: pooled(cell.reference.entropy, tokens),
    length: meanOfMeans(rollouts.tokens),
    truncated: meanOfMeans(rollouts.truncated),
    format_failed: rollouts.formatFailed === undefined ? Number.NaN : meanOfMeans(rollouts.formatFailed),
  };
  const fewest = rollouts.reward.reduce((least, of) => Math.min(least, of.length), Number.POSITIVE_INFINITY);
  const outcomes = SUCCESS_REWARDS.map((threshold) => ({
    threshold,
    prompts: rollouts.reward.map((of) => ({ n: of.length, successes: successesOf(of, threshold) })),
  }));
  for (const { threshold, prompts } of outcomes)
    for (let k = 1; k <= fewest; k *= 2)
      point[`pass_at_${k}_reward_${threshold}`] = mean(
        prompts.map(({ n, successes }) => passAtKOf(n, successes, k) ?? 0),
      );
  for (const { threshold, prompts } of outcomes)
    for (const tau of COVER_TAUS) point[`cover_at_${tau}_reward_${threshold}`] = coverAtOf(prompts, tau);
  const differences = differencesOf(cell, reference);
  if (differences !== null) {
    point.differs_never = differences.never;
    point.differs_at = differences.meanPlace;
    for (const [k, share] of differences.parts.entries()) point[`differs_in_tenth_${k + 1}`] = share;
  }
  return point;
}

/** As many rollouts for each prompt, none of them 0. */
function isShapedLike(of: ByRollout, like: ByRollout): boolean {
  if (like.length === 0 || of.length !== like.length) return false;
  for (let p = 0; p < like.length; p++) if (like[p].length === 0 || of[p].length !== like[p].length) return false;
  return true;
}

function checkShapes(cell: CellRecord, reference: ReferenceSet): void {
  const compare = (what: string, of: ByRollout, like: ByRollout) => {
    if (isShapedLike(of, like)) return;
    const lengths = (lists: ByRollout): number[] => lists.map((rollouts) => rollouts.length);
    throw new ShapeError(
      `cell (${cell.i}, ${cell.j}): ${what}: expected rollouts per prompt [${lengths(like)}], none of them 0, ` +
        `got [${lengths(of)}].`,
    );
  };
  for (const [name, of] of Object.entries(cell.rollouts)) compare(`rollouts.${name}`, of, cell.rollouts.reward);
  for (const [name, of] of Object.entries(cell.reference)) compare(`reference.${name}`, of, reference.tokens);
  if (cell.firstDifference !== undefined)
    compare(
      "firstDifference",
      cell.firstDifference,
      cell.rollouts.reward.slice(0, reference.tokens.length).map((of, p) => of.slice(0, reference.tokens[p].length)),
    );
}

/** The order of points.csv and of maps. */
export const byPlace = (a: { i: number; j: number }, b: { i: number; j: number }): number => a.i - b.i || a.j - b.j;

/**
 * points.csv: a header, then one row per cell, ordered by (i, j); numbers are the shortest that read back to the same
 * bits.
 */
export function writePoints(points: readonly Point[]): string {
  const rows = [...points].sort(byPlace);
  const extra = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter(isFurtherColumn);
  const line = (row: Point) =>
    [...FIXED, ...extra]
      .map((column) => (Number.isNaN(row[column] ?? Number.NaN) ? "" : String(row[column])))
      .join(",");
  return `${[[...FIXED, ...extra].join(","), ...rows.map(line)].join("\n")}\n`;
}

type FurtherColumn = `pass_at_${string}` | `cover_at_${string}` | `differs_${string}`;
const isFurtherColumn = (name: string): name is FurtherColumn => /^((pass|cover)_at|differs)_/.test(name);

/**
 * Reads what `writePoints` wrote; columns with other names are ignored.
 * @param where  the file's name, for messages
 * @throws FileError when a column is missing or a field is not a number
 */
export function readPoints(text: string, where = "points.csv"): Point[] {
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  const header = (lines[0] ?? "").split(",");
  const missing = FIXED.filter((column) => !header.includes(column));
  if (missing.length > 0)
    throw new FileError(
      `${where}: expected a column ${missing.map((column) => `"${column}"`).join(", ")}, ` +
        `got ${JSON.stringify(lines[0] ?? "")}. ` +
        "Delete the file and it is written again from cells.jsonl.",
    );
  return lines.slice(1).map((line, row) => {
    const fields = line.split(",");
    const field = (column: string, mayBeEmpty = true): number => {
      const written = fields[header.indexOf(column)];
      const value = written === undefined || /^\s*$/.test(written) ? Number.NaN : Number(written);
      if (Number.isNaN(value) && !(written === "" && mayBeEmpty))
        throw new FileError(
          `${where}: line ${row + 2}, column "${column}": expected a number, got ${JSON.stringify(written ?? "")}. ` +
            "Delete the file and it is written again from cells.jsonl.",
        );
      return value;
    };
    const point: Point = {
      i: field("i", false),
      j: field("j", false),
      alpha: field("alpha", false),
      beta: field("beta", false),
      reward: field("reward"),
      reward_error: field("reward_error"),
      kl_token: field("kl_token"),
      kl_sequence: field("kl_sequence"),
      kl_sequence_mean: field("kl_sequence_mean"),
      k1_token: field("k1_token"),
      k3_token: field("k3_token"),
      k1_sequence_mean: field("k1_sequence_mean"),
      k3_sequence_mean: field("k3_sequence_mean"),
      j_group_token: field("j_group_token"),
      j_batch_token: field("j_batch_token"),
      j_sequence: field("j_sequence"),
      entropy: field("entropy"),
      reference_entropy: field("reference_entropy"),
      length: field("length"),
      truncated: field("truncated"),
      format_failed: field("format_failed"),
    };
    for (const column of header) if (isFurtherColumn(column)) point[column] = field(column);
    return point;
  });
}
