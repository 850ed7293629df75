// From the files of rays and lines to their statistics, and landscape/rays.json. Needs no GPU.
import { existsSync } from "node:fs";
import { FileError, type OnDamage, writeAtomic } from "../../../engine/host/index.ts";
import { ShapeError } from "../../../engine/index.ts";
import type { CellRecord, ReferenceSet } from "../../files/cells.ts";
import {
  fixedKlFolder,
  freshFolder,
  lineFolder,
  raysFolder,
  raysSummaryPath,
  worstFolder,
} from "../../files/layout.ts";
import {
  type RayFiles,
  readFreshPoints,
  readRayPoints,
  readScales,
  readWorstFacts,
  type ScaleRecord,
} from "../../files/ray-files.ts";
import { linesFrom, ownCheckpoints, radiiOf, signsOf, worstRaysOf } from "../../ray-settings.ts";
import type { StudySettings } from "../../settings.ts";
import { type DensityRow, densityRows, improvingPoints } from "./density.ts";
import { type LineStatistics, lineStatistics } from "./line-statistics.ts";
import { type RayField, rayField } from "./ray-field.ts";
import {
  type FixedKlStatistics,
  fixedKlStatistics,
  type RadiusStatistics,
  radiusStatistics,
} from "./ray-statistics.ts";
import { type WorstStatistics, worstStatistics } from "./worst-statistics.ts";

/** Increases when a field changes its meaning or is removed. */
export const RAYS_SCHEMA_VERSION = 1;

/** A half of a ray that no scale brings to a KL. */
export type UnreachedKl = Pick<ScaleRecord, "ray" | "sign" | "target" | "kl">;

/** What rays and lines say of one checkpoint; a part that is not measured is null or empty. */
export interface RayCheckpoint {
  readonly step: number;
  readonly prompts: { readonly rollouts: number; readonly reference: number };
  readonly rays: number;
  readonly radii: RadiusStatistics | null;
  readonly fixedKl:
    | (FixedKlStatistics & { readonly unreached: readonly UnreachedKl[]; readonly passes: Passes })
    | null;
  /** Density of improving neighbours, by radius; empty without rays. */
  readonly density: readonly DensityRow[];
  /** Worst-case rays that have points. */
  readonly worst: readonly WorstStatistics[];
  readonly lines: readonly LineStatistics[];
}

/** Scoring passes for one target on one half of a ray. */
export interface Passes {
  readonly mean: number;
  readonly most: number;
}

/**
 * Reads what is measured, and writes landscape/rays.json if there is anything.
 * @param gap  told what is missing, in a sentence
 */
export function summariseRays(
  folder: string,
  settings: StudySettings,
  say: OnDamage,
  gap: (sentence: string) => void,
): RayCheckpoint[] {
  const found = settings.landscape.steps.flatMap((step) => checkpointOf(folder, step, settings, say, gap) ?? []);
  if (found.length > 0)
    writeAtomic(
      raysSummaryPath(folder),
      `${JSON.stringify({ schemaVersion: RAYS_SCHEMA_VERSION, checkpoints: found }, null, 1)}\n`,
    );
  return found;
}

function checkpointOf(
  folder: string,
  step: number,
  settings: StudySettings,
  say: OnDamage,
  gap: (sentence: string) => void,
): RayCheckpoint | null {
  const { landscape } = settings;
  const { rays, line } = landscape;
  const lines = linesFrom(step, line, ownCheckpoints(settings));
  if (rays.count === 0 && lines.length === 0) return null;
  const shape = { rays: rays.count, signs: signsOf(rays) };
  const read = (own: string, whole: number, what: string): RayFiles | null => {
    const files = existsSync(own) ? readRayPoints(folder, own, step, say) : null;
    const count = files?.cells.length ?? 0;
    if (count < whole) gap(`Step ${step}, ${what}: ${count} of ${whole} points are measured.`);
    return files;
  };
  try {
    const radii = radiiOf(rays);
    const whole = 1 + rays.count * shape.signs.length * radii.length;
    const atRadii = rays.count === 0 ? null : read(raysFolder(folder, step), whole, "rays");
    const field = atRadii && rayField(atRadii.cells, atRadii.reference, { ...shape, positions: radii });
    const fixedKl = field && fixedKlOf(folder, step, landscape, field, say, gap);
    const reference = atRadii?.reference;
    return {
      step,
      prompts: { rollouts: field?.origin.reward.length ?? 0, reference: reference?.tokens.length ?? 0 },
      rays: rays.count,
      radii: field && radiusStatistics(field),
      fixedKl,
      density: atRadii === null ? [] : densityOf(folder, step, landscape, atRadii.cells, say, gap),
      worst: field === null ? [] : worstOf(folder, step, landscape, field, say, gap),
      lines: lines.flatMap((ahead) => {
        const what = `line to step ${step + ahead}`;
        const files = read(lineFolder(folder, step, ahead), 1 + line.positions.length, what);
        return files === null ? [] : (lineStatistics(step, ahead, files, field) ?? []);
      }),
    };
  } catch (thrown) {
    if (!(thrown instanceof ShapeError)) throw thrown;
    throw new FileError(
      `${raysFolder(folder, step)}: the points do not match reference.json and config.toml: ${thrown.message} Restore the files ` +
        "from a copy.",
      { cause: thrown },
    );
  }
}

