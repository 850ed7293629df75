// The two directions δ and η of a slice. Usually each tensor gets a Gaussian g of its own, generated from seed, slice and
// tensor name, and scaled to the tensor's norm: δ_W = g · ‖W‖ / ‖g‖. These Gaussians are not stored: they are computed again
// from their counters whenever they are needed. Other kinds of direction are tensors on the device (directions/kinds.ts).
// A tied embedding is one tensor, so it is perturbed once. docs/directions.md tells what a study can choose.
import { createHash } from "node:crypto";
import { type DirectionStep, type ParameterArena, philox, philoxKey, wordsOf } from "../../engine/index.ts";
import { type LanguageModel, parameterShapes } from "../../model/index.ts";
import {
  areUsual,
  axisIdentity,
  type CentreSettings,
  isBeside,
  isFixedKl,
  type ParameterGroup,
} from "../direction-settings.ts";
import type { StudySettings } from "../settings.ts";
import { type Direction, freeDirection, innerProducts, stepOf, sumOf } from "./directions/direction.ts";
import { groupsOf, movedNames } from "./directions/groups.ts";
import { DirectionSources, type SourceContext } from "./directions/kinds.ts";
import { expectDirection, orthogonalise, type ScaledDirection, scaleDirection } from "./directions/norm-rules.ts";
import { openStateDict } from "./directions/state-dict.ts";

/** The two directions of one slice, and where its grid is. */
export interface Slice {
  readonly seed: number;
  readonly slice: number;
  readonly delta: Direction;
  readonly eta: Direction;
  /** The grid's centre: θ + third + alpha·δ + beta·η, with `third` a direction of coefficient 1; null for none. */
  readonly centre: { readonly alpha: number; readonly beta: number; readonly third: Direction | null };
  /**
   * SHA-256 over names, shapes and the first words of each tensor's streams: the same on any machine. Directions of other
   * kinds, norms, groups or centres have another: it covers these settings, and what the numbers were computed from.
   */
  readonly digest: string;
  /** Frees the tensors of the directions. */
  free(): void;
}

/** The steps from a tensor of the checkpoint to that of a grid point: to the grid's centre, along δ, along η. */
export function stepsTo(
  { alpha, beta }: { readonly alpha: number; readonly beta: number },
  { delta, eta, centre }: Pick<Slice, "delta" | "eta" | "centre">,
  name: string,
): DirectionStep[] {
  return [
    ...stepOf(centre.third?.get(name), 1),
    ...stepOf(delta.get(name), centre.alpha + alpha),
    ...stepOf(eta.get(name), centre.beta + beta),
  ];
}

/** Two Gaussian directions, each tensor at its own norm. @param signal  checked between two tensors */
export async function makeSlice(
  arena: ParameterArena,
  seed: number,
  slice: number,
  signal?: AbortSignal,
): Promise<Slice> {
  const label = `direction|${seed}|${slice}`;
  const scaled = (axis: string): Promise<ScaledDirection> =>
    scaleDirection({ key: philoxKey(`${label}|${axis}`) }, "tensor", {
      arena,
      names: arena.names,
      signal,
      label: axis,
    });
  const { direction: delta } = await scaled("delta");
  const { direction: eta } = await scaled("eta");
  const centre = { alpha: 0, beta: 0, third: null };
  return { seed, slice, delta, eta, centre, digest: digestOf(arena, delta, eta, null), free: () => {} };
}

/** What directions of any kind are made from. */
export interface DirectionJob extends Omit<SourceContext, "names" | "settings"> {
  readonly settings: StudySettings;
  readonly slice: number;
  /** Ids of the task's tokens, for the norm rule used-row. */
  readonly usedIds?: ReadonlySet<number>;
}

/** Facts about a slice's directions, for people: printed, kept in slice.json, and shown in the report. */
export interface DirectionFacts {
  readonly delta: AxisFacts;
  readonly eta: AxisFacts;
  /** ⟨δ, η⟩ / (‖δ‖·‖η‖) over all moved parameters. */
  readonly cosine: number;
  readonly centre: CentreSettings;
}

export interface AxisFacts {
  readonly kind: string;
  readonly norm: string;
  /** "61.2% of the variance of 7 checkpoints"; absent if there is nothing to say. */
  readonly remark?: string;
  /** ‖δ‖ over all moved parameters. */
  readonly length: number;
  /** Each group's share of ‖δ‖², from 0 to 1; a group that does not move is absent. */
  readonly shares: Readonly<Partial<Record<ParameterGroup, number>>>;
}

/**
 * The directions that a study's settings ask for.
 * @throws SettingsError, CheckpointError or NumericalError when a direction is zero, not finite, parallel to the other, or its
 *         file or checkpoint does not fit
 */
