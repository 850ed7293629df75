// A shard is a part of every map: with `--shard i/n`, this machine measures part i of n, counted from 0 as Slurm arrays
// and Kubernetes' indexed jobs count. The cells of a part follow one another in the order of (i, j), so they form a
// stripe, and most neighbours of a cell are in its own part: drafts stay useful.
import { SettingsError } from "../engine/host/index.ts";
import { type Grid, type GridCell, workOrder } from "./grid.ts";

export interface Shard {
  index: number;
  count: number;
}

/** A shard in words that --shard takes; null if the text is none. "0/2" is the first of two. */
export function parseShard(text: string): Shard | null {
  const match = /^(\d+)\/(\d+)$/.exec(text);
  if (match === null) return null;
  const [index, count] = [Number(match[1]), Number(match[2])];
  return index < count ? { index, count } : null;
}

/** Problems of the setting, for `defineSettings`. */
export function shardProblems(text: string): string[] {
  return text === "" || parseShard(text) !== null
    ? []
    : [`shard: expected i/n with 0 ≤ i < n, as 0/2 and 1/2 for two machines, got ${JSON.stringify(text)}`];
}

/**
 * The cells of a shard in the order of measurement; all cells for the empty text.
 * @throws SettingsError when the text is no shard
 */
export function shardCells(text: string, grid: Grid): GridCell[] {
  const all = workOrder(grid);
  if (text === "") return all;
  const shard = parseShard(text);
  if (shard === null) throw new SettingsError(shardProblems(text).join());
  return all.filter(({ i, j }) => Math.floor(((i * grid.points + j) * shard.count) / all.length) === shard.index);
}