function worstOf(
  folder: string,
  step: number,
  { rays }: StudySettings["landscape"],
  field: RayField,
  say: OnDamage,
  gap: (sentence: string) => void,
): WorstStatistics[] {
  return worstRaysOf(rays).flatMap((kind): WorstStatistics[] => {
    const own = worstFolder(folder, step, kind);
    const what = `Step ${step}, worst-case ray (${kind})`;
    const facts = readWorstFacts(own);
    if (facts !== null && facts.problem !== null) {
      gap(`${what}: ${facts.problem}`);
      return [];
    }
    const files = existsSync(own) ? readRayPoints(folder, own, step, say) : null;
    const whole = 1 + radiiOf(rays).length * signsOf(rays).length;
    const measured = files?.cells.length ?? 0;
    if (measured < whole) gap(`${what}: ${measured} of ${whole} points are measured.`);
    return files === null ? [] : [worstStatistics(kind, facts?.curvatures ?? [], files, field)];
  });
}

function densityOf(
  folder: string,
  step: number,
  { rays }: StudySettings["landscape"],
  cells: readonly CellRecord[],
  say: OnDamage,
  gap: (sentence: string) => void,
): DensityRow[] {
  const fresh = rays.freshPrompts === 0 ? [] : readFreshPoints(freshFolder(folder, step), say);
  const winners = improvingPoints(cells).length;
  const again = fresh.filter(({ i }) => i >= 0).length;
  if (rays.freshPrompts > 0 && again < winners)
    gap(`Step ${step}, fresh prompts: ${again} of ${winners} improving neighbours are evaluated again.`);
  return densityRows(radiiOf(rays), cells, fresh);
}

function fixedKlOf(
  folder: string,
  step: number,
  { rays }: StudySettings["landscape"],
  field: RayField,
  say: OnDamage,
  gap: (sentence: string) => void,
): RayCheckpoint["fixedKl"] {
  const own = fixedKlFolder(folder, step);
  if (rays.kl.length === 0) return null;
  const scales = existsSync(own) ? readScales(own, say) : [];
  const wanted = rays.count * signsOf(rays).length * rays.kl.length;
  if (scales.length < wanted) gap(`Step ${step}, fixed KL: ${scales.length} of ${wanted} scales are searched.`);
  const unreached = scales.filter(({ scale }) => scale === null);
  if (unreached.length > 0)
    gap(
      `Step ${step}, fixed KL: no scale was found for ${unreached.length} of ${wanted} halves of rays with a target ` +
        `(${[...new Set(unreached.map(({ ray }) => `ray ${ray}`))].join(", ")}). These rays are left out at that target.`,
    );
  const files = existsSync(own) ? readRayPoints(folder, own, step, say) : null;
  const reached = scales.length - unreached.length;
  if ((files?.cells.length ?? 0) < reached)
    gap(`Step ${step}, fixed KL: ${files?.cells.length ?? 0} of ${reached} points are measured.`);
  const reference: ReferenceSet | undefined = files?.reference;
  if (files === null || reference === undefined) return null;
  const shape = { positions: rays.kl, rays: rays.count, signs: signsOf(rays) };
  const atKl = rayField(files.cells, reference, shape, field.origin);
  if (atKl === null) return null;
  const found = rays.kl.map((target) => scales.flatMap((one) => (one.target === target ? (one.scale ?? []) : [])));
  const passes = scales.map((one) => one.passes.length);
  return {
    ...fixedKlStatistics(atKl, found),
    unreached: unreached.map(({ ray, sign, target, kl }) => ({ ray, sign, target, kl })),
    passes: { mean: passes.reduce((sum, one) => sum + one, 0) / passes.length, most: Math.max(...passes) },
  };
}
