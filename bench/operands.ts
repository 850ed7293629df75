// The parts of benchmark cases: operands whose elements are a function of their index, so that a check computes some
// elements again without reading anything back; comparison of some elements; and a backward pass that can be repeated.
import { type GradientStore, record } from "../engine/autograd.ts";
import type { Backend } from "../engine/backends/backend.ts";
import { scope, scopeAsync } from "../engine/scope.ts";
import { empty, fromArray, type Shape, sizeOf, type Tensor } from "../engine/tensor.ts";
import type { BenchWork } from "./harness.ts";

export interface Operand {
  tensor: Tensor;
  /** Its element at an index, rounded to f32 as in the tensor. */
  at: (place: number) => number;
}

/** Pseudo-random numbers in [low, high). */
export function operand(backend: Backend, shape: Shape, seed: number, [low, high] = [-1, 1]): Operand {
  const at = (place: number): number => Math.fround(low + (high - low) * unit(place, seed));
  return {
    tensor: fromArray(
      backend,
      Float32Array.from({ length: sizeOf(shape) }, (_, place) => at(place)),
      shape,
    ),
    at,
  };
}

/** A number in [0, 1) for each seed and index. It has 24 bits, so it is exact in f32. */
export function unit(place: number, seed: number): number {
  let x = Math.imul(place + 1, 2654435761) ^ Math.imul(seed, 2246822519);
  x = Math.imul(x ^ (x >>> 15), 3266489917);
  x ^= x >>> 13;
  return (x >>> 8) / 2 ** 24;
}

/** Indices of the compared elements of a result: spread over it, including the first and the last. */
const compared = 500;

/**
 * Compares some elements of a result with their expected values.
 * @param tolerance  of the largest expected value among them
 * @param places     how many are compared; choose fewer if an expected value takes long to compute
 * @throws Error that names the element
 */
export async function expectSome(
  what: string,
  result: Tensor,
  expected: (place: number) => number,
  tolerance = 2e-5,
  places = compared,
): Promise<void> {
  const found = await result.read();
  const step = Math.max(1, (found.length - 1) / (places - 1));
  const wanted: [place: number, value: number][] = [];
  for (let i = 0; i * step < found.length; i++) {
    const place = Math.round(i * step);
    if (place < found.length) wanted.push([place, expected(place)]);
  }
  const scale = Math.max(...wanted.map(([, value]) => Math.abs(value)));
  // This form makes NaN fail.
  for (const [place, value] of wanted)
    if (!(Math.abs(found[place] - value) <= tolerance * scale))
      throw new Error(`${what}: element ${place} of [${result.shape}]: expected ${value}, got ${found[place]}`);
}

/**
 * Repeats the backward pass of one op or of a whole layer on one recording.
 * @param leaves   the tensors that get a gradient
 * @param forward  from the leaves to the result
 * @param upstream the gradient of the result, of its shape
 * @param check    given the gradients, by the names of the leaves
 */
export function backwardWork<Name extends string>(
  leaves: Record<Name, Tensor>,
  forward: () => Tensor,
  upstream: Tensor,
  check: (gradients: Record<Name, Tensor>) => Promise<void>,
): BenchWork {
  const named = Object.entries<Tensor>(leaves);
  for (const [, leaf] of named) leaf.requiresGradient = true;
  const recording = record(forward);
  const gradients = Object.fromEntries(named.map(([name, leaf]) => [name, empty(leaf.backend, leaf.shape)])) as Record<
    Name,
    Tensor
  >;
  const targets = new Map(
    named.map(([name, leaf]) => [leaf, Object.entries<Tensor>(gradients).find(([n]) => n === name)?.[1]]),
  );
  const store: GradientStore = { target: (leaf) => targets.get(leaf), has: () => false, mark: () => {} };
  const seeds = new Map([[recording.result, upstream]]);
  return { run: () => recording.backward(seeds, store), check: () => check(gradients) };
}

/**
 * A forward pass whose result is freed at once.
 * @param check  called with the result of one further run
 */
export function forwardWork(call: () => Tensor, check: (result: Tensor) => Promise<void>): BenchWork {
  return { run: () => scope(() => void call()), check: () => scopeAsync(() => check(call())) };
}
