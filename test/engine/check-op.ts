// `checkOp`: what every op must show. For each case it holds
//   the shape rule against what the kernels write: nothing left unwritten, nothing outside, also where inputs and gradients
//   lie amid others in one buffer,
//   gradients against central differences, both in float64 on the plain backend (central-differences.ts),
//   each backend's outputs and gradients against those float64 values,
//   every subset of upstream gradients; every mix of gradients assigned onto NaN, added onto random numbers and not asked for,
//   one tensor as two inputs, outputs and inputs that are used twice,
//   the same bits twice, and no buffer left behind.
// With `half`, all of that once more for the op with f16 operands.

import { record } from "../../engine/autograd.ts";
import type { Backend } from "../../engine/backends/backend.ts";
import { type DType, isFloat, type NumberArray } from "../../engine/dtype.ts";
import { f16ToF32, f32ToF16 } from "../../engine/dtype-conversion.ts";
import type { Op } from "../../engine/op.ts";
import { add } from "../../engine/ops/elementwise/elementwise.ts";
import { scope, scopeAsync } from "../../engine/scope.ts";
import { fromArray, type Shape, sizeOf } from "../../engine/tensor.ts";
import { reference, testBackends } from "../backends.ts";
import { assertClose, type Test, type Tolerance } from "../support.ts";
import { centralDifferences, type Loss, largest, type Point } from "./central-differences.ts";
import { GuardedBackend } from "./guarded-backend.ts";
import { normals } from "./normals.ts";
import {
  before,
  type Given,
  gradientsOf,
  type HalfRun,
  type Seeds,
  type Start,
  Subject,
  type Values,
} from "./op-subject.ts";

export { normals };

/** A shape of normal numbers, or values given in full, or numbers of another spread. */
export type InputSpec =
  | readonly number[]
  | { shape: Shape; scale?: number; mean?: number }
  | { shape: Shape; values: ArrayLike<number>; dtype?: DType };

export interface OpCase<I extends string, Settings> {
  inputs: { [K in I]?: InputSpec };
  settings?: Settings;
  /** Overrides the op's tolerance for this case, with its reason in a comment. */
  tolerance?: OpTolerance;
}

export interface OpTolerance {
  forward: Tolerance;
  gradient: Tolerance;
}

export interface CheckOptions<I extends string, Settings> {
  settings: Settings;
  cases: Record<string, OpCase<I, Settings> | { [K in I]?: InputSpec }>;
  /** f32 against float64. */
  tolerance: OpTolerance;
  /** The op with f16 operands: every case runs that way too. */
  half?: HalfOptions<I, Settings>;
  /** Central differences against the vjp, both float64: relative to the gradient's scale. Default 1e-6. */
  differenceTolerance?: number;
}

/**
 * The mode for f16 operands. Inputs are rounded to f16 first, so that rounding them again changes nothing and float64
 * sees the same numbers. What remains are the sums, and gradients that the op rounds by itself.
 */
export interface HalfOptions<I extends string, Settings> {
  /** The inputs that are operands. */
  operands: readonly I[];
  run: HalfRun<I, Settings>;
  tolerance: OpTolerance;
  /** Cases to leave out, each with its reason in a comment. */
  without?: readonly string[];
}

/** The inputs with those of these names rounded to f16. */
function rounded(given: Readonly<Record<string, Given>>, names: readonly string[]): Record<string, Given> {
  return Object.fromEntries(
    Object.entries(given).map(([name, one]) => [
      name,
      names.includes(name)
        ? { ...one, values: Float64Array.from(one.values, (value) => f16ToF32(f32ToF16(value))) }
        : one,
    ]),
  );
}

function realise(spec: InputSpec, seed: number): Given {
  if (!("shape" in spec)) return { values: normals(seed, sizeOf(spec)), shape: spec, dtype: "f32" };
  if ("values" in spec) return { values: spec.values, shape: spec.shape, dtype: spec.dtype ?? "f32" };
  return { values: normals(seed, sizeOf(spec.shape), spec.scale, spec.mean), shape: spec.shape, dtype: "f32" };
}

/** Every subset that is not empty; the last is the whole. */
function subsets<T>(items: readonly T[]): T[][] {
  return Array.from({ length: 2 ** items.length - 1 }, (_, bits) => items.filter((__, i) => ((bits + 1) >> i) & 1));
}

