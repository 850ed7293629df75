// How long a direction is. A rule scales the numbers d of a direction to the norms of the weights W that move:
//   tensor    δ_W = d_W · ‖W‖ / ‖d_W‖
//   global    δ = d · ‖θ‖ / ‖d‖, over all moved tensors together
//   row       each row r of a matrix: δ_r = d_r · ‖W_r‖ / ‖d_r‖; a vector is one row
//   used-row  as row; rows of embedding and head that no token of the task uses do not move
//   none      δ = d
// Where weights or direction are zero, the factor is 0. Gaussians of the rules tensor, global and none stay counters;
// others are tensors. Source of tensor and row: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets".
import {
  addDirection,
  empty,
  norm,
  normOfDirection,
  type ParameterArena,
  rowProducts,
  SettingsError,
  scaleRows,
  scope,
  type Tensor,
  type WordPair,
  wordsOf,
} from "../../../engine/index.ts";
import type { NormRule } from "../../direction-settings.ts";
import {
  allocateDirection,
  type Direction,
  freeDirection,
  innerProducts,
  sumOf,
  type TensorDirection,
  writeUnscaled,
} from "./direction.ts";

/** A direction before its norm rule: a Gaussian's key, or a function that writes the numbers of one tensor. */
export type RawDirection =
  | { readonly key: WordPair }
  | { readonly key: null; write(name: string, into: Tensor): void | Promise<void> };

/** A direction and ‖·‖² of each of its tensors. */
export interface ScaledDirection {
  readonly direction: Direction;
  readonly squares: ReadonlyMap<string, number>;
}

export interface NormContext {
  readonly arena: ParameterArena;
  /** The tensors that move. */
  readonly names: readonly string[];
  /** Whether a row of a tensor is read by the task; absent if all are. */
  isUsed?(name: string, row: number): boolean;
  readonly signal?: AbortSignal;
  /** The axis, for messages. */
  readonly label: string;
}

/** @throws SettingsError when the direction is zero, or holds numbers that are not finite */
export async function scaleDirection(
  raw: RawDirection,
  rule: NormRule,
  context: NormContext,
): Promise<ScaledDirection> {
  const { arena, names, signal, label } = context;
  const direction = new Map<string, TensorDirection>();
  const lengths = new Map<string, { weight: number; own: number }>();
  try {
    for (const name of names) {
      signal?.throwIfAborted();
      const weight = arena.value(name);
      const length = await norm(weight);
      if (raw.key !== null && rule !== "row" && rule !== "used-row") {
        direction.set(name, { kind: "gaussian", key: raw.key, scale: 1 });
        lengths.set(name, { weight: length, own: await normOfDirection(weight, raw.key, wordsOf(name)) });
        continue;
      }
      const tensor = allocateDirection(arena, name);
      direction.set(name, { kind: "explicit", tensor, scale: 1 });
      if (raw.key === null) await raw.write(name, tensor);
      else writeUnscaled(name, { kind: "gaussian", key: raw.key, scale: 1 }, tensor);
      const squares = await rowProducts(tensor, tensor);
      expectFinite(label, name, squares);
      if (rule !== "row" && rule !== "used-row") {
        lengths.set(name, { weight: length, own: Math.sqrt(sumOf(squares)) });
        continue;
      }
      const factors = await rowFactors(weight, squares, length);
      if (rule === "used-row" && context.isUsed !== undefined)
        for (let row = 0; row < factors.length; row++) if (!context.isUsed(name, row)) factors[row] = 0;
      await scaleRows(tensor, factors);
      lengths.set(name, { weight: length, own: Math.sqrt(sumOf(await rowProducts(tensor, tensor))) });
    }
    return applyRule(rule, direction, lengths, label);
  } catch (thrown) {
    freeDirection(direction);
    throw thrown;
  }
}

/** The factor of each row; a vector is one row. */
async function rowFactors(weight: Tensor, squares: ArrayLike<number>, length: number): Promise<Float64Array> {
  const ratio = (one: number, own: number): number => (own === 0 ? 0 : one / own);
  if (weight.shape.length < 2) return new Float64Array(squares.length).fill(ratio(length, Math.sqrt(sumOf(squares))));
  const ofWeight = await rowProducts(weight, weight);
  return Float64Array.from({ length: squares.length }, (_, row) => Math.sqrt(ratio(ofWeight[row], squares[row])));
}

