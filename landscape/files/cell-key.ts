// The key of a grid point's measurement: a digest of all that its record in cells.jsonl depends on. Two measurements with the
// same key were made from the same weights and settings, on the same adapter and driver, by the same version of this
// program: then their bits are equal. What the key cannot see are changes to a checkout that are not committed, and faults of
// a machine. So merging compares cells that two shards have, and `landscape/verify.ts` measures cells again.
import { createHash } from "node:crypto";
import { settingValue } from "../../engine/host/index.ts";
import type { Provenance } from "../../rl/index.ts";
import { isBeside, isFixedKl } from "../direction-settings.ts";
import { type StudySettings, studySettings } from "../settings.ts";

/**
 * Settings of the grid and of how much is measured: they decide which keys there are, and are in no key. A centre beside the
 * checkpoint is in units of the radius, which is then in the key; so it is where directions are scaled to a KL at the edge.
 */
const extent = new Set(
  ["steps", "slices", "points", "radius", "simulations", "noiseFloor", "pairs", "klFrom", "updates.rank"].map(
    (name) => `landscape.${name}`,
  ),
);
/** Of the training's settings, those that the objective J at a grid point depends on. */
const ofObjective = new Set(["train.clipLow", "train.clipHigh", "train.advantageEpsilon"]);

export interface CellPlace {
  /** The number of a map; or the name of rays or of a line, with the number of the ray. */
  slice: number | string;
  alpha: number;
  beta: number;
}

/** What all keys of one study have in common. */
export interface KeyContext {
  settings: StudySettings;
  origin: Pick<Provenance, "adapter" | "foothold" | "gitRevision" | "products" | "files">;
}

/**
 * SHA-256, in hexadecimal digits, over the JSON of
 * - `checkpoint`: the digest of the checkpoint's files (`modelDigest`);
 * - `slice`, and `cell`: alpha and beta as the digits that read back to the same bits. The indices (i, j) are left out,
 *   so a key stays the same on a finer or larger grid that has the same point;
 * - `settings`: every setting that the measurement depends on. They give the directions' seed, the prompts (environment,
 *   seed, numbers), the sampling (seed, lengths, rollouts), the precision, and clipping and advantages of J;
 * - `files`: digests of the environment's files;
 * - `plan`: the order of sums in matrix products, the adapter with its driver, and the program's version and revision,
 *   since results of two drivers or versions may differ in their last bits.
 * @param checkpoint  its digest
 */
export function cellKey({ settings, origin }: KeyContext, checkpoint: string, place: CellPlace): string {
  const { adapter, foothold, gitRevision, products, files } = origin;
  const key = {
    checkpoint,
    slice: place.slice,
    cell: [String(place.alpha), String(place.beta)],
    settings: measuredSettings(settings),
    files: Object.entries(files)
      .map(([name, { sha256 }]) => [name, sha256])
      .sort(([one], [other]) => (one < other ? -1 : 1)),
    plan: { order: products.order, adapter, foothold, gitRevision },
  };
  return createHash("sha256").update(JSON.stringify(key)).digest("hex");
}

/** The settings that a measurement around a given checkpoint depends on, by key. */
function measuredSettings(settings: StudySettings): [string, unknown][] {
  return [...studySettings.byKey]
    .filter(([key, setting]) => {
      const { centre, directions } = settings.landscape;
      const isExtent = extent.has(key) && !(key === "landscape.radius" && (isBeside(centre) || isFixedKl(directions)));
      if (setting.isFree || isExtent || !studySettings.applies(key, settings)) return false;
      // Paths of the environment's files are not compared: their digests are.
      if (key.startsWith("environment.")) return !isPath(key);
      return key.startsWith("landscape.") || ofObjective.has(key);
    })
    .map(([key]) => [key, settingValue(settings, key)]);
}

const isPath = (key: string): boolean => studySettings.byKey.has(`${key}Sha256`) || key.endsWith("Sha256");