/** Every mix of assigned and added over the inputs, and each of several inputs asked for alone. */
function mixes(inputs: readonly string[]): Map<string, Start>[] {
  const both = Array.from(
    { length: 2 ** inputs.length },
    (_, bits) => new Map(inputs.map((input, i): [string, Start] => [input, (bits >> i) & 1 ? "added" : "assigned"])),
  );
  const alone = inputs.map(
    (asked) => new Map(inputs.map((input): [string, Start] => [input, input === asked ? "assigned" : "unasked"])),
  );
  return inputs.length > 1 ? [...both, ...alone] : both;
}

/** A sum of gradients, each within its tolerance, and of what was there before. The sum itself is rounded. */
function closeToSum(
  what: string,
  found: ArrayLike<number>,
  terms: readonly ArrayLike<number>[],
  { absolute = 0, relative = 0, ofScale = 0 }: Tolerance,
  start: ArrayLike<number> = [],
): void {
  const all = start.length === 0 ? terms : [...terms, start];
  const expected = Float64Array.from(terms[0], (_, i) => all.reduce((sum, term) => sum + term[i], 0));
  const scale = terms.reduce((sum, term) => sum + largest(term), 0);
  const allowed = terms.length * absolute + (relative + ofScale) * scale + 2 ** -23 * (scale + largest(start));
  assertClose(what, found, expected, { absolute: allowed });
}

/** Leaves NaN in free memory of these sizes, so that an output or a scratch buffer that a kernel leaves unwritten shows. */
function poison(backend: Backend, shapes: readonly Shape[]): void {
  scope(() => {
    for (const shape of [...shapes, ...shapes]) {
      const nans = new Float32Array(sizeOf(shape)).fill(Number.NaN);
      fromArray(backend, nans, shape, "f32", "poison");
    }
  });
}

function refuseNaN(what: string, values: ArrayLike<number>): void {
  for (let i = 0; i < values.length; i++)
    if (Number.isNaN(values[i]))
      throw new Error(`${what}: element ${i} of ${values.length} is NaN, or was not written`);
}

export function sameBits(what: string, actual: NumberArray | undefined, expected: NumberArray): void {
  if (actual === undefined || actual.length !== expected.length) throw new Error(`${what}: other length`);
  for (let i = 0; i < expected.length; i++)
    if (!Object.is(actual[i], expected[i])) throw new Error(`${what}: element ${i}: ${expected[i]}, then ${actual[i]}`);
}

/** Cases of up to so many elements run with every index watched: that is slow. */
const guardedElements = 8192;

export function checkOp<I extends string, O extends string, S extends string, Settings>(
  test: Test,
  op: Op<I, O, S, Settings>,
  options: CheckOptions<I, Settings>,
): void {
  for (const [caseName, written] of Object.entries(options.cases)) {
    const one: OpCase<I, Settings> =
      "inputs" in written ? (written as OpCase<I, Settings>) : { inputs: written as { [K in I]?: InputSpec } };
    const tolerance = one.tolerance ?? options.tolerance;
    const given: Record<string, Given> = {};
    Object.entries<InputSpec | undefined>(one.inputs).forEach(([name, spec], i) => {
      if (spec !== undefined) given[name] = realise(spec, i + 1);
    });
    const subject = new Subject(op, given, one.settings ?? options.settings);
    test(`${op.definition.name}: ${caseName}`, () => checkCase(subject, caseName, tolerance, options));
    const { half } = options;
    if (half === undefined || half.without?.includes(caseName)) continue;
    const halfSubject = new Subject(op, rounded(given, half.operands), one.settings ?? options.settings, half.run);
    test(`${op.definition.name}, f16 operands: ${caseName}`, () =>
      checkCase(halfSubject, caseName, half.tolerance, options));
  }
}

/** What float64 says: outputs, upstream gradients to try, and the gradients of each subset of them. */
interface Truth {
  /** Of the outputs, as the shape rule has them. */
  readonly shapes: Readonly<Record<string, Shape>>;
  readonly outputs: Values;
  readonly seeds: Seeds;
  readonly bySubset: readonly { readonly seeds: Seeds; readonly gradients: Values }[];
}