export async function makeDirections(job: DirectionJob): Promise<Slice & { readonly facts: DirectionFacts }> {
  const { arena, config, settings, slice, place, signal, isRehearsal = false } = job;
  const { seed, directions, centre, radius } = settings.landscape;
  const groups = groupsOf(config);
  const names = movedNames(groups, directions);
  const label = `direction|${seed}|${slice}${directions.noise === "shared" ? "" : `|step-${place.step}`}`;
  const sources = new DirectionSources({ ...job, names });
  const made: Direction[] = [];
  try {
    const isUsed = usedRows(job, groups);
    const scaledOf = async (axis: "delta" | "eta") => {
      const source = await sources.open(axis, directions[axis], label);
      const context = { arena, names, isUsed, signal, label: axis };
      const scaled = await scaleDirection(source.raw, directions[axis].norm, context);
      made.push(scaled.direction);
      return { source, scaled };
    };
    const delta = await scaledOf("delta");
    const eta = await scaledOf("eta");
    if (directions.orthogonal) {
      made.pop();
      eta.scaled = await orthogonalise(arena, delta.scaled, eta.scaled, isRehearsal);
      made.push(eta.scaled.direction);
    }
    const third = await thirdDirection(job, names, label);
    const origins = [delta, eta].map(({ source }) => source.origin);
    const given = areUsual(directions, centre) ? null : identityOf(label, settings.landscape, origins);
    const both = { delta: delta.scaled.direction, eta: eta.scaled.direction };
    const products = await innerProducts(arena, both.delta, both.eta);
    const lengths = [delta, eta].map(({ scaled }) => Math.sqrt(sumOf(scaled.squares.values())));
    const axisFacts = (axis: "delta" | "eta", { source, scaled }: typeof delta): AxisFacts => ({
      ...{ kind: directions[axis].kind, norm: directions[axis].norm },
      ...(source.remark !== undefined && { remark: source.remark }),
      length: Math.sqrt(sumOf(scaled.squares.values())),
      shares: sharesOf(scaled.squares, groups),
    });
    return {
      ...{ seed, slice, ...both },
      centre: { alpha: centre.alpha * radius, beta: centre.beta * radius, third },
      digest: digestOf(arena, both.delta, both.eta, given),
      facts: {
        delta: axisFacts("delta", delta),
        eta: axisFacts("eta", eta),
        cosine: sumOf(products.values()) / (lengths[0] * lengths[1]),
        centre,
      },
      free: () => made.forEach(freeDirection),
    };
  } catch (thrown) {
    made.forEach(freeDirection);
    throw thrown;
  } finally {
    await sources.close();
  }
}

/**
 * Refuses what can be known to be wrong before any work: groups and names that move nothing, a file that does not fit, or whose
 * numbers are all 0 or not finite.
 * @throws SettingsError, CheckpointError
 */
export async function expectDirections(
  config: LanguageModel,
  { directions }: StudySettings["landscape"],
): Promise<void> {
  const names = movedNames(groupsOf(config), directions);
  const shapes = parameterShapes(config);
  const moved = new Map(names.map((name) => [name, shapes.get(name) ?? []]));
  for (const axis of ["delta", "eta"] as const) {
    const { kind, file } = directions[axis];
    if (kind !== "file") continue;
    const opened = await openStateDict(file, moved, `landscape.directions.${axis}.file`);
    try {
      await expectDirection(opened, names, axis);
    } finally {
      await opened.close();
    }
  }
}

/** The Gaussian direction along which the grid's centre is beside the checkpoint, at its length. */
async function thirdDirection(
  { arena, settings, signal }: DirectionJob,
  names: readonly string[],
  label: string,
): Promise<Direction | null> {
  const { random } = settings.landscape.centre;
  if (random === 0) return null;
  const context = { arena, names, signal, label: "centre" };
  const { direction } = await scaleDirection({ key: philoxKey(`${label}|centre`) }, "tensor", context);
  return new Map([...direction].map(([name, one]) => [name, { ...one, scale: random * one.scale }]));
}

/** Rows of embedding and head whose token the task uses; all rows of other tensors. */
function usedRows(
  { usedIds }: DirectionJob,
  groups: ReadonlyMap<string, ParameterGroup>,
): (name: string, row: number) => boolean {
  return (name, row) => groups.get(name) !== "embedding" || usedIds === undefined || usedIds.has(row);
}

function sharesOf(
  squares: ReadonlyMap<string, number>,
  groups: ReadonlyMap<string, ParameterGroup>,
): Partial<Record<ParameterGroup, number>> {
  const total = sumOf(squares.values());
  const shares: Partial<Record<ParameterGroup, number>> = {};
  for (const [name, square] of squares) {
    const group = groups.get(name);
    if (group !== undefined) shares[group] = (shares[group] ?? 0) + square / total;
  }
  return shares;
}

/** What distinguishes a slice of unusual directions: settings and the origin of its numbers, but no path. */
function identityOf(
  label: string,
  { directions, centre, radius }: StudySettings["landscape"],
  origins: readonly (readonly string[])[],
): string {
  const { groups, leaveOut, noise, orthogonal, kl, delta, eta } = directions;
  const axes = [delta, eta].map((axis, i) => ({ ...axisIdentity({ ...axis, file: "" }), origin: origins[i] }));
  const place = isBeside(centre) ? { ...centre, radius } : null;
  return JSON.stringify({
    label,
    axes,
    groups: [...groups].sort(),
    leaveOut: [...leaveOut].sort(),
    noise,
    orthogonal,
    place,
    ...(isFixedKl(directions) && { fixedKl: { kl, radius } }),
  });
}

function digestOf(arena: ParameterArena, delta: Direction, eta: Direction, identity: string | null): string {
  const digest = createHash("sha256");
  if (identity !== null) digest.update(`${identity}\n`);
  for (const name of arena.names) {
    const nameWords = wordsOf(name);
    const wordsAt = (direction: Direction): string => {
      const one = direction.get(name);
      if (one === undefined) return "fixed";
      return one.kind === "gaussian" ? philox([0, 0, ...nameWords], one.key).join(" ") : "tensor";
    };
    digest.update(`${name} [${arena.value(name).shape}] ${wordsAt(delta)} ${wordsAt(eta)}\n`);
  }
  return digest.digest("hex");
}
