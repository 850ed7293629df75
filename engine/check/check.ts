// The start-up check: refuses a driver that computes wrong numbers, before hours are spent on them.
//
// A small piece of every kind of work (cases.ts) runs on the adapter and on the plain-TypeScript backend, and the
// results are compared. An adapter that passed is not checked again until its driver, Dawn, Node or a kernel changes:
// the cache remembers it. A driver that failed is not remembered, so it is checked again each time.
import type { Backend, KernelForm } from "../backends/backend.ts";
import { CpuBackend } from "../backends/cpu.ts";
import { PlanningBackend } from "../backends/planning.ts";
import type { NumberArray } from "../dtype.ts";
import { OutOfMemoryError } from "../errors.ts";
import { asError } from "../host/errors.ts";
import { preferredTiles, preferTiles, type TileChoice } from "../ops/matmul/tiles.ts";
import { scope, scopeAsync } from "../scope.ts";
import { readTensors } from "../tensor.ts";
import { type CheckCase, casesFor } from "./cases.ts";

/** What a driver computes wrongly: case, result and element, expected and got. */
export interface WrongResult {
  /** The kind of work: "attention, forward and backward". */
  readonly work: string;
  /** Result and element, expected, got; or the driver's error. */
  readonly detail: string;
}

type Results = Readonly<Record<string, NumberArray>>;

/** What the choice of kernels depends on. */
export type Meant = ConstructorParameters<typeof PlanningBackend>[0];

/** Kernels of the check, each with its constants, as a backend chooses them. Nothing is run. */
export function checkForms(meant: Meant, tiles: TileChoice): readonly KernelForm[] {
  const planning = new PlanningBackend(meant);
  preferTiles(planning, tiles);
  for (const { run } of casesFor(planning))
    scope(() => {
      run(planning);
    });
  return planning.forms;
}

/**
 * Runs every case on a backend and compares its results.
 * @returns  the first wrong result; null if all are right
 * @throws OutOfMemoryError if the device has no memory left for the check
 */
export async function findWrongResult(backend: Backend): Promise<WrongResult | null> {
  const plain = new CpuBackend();
  await backend.prepare?.(checkForms(backend, preferredTiles(backend)));
  for (const one of casesFor(backend)) {
    let got: Results;
    try {
      got = await resultsOf(one, backend);
    } catch (thrown) {
      // Others may have taken the memory: that is no wrong result.
      if (thrown instanceof OutOfMemoryError) throw thrown;
      return { work: one.name, detail: asError(thrown).message };
    }
    const detail = difference(one, { ...(await resultsOf(one, plain)), ...one.known }, got);
    if (detail !== null) return { work: one.name, detail };
  }
  return null;
}

async function resultsOf({ run }: CheckCase, backend: Backend): Promise<Results> {
  return scopeAsync(async () => {
    const tensors = run(backend);
    const arrays = await readTensors(Object.values(tensors));
    return Object.fromEntries(Object.keys(tensors).map((name, i) => [name, arrays[i]]));
  });
}

/** The first difference between results that is larger than the case allows, in words; null if there is none. */
function difference(
  { tolerance, isOfEach, equal = [] }: CheckCase,
  expected: Readonly<Record<string, ArrayLike<number>>>,
  got: Results,
): string | null {
  for (const [name, values] of Object.entries(expected)) {
    const largest = Math.max(...Array.from(values, (value) => (Number.isFinite(value) ? Math.abs(value) : 0)));
    for (let i = 0; i < values.length; i++) {
      const allowed = tolerance * (isOfEach ? Math.abs(values[i]) : largest);
      // NaN is within no distance, and nothing else is within any distance of an infinity.
      const isNear = Number.isFinite(values[i]) && Math.abs(values[i] - got[name][i]) <= allowed;
      if (values[i] !== got[name][i] && !isNear)
        return (
          `${name}, element ${i} of ${values.length}: expected ${values[i]}` +
          `${Number.isFinite(allowed) ? ` ± ${allowed.toExponential(1)}` : ""}, got ${got[name][i]}`
        );
    }
  }
  for (const [one, other] of equal) {
    const i = got[one].findIndex((value, j) => !Object.is(value, got[other][j]));
    if (i >= 0)
      return (
        `${one}, element ${i} of ${got[one].length}: expected the bits of "${other}", ${got[other][i]}, got ` +
        `${got[one][i]}: sums are in another order`
      );
  }
  return null;
}