async function checkCase<I extends string, O extends string, S extends string, Settings>(
  subject: Subject<I, O, S, Settings>,
  caseName: string,
  tolerance: OpTolerance,
  { differenceTolerance = 1e-6 }: CheckOptions<I, Settings>,
): Promise<void> {
  const truth = await truthOf(subject);
  if (truth.bySubset.length > 0) await checkDifferences(subject, truth, differenceTolerance);
  for (const { name, backend, dtype } of [
    { name: "plain f64", backend: reference, dtype: "f64" as const },
    ...(await testBackends()).map((found) => ({ ...found, dtype: "f32" as const })),
  ]) {
    const live = backend.statistics().liveBuffers;
    poison(backend, [...Object.values(subject.given).map(({ shape }) => shape), ...Object.values(truth.shapes)]);
    const place = { name: `${name}: ${caseName}`, backend, dtype };
    await checkPasses(subject, truth, tolerance, place);
    if (truth.bySubset.length > 0) {
      await checkSharedInputs(subject, truth, tolerance, place);
      await checkUsedTwice(subject, truth, tolerance, place);
    }
    const left = backend.statistics().liveBuffers - live;
    if (left !== 0) throw new Error(`${name}: ${caseName}: ${left} buffers left behind`);
  }
}

async function truthOf<I extends string, O extends string, S extends string, Settings>(
  subject: Subject<I, O, S, Settings>,
): Promise<Truth> {
  const { definition } = subject.op;
  const saved: readonly string[] = definition.saved ?? [];
  const outputs = await subject.outputs(reference, "f64");
  for (const [output, values] of outputs) refuseNaN(output, values);
  const differentiable = [...outputs.keys()].filter(
    (output) => !saved.includes(output) && isFloat(definition.dtypes?.[output as O] ?? "f32"),
  );
  const seeds: Seeds = new Map(differentiable.map((o, i) => [o, normals(50 + i, outputs.get(o)?.length ?? 0)]));
  const assigned = new Map(subject.inputs.map((input): [string, Start] => [input, "assigned"]));
  const chosen = subject.inputs.length === 0 ? [] : subsets([...seeds]).map((subset): Seeds => new Map(subset));
  const passes = chosen.map((subset) => ({ seeds: subset, starts: assigned }));
  if (subject.cost <= guardedElements) await subject.gradients(new GuardedBackend(), "f64", passes);
  const { gradients } = await subject.gradients(reference, "f64", passes);
  const bySubset = chosen.map((subset, i) => ({ seeds: subset, gradients: gradients[i] }));
  for (const { seeds: upstream, gradients: found } of bySubset)
    for (const [input, values] of found) refuseNaN(`d${input} for upstream {${[...upstream.keys()]}}`, values);
  return { shapes: subject.shapes(), outputs, seeds, bySubset };
}

async function checkDifferences<I extends string, O extends string, S extends string, Settings>(
  subject: Subject<I, O, S, Settings>,
  { outputs, bySubset }: Truth,
  tolerance: number,
): Promise<void> {
  const { given, inputs } = subject;
  const start: Point = Object.fromEntries(inputs.map((input) => [input, Float64Array.from(given[input].values)]));
  const lossOf = (found: Values, seeds: Seeds): Loss => {
    let [value, magnitude] = [0, 0];
    for (const [output, seed] of seeds) {
      const values = found.get(output) ?? [];
      for (let i = 0; i < seed.length; i++) {
        value += values[i] * seed[i];
        magnitude += Math.abs(values[i] * seed[i]);
      }
    }
    return { value, magnitude };
  };
  const starts = new Map(inputs.map((input): [string, Start] => [input, "assigned"]));
  const passes = bySubset.map(({ seeds }) => ({ seeds, starts }));
  await centralDifferences(
    {
      shapes: Object.fromEntries(inputs.map((input) => [input, given[input].shape])),
      cost: [...outputs.values()].reduce((size, { length }) => size + length, subject.cost),
      losses: async (point) => {
        const found = await subject.with(point).outputs(reference, "f64");
        return bySubset.map(({ seeds }) => lossOf(found, seeds));
      },
      gradients: async (point) => (await subject.with(point).gradients(reference, "f64", passes)).gradients,
    },
    start,
    tolerance,
  );
}

/** A backend and the dtype in which it keeps floats. */
interface Place {
  readonly name: string;
  readonly backend: Backend;
  readonly dtype: DType;
}

