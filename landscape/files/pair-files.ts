// What is read of a pair of checkpoints: the completions of one, scored under the other.
import { existsSync } from "node:fs";
import { z } from "zod";
import { readJson } from "../../engine/host/index.ts";
import { cellRecord } from "./cells.ts";
import { pairPath } from "./layout.ts";

/** Increases when a field changes its meaning or is removed. */
export const PAIR_SCHEMA_VERSION = 1;

const pairRecord = z.object({
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
export function readPair(folder: string, from: number, to: number): PairRecord | null {
  const path = pairPath(folder, from, to);
  return existsSync(path) ? readJson(path, pairRecord) : null;
}

/** The checkpoints under which a checkpoint's completions are not scored yet. */
export const missingPairs = (folder: string, from: number, steps: readonly number[]): number[] =>
  steps.filter((to) => to !== from && !existsSync(pairPath(folder, from, to)));
