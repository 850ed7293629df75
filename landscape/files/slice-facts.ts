// slice.json: which directions a slice was measured along, and facts about them. The digest is that of the directions
// (measure/directions.ts): a sweep continues a slice only along the same ones.
import { existsSync } from "node:fs";
import { z } from "zod";
import { FileError, type OnDamage, RunFolderError, readJson, writeAtomic } from "../../engine/host/index.ts";
import { type SlicePlace, sliceFolder, slicePaths } from "./layout.ts";

const axisFacts = z.object({
  kind: z.string(),
  /** The norm rule. */
  norm: z.string(),
  /** What else a reader should know of it. */
  remark: z.string().optional(),
  /** ‖δ‖ over all moved parameters. */
  length: z.number(),
  /** Each group's share of ‖δ‖², from 0 to 1. */
  shares: z.record(z.string(), z.number()),
});

const scaledAxis = z.object({
  /** What the direction was multiplied by; null if no scale reaches the target. */
  scale: z.number().nullable(),
  /** KL at the edge, nats per token; without a scale the nearest that was found, null if none was a finite number. */
  kl: z.number().nullable(),
  /** The scales tried, with their KL (null if it was not a finite number). */
  passes: z.array(z.tuple([z.number(), z.number().nullable()])),
});

const fixedKl = z.object({
  /** KL asked for at the edge, nats per token. */
  target: z.number(),
  /** α or β there. */
  radius: z.number(),
  delta: scaledAxis,
  eta: scaledAxis,
});
/** How both directions were scaled to a KL at the grid's edge. */
export type FixedKl = z.infer<typeof fixedKl>;

export const sliceFacts = z.object({
  schemaVersion: z.literal(1).optional(),
  seed: z.int(),
  slice: z.int(),
  digest: z.string(),
  // Slices of earlier versions have no facts: they are Gaussian, each tensor at its own norm.
  delta: axisFacts.optional(),
  eta: axisFacts.optional(),
  /** ⟨δ, η⟩ / (‖δ‖·‖η‖). */
  cosine: z.number().optional(),
  /** The grid's centre beside the checkpoint: along δ and η in units of the radius, and along a third direction. */
  centre: z.object({ alpha: z.number(), beta: z.number(), random: z.number() }).optional(),
  /** Absent where the directions keep their norms (landscape.directions.kl is 0). */
  fixedKl: fixedKl.optional(),
});
export type SliceFacts = z.infer<typeof sliceFacts>;
export type AxisFacts = z.infer<typeof axisFacts>;

/** The facts of a slice; null if there are none, or they cannot be read, which is reported. */
export function readSliceFacts(folder: string, place: SlicePlace, onDamage: OnDamage): SliceFacts | null {
  return readFacts(slicePaths(sliceFolder(folder, place)).directions, onDamage);
}

/** As `readSliceFacts`. @param folder  the slice's */
export const factsIn = (folder: string, onDamage: OnDamage): SliceFacts | null =>
  readFacts(slicePaths(folder).directions, onDamage);

/** Whether no scale of a direction reaches the KL asked for: such a map is a gap that is known, and has no cells. */
export const isUnreached = ({ fixedKl: scaled }: SliceFacts): boolean =>
  scaled !== undefined && (scaled.delta.scale === null || scaled.eta.scale === null);

/** As `isUnreached`, of a slice's folder. */
export function isKnownGap(folder: string): boolean {
  const facts = factsIn(folder, () => {});
  return facts !== null && isUnreached(facts);
}

/** What is known of a map that is a gap; null for all others. */
export function unreachedText({ fixedKl: scaled }: SliceFacts): string | null {
  if (scaled === undefined) return null;
  const gaps = (["delta", "eta"] as const).flatMap((axis) => {
    const { scale, kl, passes } = scaled[axis];
    if (scale !== null) return [];
    const nearest = kl === null ? "no finite KL was found" : `the nearest KL was ${kl.toPrecision(3)}`;
    return [`no scale of ${axis === "delta" ? "δ" : "η"} was found in ${passes.length} passes; ${nearest}`];
  });
  if (gaps.length === 0) return null;
  return `KL ${scaled.target} at the edge (landscape.directions.kl) is not reached: ${gaps.join(", and ")}. This map is a gap`;
}

function readFacts(path: string, onDamage: OnDamage): SliceFacts | null {
  if (!existsSync(path)) return null;
  try {
    return readJson(path, sliceFacts);
  } catch (thrown) {
    if (!(thrown instanceof FileError)) throw thrown;
    onDamage(`${thrown.message} The measurements do not need it, but the slice's directions are not known.`);
    return null;
  }
}