function applyRule(
  rule: NormRule,
  direction: ReadonlyMap<string, TensorDirection>,
  lengths: ReadonlyMap<string, { readonly weight: number; readonly own: number }>,
  label: string,
): ScaledDirection {
  const total = (of: "weight" | "own"): number => Math.sqrt(sumOf([...lengths.values()].map((one) => one[of] ** 2)));
  const own = total("own");
  if (own === 0) refuseZero(label);
  const factorOf = (one: { readonly weight: number; readonly own: number }): number => {
    switch (rule) {
      case "tensor":
        // A tensor of zeros has no scale of its own and stays as it is.
        return one.weight === 0 || one.own === 0 ? 0 : one.weight / one.own;
      case "global":
        return total("weight") / own;
      default:
        return 1;
    }
  };
  const scaled = new Map<string, TensorDirection>();
  const squares = new Map<string, number>();
  for (const [name, one] of direction) {
    const length = lengths.get(name);
    if (length === undefined) continue;
    const scale = factorOf(length);
    scaled.set(name, { ...one, scale });
    squares.set(name, (scale * length.own) ** 2);
  }
  return { direction: scaled, squares };
}

function refuseZero(label: string): never {
  throw new SettingsError(
    `landscape.directions.${label}: the direction is 0 in every parameter that moves. Choose another kind, or other groups.`,
  );
}

/**
 * Refuses, before any work, a file whose numbers make no direction.
 * @param label  the axis, for messages
 * @throws SettingsError when all numbers of these tensors are 0, or one is not finite
 */
export async function expectDirection(
  file: { read(name: string): Promise<ArrayLike<number>> },
  names: readonly string[],
  label: string,
): Promise<void> {
  let sum = 0;
  for (const name of names) {
    const values = await file.read(name);
    let squares = 0;
    for (let i = 0; i < values.length; i++) squares += values[i] ** 2;
    expectFinite(label, name, [Math.fround(squares)]);
    sum += squares;
  }
  if (sum === 0) refuseZero(label);
}

function expectFinite(label: string, name: string, squares: ArrayLike<number>): void {
  if (Array.from(squares).every(Number.isFinite)) return;
  throw new SettingsError(
    `landscape.directions.${label}: ${name} has a number that is not finite, or is above 1e19. A direction needs finite numbers.`,
  );
}

/**
 * η made orthogonal to δ over all moved parameters: η′ = η − δ·⟨δ, η⟩/⟨δ, δ⟩, then scaled to ‖η‖. All of η′ is on the
 * device; tensors of η are changed in place.
 * @param isRehearsal  whether no number is real: memory is planned
 * @throws SettingsError when the two are parallel to within f32
 */
export async function orthogonalise(
  arena: ParameterArena,
  delta: ScaledDirection,
  eta: ScaledDirection,
  isRehearsal: boolean,
): Promise<ScaledDirection> {
  const products = await innerProducts(arena, delta.direction, eta.direction);
  const share = sumOf(products.values()) / sumOf(delta.squares.values());
  const made = new Map<string, TensorDirection & { readonly kind: "explicit" }>();
  const squares = new Map<string, number>();
  for (const [name, own] of eta.direction) {
    const tensor = own.kind === "explicit" ? own.tensor : allocateDirection(arena, name);
    made.set(name, { kind: "explicit", tensor, scale: 1 });
    writeUnscaled(name, own, tensor);
    await scaleRows(tensor, new Float64Array(tensor.rows).fill(own.scale));
    const other = delta.direction.get(name);
    if (other !== undefined)
      scope(() => {
        const room = empty(arena.backend, tensor.shape, tensor.dtype, "direction");
        addDirection(tensor, writeUnscaled(name, other, room), -share * other.scale);
      });
    squares.set(name, sumOf(await rowProducts(tensor, tensor)));
  }
  const [before, after] = [eta.squares, squares].map((all) => Math.sqrt(sumOf(all.values())));
  if (!isRehearsal && after < 1e-4 * before) {
    freeDirection(made);
    throw new SettingsError(
      "landscape.directions: delta and eta are parallel, so nothing is left of eta that is orthogonal to delta. Choose " +
        "another kind for one of them.",
    );
  }
  const scale = after === 0 ? 0 : before / after;
  return {
    direction: new Map([...made].map(([name, one]) => [name, { ...one, scale }])),
    squares: new Map([...squares].map(([name, square]) => [name, scale ** 2 * square])),
  };
}
