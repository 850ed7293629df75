// Gradients against central differences, both in float64: does the slope of Σ output · seed along a direction equal the
// gradient's part in that direction? Every element where that is cheap, else random directions and the elements at the ends
// and at the edges of tiles. Where the function has a kink within a step, another point nearby is taken: only the function
// says where, never the gradient, so that no wrong gradient gets away with it.

import type { NumberArray } from "../../engine/dtype.ts";
import { type Shape, sizeOf } from "../../engine/tensor.ts";
import { normals } from "./normals.ts";

/** Values of the inputs that have a gradient, by name. */
export type Point = Readonly<Record<string, Float64Array>>;

/** F = Σ output · seed, and Σ |output · seed|, of which float64 keeps 53 bits. */
export interface Loss {
  readonly value: number;
  readonly magnitude: number;
}

/** Functions of the same inputs, one for each set of upstream gradients. */
export interface Differentiable {
  readonly shapes: Readonly<Record<string, Shape>>;
  /** Elements that one evaluation reads and writes. */
  readonly cost: number;
  /** Each function at a point. */
  losses(point: Point): Promise<readonly Loss[]>;
  /** Each function's gradient by the vjp, by input. */
  gradients(point: Point): Promise<readonly ReadonlyMap<string, NumberArray>[]>;
}

/** Elements × cost up to which every element is checked: half a second of plain loops. */
const everyElementBudget = 2 ** 19;
const edgeBudget = 2 ** 19;
const randomDirections = 4;
/** Points drawn in search of one without a kink. */
const mostDraws = 8;

interface Direction {
  readonly name: string;
  readonly along: Float64Array;
}

/**
 * @param tolerance  allowed difference, relative to the gradient's largest element times the direction's length
 * @throws Error naming input, direction, slope and gradient where they differ
 */
export async function centralDifferences(of: Differentiable, start: Point, tolerance: number): Promise<void> {
  const origin = await placeAt(of, start);
  for (const input of Object.keys(start))
    for (const direction of directionsOf(of.shapes[input], of.cost)) {
      let place = origin;
      for (let draw = 0; !(await agrees(of, place, input, direction, tolerance)); draw++) {
        if (draw === mostDraws) throw new Error(`d${input}: ${direction.name}: no smooth point in ${mostDraws} draws`);
        place = await placeAt(of, { ...start, [input]: redrawn(start[input], direction.along, 900 + draw) });
      }
    }
}

interface Place {
  readonly point: Point;
  readonly losses: readonly Loss[];
  readonly gradients: readonly ReadonlyMap<string, NumberArray>[];
}

async function placeAt(of: Differentiable, point: Point): Promise<Place> {
  return { point, losses: await of.losses(point), gradients: await of.gradients(point) };
}

/** Another point, away from this one in the elements that the direction moves. */
function redrawn(values: Float64Array, along: Float64Array, seed: number): Float64Array {
  const noise = normals(seed, values.length, 0.1);
  return values.map((value, i) => (along[i] === 0 ? value : value + noise[i] * Math.max(1, Math.abs(value))));
}

/** Whether slope and gradient agree at a point; false where the function has a kink there. Throws where they do not. */
async function agrees(
  of: Differentiable,
  { point, losses: here, gradients }: Place,
  input: string,
  { name, along }: Direction,
  tolerance: number,
): Promise<boolean> {
  const length = Math.sqrt(along.reduce((sum, a) => sum + a * a, 0));
  const scale = largest(point[input]);
  // Long steps where float64 rounds large values, short ones where the function bends fast.
  const steps = new Set([Math.max(1, scale), scale, 1, Math.max(1, scale) / 8].filter((size) => size > 0));
  for (const size of steps) {
    const h = (2e-4 * size) / length;
    const at = (by: number): Promise<readonly Loss[]> =>
      of.losses({ ...point, [input]: point[input].map((value, i) => value + by * along[i]) });
    const [plus, minus, halfPlus, halfMinus] = [await at(h), await at(-h), await at(h / 2), await at(-h / 2)];
    const results = gradients.map((gradientOf, i) => {
      const gradient = gradientOf.get(input) ?? [];
      const f = here[i].value;
      // Slopes at h and h/2 err by h²·f‴/6; combined (Richardson), by h⁴.
      const slope =
        ((4 * (halfPlus[i].value - halfMinus[i].value)) / h - (plus[i].value - minus[i].value) / (2 * h)) / 3;
      // How far the slopes to both sides differ is h·f″ + h³·f⁗/12 where the function is smooth, of which the first goes
      // away in this difference; a kink within h leaves a part of its jump.
      const bend = (plus[i].value - 2 * f + minus[i].value) / h;
      const jump = (4 * (halfPlus[i].value - 2 * f + halfMinus[i].value)) / h - bend;
      const gradientScale = Math.max(largest(gradient), (1e-3 * here[i].magnitude) / Math.max(1, scale));
      const allowed = tolerance * gradientScale * length;
      const noise = (2 ** -48 * Math.max(here[i].magnitude, plus[i].magnitude)) / h;
      const expected = along.reduce((sum, a, k) => (a === 0 ? sum : sum + a * gradient[k]), 0);
      return { slope, expected, allowed: allowed + noise, isResolved: noise <= 10 * allowed, jump: Math.abs(jump) };
    });
    if (!results.every(({ jump, allowed, isResolved }) => isResolved && jump <= allowed)) continue;
    for (const { slope, expected, allowed } of results)
      if (!(Math.abs(slope - expected) <= allowed))
        throw new Error(
          `d${input}: ${name}: central differences give ${slope}, the vjp ${expected} (allowed ${allowed.toExponential(1)})`,
        );
    return true;
  }
  return false;
}

/** The largest magnitude; 0 of no values. */
export function largest(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]));
  return most;
}

function directionsOf(shape: Shape, cost: number): Direction[] {
  const size = sizeOf(shape);
  const isCheap = size * cost <= everyElementBudget;
  const elements = isCheap ? Array.from({ length: size }, (_, i) => i) : edges(shape, cost);
  const directions: Direction[] = elements.map((i) => {
    const along = new Float64Array(size);
    along[i] = 1;
    return { name: `element ${i}`, along };
  });
  if (!isCheap)
    for (let k = 0; k < randomDirections; k++)
      directions.push({ name: `random direction ${k}`, along: normals(700 + k, size) });
  return directions;
}

/** Both sides of every power of two from 8 on, as long as both lie below `extent`: where tiles of any such size end. */
function tileEdges(extent: number): number[] {
  const found = [0, extent - 1];
  for (let tile = 8; tile < extent; tile *= 2) found.push(tile - 1, tile);
  return found;
}

/** Elements at the ends and tile edges of each axis, beside the first and the last of the others, and of the whole. */
export function edges(shape: Shape, cost: number): number[] {
  const size = sizeOf(shape);
  const found = new Set(tileEdges(size));
  let stride = size;
  for (const extent of shape) {
    stride /= extent;
    const last = size - 1 - (extent - 1) * stride;
    for (const index of tileEdges(extent)) found.add(index * stride).add(index * stride + last);
  }
  const all = [...found].sort((a, b) => a - b);
  const most = Math.min(all.length, Math.max(8, Math.min(48, Math.floor(edgeBudget / cost))));
  return Array.from({ length: most }, (_, k) => all[Math.round((k * (all.length - 1)) / (most - 1))]);
}
