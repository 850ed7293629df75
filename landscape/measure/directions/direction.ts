// A direction in weight space: for each tensor that moves, a Gaussian that is drawn again from its counters, or a tensor on
// the device, and a factor. All else about directions (kinds, norms, angles) makes or reads this form.
import {
  type DirectionStep,
  empty,
  keep,
  memoryLabel,
  type ParameterArena,
  rowProducts,
  scopeAsync,
  type Tensor,
  type WordPair,
  wordsOf,
  writeNormals,
} from "../../../engine/index.ts";

/** The direction of one tensor: `scale` times a Gaussian, or times a tensor of the weight's shape. */
export type TensorDirection =
  | { readonly kind: "gaussian"; readonly key: WordPair; readonly scale: number }
  | { readonly kind: "explicit"; readonly tensor: Tensor; readonly scale: number };

/** A direction by names of tensors. A tensor without an entry does not move. */
export type Direction = ReadonlyMap<string, TensorDirection>;

/** A step of `coefficient` along the direction of one tensor, in the form that the kernels take. */
export function stepOf(direction: TensorDirection | undefined, coefficient: number): DirectionStep[] {
  if (direction === undefined) return [];
  const scaled = { coefficient: coefficient * direction.scale };
  return direction.kind === "gaussian"
    ? [{ kind: "gaussian", key: direction.key, ...scaled }]
    : [{ kind: "explicit", tensor: direction.tensor, ...scaled }];
}

/** A tensor on the device for the direction of a weight, in the weight's dtype. The caller frees it. */
export function allocateDirection(arena: ParameterArena, name: string): Tensor {
  return keep(empty(arena.backend, arena.value(name).shape, arena.dtype, memoryLabel("directions", name)));
}

/** Writes a direction's numbers, without its factor. */
export function writeUnscaled(name: string, direction: TensorDirection, into: Tensor): Tensor {
  if (direction.kind === "explicit") return direction.tensor;
  writeNormals(into, direction.key, wordsOf(name));
  return into;
}

/** ⟨δ, η⟩ of each tensor that both move. Gaussians are written into memory that is freed after each tensor. */
export async function innerProducts(
  arena: ParameterArena,
  one: Direction,
  other: Direction,
): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const [name, left] of one) {
    const right = other.get(name);
    if (right === undefined) continue;
    const products = await scopeAsync(async () => {
      const { shape } = arena.value(name);
      const room = (): Tensor => empty(arena.backend, shape, arena.dtype, "direction");
      return rowProducts(writeUnscaled(name, left, room()), writeUnscaled(name, right, room()));
    });
    found.set(name, left.scale * right.scale * sumOf(products));
  }
  return found;
}

export function sumOf(values: Iterable<number> | ArrayLike<number>): number {
  let sum = 0;
  for (const value of Array.from(values)) sum += value;
  return sum;
}

export function freeDirection(direction: Direction): void {
  for (const one of direction.values()) if (one.kind === "explicit") one.tensor.free();
}