/** Writes the facts of a slice. @param folder  the slice's */
export function writeFacts(folder: string, facts: SliceFacts): void {
  writeAtomic(slicePaths(folder).directions, `${JSON.stringify(facts)}\n`);
}

/**
 * Refuses to continue a slice along other directions than it was begun with.
 * @param folder    the slice's
 * @param onDamage  told if slice.json cannot be read; the directions then are those of the same settings
 * @throws RunFolderError naming both
 */
export function expectSameDirections(folder: string, now: SliceFacts, onDamage: OnDamage): void {
  const path = slicePaths(folder).directions;
  const before = readFacts(path, onDamage);
  if (before === null || before.digest === now.digest) return;
  throw new RunFolderError(
    `${path}: this slice was measured along other directions:\n  before: ${describe(before)}\n  now:    ${describe(now)}\n` +
      "Settings, files, checkpoints or completions that a direction is made from have changed. Restore them, or measure in " +
      "another folder (--out).",
  );
}

function describe({ delta, eta, seed, digest }: SliceFacts): string {
  const axis = (name: string, facts: AxisFacts | undefined): string =>
    facts === undefined ? `${name} gaussian` : `${name} ${axisText(facts)}`;
  return `${axis("δ", delta)}; ${axis("η", eta)}; seed ${seed}; digest ${digest.slice(0, 12)}…`;
}

const ruleTexts: Readonly<Record<string, string>> = {
  tensor: "norm per tensor",
  global: "global norm",
  row: "norm per row",
  "used-row": "norm per used row",
  none: "as it is",
};

/** "gaussian, norm per tensor" */
export function axisText({ kind, norm, remark }: AxisFacts): string {
  return [kind, ruleTexts[norm] ?? norm, ...(remark === undefined ? [] : [remark])].join(", ");
}

/** Where the grid's centre is, in words; null if it is the checkpoint. */
export function centreText({ centre }: SliceFacts): string | null {
  if (centre === undefined) return null;
  const parts = [
    ...(centre.alpha !== 0 ? [`${centre.alpha} × the radius along δ`] : []),
    ...(centre.beta !== 0 ? [`${centre.beta} × the radius along η`] : []),
    ...(centre.random !== 0 ? [`${centre.random} of each tensor's norm along a third, random direction`] : []),
  ];
  return parts.length === 0 ? null : parts.join(" and ");
}

/** "Scaled to KL 0.1 at the edge: δ × 1.42 (KL 0.0992, 2 passes), η × …"; null without a target. */
export function fixedKlText({ fixedKl: scaled }: SliceFacts): string | null {
  if (scaled === undefined) return null;
  const axis = ({ scale, kl, passes }: FixedKl["delta"]): string =>
    scale === null
      ? "not reached"
      : `× ${scale.toPrecision(3)} (KL ${kl?.toPrecision(3)}, ${passes.length} ${passes.length === 1 ? "pass" : "passes"})`;
  return `Scaled to KL ${scaled.target} at the edge: δ ${axis(scaled.delta)}, η ${axis(scaled.eta)}`;
}

/** One line for the terminal. */
export function directionLine(step: number, facts: SliceFacts): string {
  const { slice, delta, eta, cosine, seed } = facts;
  if (delta === undefined || eta === undefined || cosine === undefined)
    return `Step ${step}, slice ${slice}: seed ${seed}`;
  const shares = ({ shares }: AxisFacts): string =>
    Object.entries(shares)
      .map(([group, share]) => `${group} ${(100 * share).toFixed(1)}%`)
      .join(", ");
  const isAlike = JSON.stringify(delta.shares) === JSON.stringify(eta.shares) || shares(delta) === shares(eta);
  const centre = centreText(facts);
  const scaled = fixedKlText(facts);
  return (
    `Step ${step}, slice ${slice}: δ ${axisText(delta)}; η ${axisText(eta)}; cosine ${cosine.toFixed(4)}. ` +
    (isAlike
      ? `Shares of ‖δ‖² and ‖η‖²: ${shares(delta)}.`
      : `Shares of ‖δ‖²: ${shares(delta)}; of ‖η‖²: ${shares(eta)}.`) +
    (centre === null ? "" : ` The grid's centre is beside the checkpoint: ${centre}.`) +
    (scaled === null ? "" : ` ${scaled}.`)
  );
}