/** Outputs, and gradients of every subset of upstream gradients and in every mix of beginnings; all of it twice. */
async function checkPasses<I extends string, O extends string, S extends string, Settings>(
  subject: Subject<I, O, S, Settings>,
  truth: Truth,
  tolerance: OpTolerance,
  { name, backend, dtype }: Place,
): Promise<void> {
  const [assigned, ...otherMixes] = mixes(subject.inputs);
  const allAdded = new Map(subject.inputs.map((input): [string, Start] => [input, "added"]));
  const passes = truth.bySubset.flatMap((subset, i) => [
    { ...subset, starts: assigned },
    ...(i === truth.bySubset.length - 1 ? otherMixes : [allAdded]).map((starts) => ({ ...subset, starts })),
  ]);
  const first = await subject.gradients(backend, dtype, passes);
  for (const [output, values] of truth.outputs)
    assertClose(`${name}: ${output}`, first.outputs.get(output) ?? [], values, tolerance.forward);
  passes.forEach(({ seeds, gradients, starts }, i) => {
    const mix = [...starts].map(([input, start]) => `d${input} ${start}`).join(", ");
    for (const [input, found] of first.gradients[i]) {
      const what = `${name}: d${input} for upstream {${[...seeds.keys()]}}, ${mix}`;
      const values = gradients.get(input) ?? [];
      if (starts.get(input) === "added") closeToSum(what, found, [values], tolerance.gradient, before(values.length));
      else assertClose(what, found, values, tolerance.gradient);
    }
  });
  const again = await subject.gradients(backend, dtype, passes);
  for (const [output, values] of first.outputs) sameBits(`${name}: ${output} twice`, again.outputs.get(output), values);
  passes.forEach((_, i) => {
    for (const [input, values] of first.gradients[i])
      sameBits(`${name}: d${input} twice`, again.gradients[i].get(input), values);
  });
}

/** One tensor as two inputs: its gradient is the sum of theirs. */
async function checkSharedInputs<I extends string, O extends string, S extends string, Settings>(
  subject: Subject<I, O, S, Settings>,
  { seeds }: Truth,
  { gradient }: OpTolerance,
  { name, backend, dtype }: Place,
): Promise<void> {
  const { inputs, given } = subject;
  const passes = [{ seeds, starts: mixes(inputs)[0] }];
  for (const [i, one] of inputs.entries())
    for (const other of inputs
      .slice(i + 1)
      .filter((input) => String(given[input].shape) === String(given[one].shape))) {
      const same = subject.with({ [other]: given[one].values });
      const apart = (await same.gradients(reference, "f64", passes)).gradients[0];
      const asOne = (await same.gradients(backend, dtype, passes, [one, other])).gradients[0];
      for (const [input, found] of asOne) {
        const parts = [one, other].includes(input) ? [one, other] : [input];
        const terms = parts.map((part) => apart.get(part) ?? []);
        closeToSum(`${name}: d${input}, ${one} and ${other} one tensor`, found, terms, gradient);
      }
    }
}

/**
 * The op twice on the same tensors, with one output of the first run added to itself: sums of gradients at both ends. The tensors
 * lie at odd elements of their buffers.
 */
async function checkUsedTwice<I extends string, O extends string, S extends string, Settings>(
  subject: Subject<I, O, S, Settings>,
  { seeds, bySubset }: Truth,
  { gradient }: OpTolerance,
  { name, backend, dtype }: Place,
): Promise<void> {
  // The first subset holds the first output alone, the last one all of them.
  const [alone, whole] = [bySubset[0], bySubset[bySubset.length - 1]];
  const [[doubled, seed]] = alone.seeds;
  const found = await scopeAsync(async () => {
    const tensors = subject.tensors(backend, dtype, [], true);
    const recording = record(() => {
      const y = subject.run(tensors)[doubled];
      return { second: subject.run(tensors), twofold: add(y, y) };
    });
    const { second, twofold } = recording.result;
    const upstream = [...seeds].map(([output, values]) => [second[output], values] as const);
    return gradientsOf(recording, [...upstream, [twofold, seed]], tensors, mixes(subject.inputs)[0]);
  });
  for (const [input, values] of found) {
    const own = alone.gradients.get(input) ?? [];
    const terms = [whole.gradients.get(input) ?? [], own, own];
    closeToSum(`${name}: d${input}, all used twice`, values, terms, gradient);
  }
}
