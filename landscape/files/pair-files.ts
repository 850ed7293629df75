// What is read of a pair of checkpoints: the completions of one, scored under the other.
import { existsSync } from "node:fs";
import { z } from "zod";
import { readJson } from "../../engine/host/index.ts";
import { parseShard } from "../shard.ts";
import { cellRecord } from "./cells.ts";
import { earlierPairsFolder, pairPath } from "./layout.ts";

/** Increases when a field changes its meaning or is removed. */
export const PAIR_SCHEMA_VERSION = 1;

export const pairRecord = z.object({
  schemaVersion: z.literal(PAIR_SCHEMA_VERSION),
  /** The step whose completions they are. */
  from: z.int(),
  /** The step under which they are scored. */
  to: z.int(),
  /** Sums over the assistant tokens, as at a grid point. */
  reference: cellRecord.shape.reference,
});
export type PairRecord = z.infer<typeof pairRecord>;

/** Null if it is not measured. */
export const readPair = (folder: string, from: number, to: number): PairRecord | null =>
  readPairFile(pairPath(folder, from, to));

/** Scores of fewer completions, which were set aside. As `readPair`. */
export const readEarlierPair = (folder: string, from: number, to: number): PairRecord | null =>
  readPairFile(pairPath(folder, from, to, earlierPairsFolder(folder, from)));

const readPairFile = (path: string): PairRecord | null => (existsSync(path) ? readJson(path, pairRecord) : null);

/** The checkpoints under which a checkpoint's completions are scored, in a shard its share of them. */
export function pairsFrom(from: number, steps: readonly number[], shard = ""): number[] {
  const all = steps.flatMap((one) => steps.filter((to) => to !== one).map((to) => ({ from: one, to })));
  const part = parseShard(shard);
  return all
    .filter((pair, k) => pair.from === from && (part === null || k % part.count === part.index))
    .map(({ to }) => to);
}

/** Those under which they are not scored yet. */
export const missingPairs = (folder: string, from: number, steps: readonly number[], shard = ""): number[] =>
  pairsFrom(from, steps, shard).filter((to) => !existsSync(pairPath(folder, from, to)));
