// The key of a grid point's measurement: equal keys mean equal bits of the record in cells.jsonl. Shards, their merging
// and `landscape/verify.ts` compare measurements by it.
import { createHash } from "node:crypto";
import { settingValue } from "../../engine/host/index.ts";
import type { Provenance } from "../../rl/index.ts";
import { type StudySettings, studySettings } from "../settings.ts";

/** Settings of the grid and of how much is measured: they decide which keys there are, and are in no key. */
const extent = new Set(["steps", "slices", "points", "radius", "simulations"].map((name) => `landscape.${name}`));
/** Of the training's settings, those that the objective J at a grid point depends on. */
const ofObjective = new Set(["train.clipLow", "train.clipHigh", "train.advantageEpsilon"]);

export interface CellPlace {
  slice: number;
  alpha: number;
  beta: number;
}

/** What all keys of one study have in common. */
export interface KeyContext {
  settings: StudySettings;
  origin: Pick<Provenance, "adapter" | "foothold" | "products" | "files">;
}

/**
 * SHA-256, in hexadecimal digits, over the JSON of
 * - `checkpoint`: the digest of the checkpoint's files (`modelDigest`);
 * - `slice`, and `cell`: alpha and beta as the digits that read back to the same bits. The indices (i, j) are left out,
 *   so a key stays the same on a finer or larger grid that has the same point;
 * - `settings`: every setting that the measurement depends on. They give the directions' seed, the prompts (environment,
 *   seed, numbers), the sampling (seed, lengths, rollouts), the precision, and clipping and advantages of J;
 * - `files`: digests of the environment's files;
 * - `plan`: the order of sums in matrix products, the adapter with its driver, and the program's version, since results
 *   of two drivers differ in their last bits.
 * @param checkpoint  its digest
 */
export function cellKey({ settings, origin }: KeyContext, checkpoint: string, place: CellPlace): string {
  const { adapter, foothold, products, files } = origin;
  const key = {
    checkpoint,
    slice: place.slice,
    cell: [String(place.alpha), String(place.beta)],
    settings: measuredSettings(settings),
    files: Object.entries(files)
      .map(([name, { sha256 }]) => [name, sha256])
      .sort(([one], [other]) => (one < other ? -1 : 1)),
    plan: { order: products.order, adapter, foothold },
  };
  return createHash("sha256").update(JSON.stringify(key)).digest("hex");
}

/** The settings that a measurement around a given checkpoint depends on, by key. */
function measuredSettings(settings: StudySettings): [string, unknown][] {
  return [...studySettings.byKey]
    .filter(([key, setting]) => {
      if (setting.isFree || extent.has(key) || !studySettings.applies(key, settings)) return false;
      // Paths of the environment's files are not compared: their digests are.
      if (key.startsWith("environment.")) return !isPath(key);
      return key.startsWith("landscape.") || ofObjective.has(key);
    })
    .map(([key]) => [key, settingValue(settings, key)]);
}

const isPath = (key: string): boolean => studySettings.byKey.has(`${key}Sha256`) || key.endsWith("Sha256");
