// The only way to run a kernel: checks bindings against the contract, cuts the work at segment boundaries, and hands
// the cells to the backend in order.
import { ShapeError } from "./errors.ts";
import {
  type AnyKernel,
  addFlag,
  type Binding,
  type Constants,
  eraseKernel,
  type Kernel,
  type ParamType,
} from "./kernel.ts";
import type { IndexRange, Segment, Tensor } from "./tensor.ts";

/** The tensor that receives a gradient, and whether to add to its content. */
export interface GradientTarget {
  readonly tensor: Tensor;
  readonly add: boolean;
}

type Bound<B> = { [K in keyof B]: B[K] extends { access: "gradient" } ? GradientTarget : Tensor };
/**
 * Params that the caller gives: those that the kernel declares. Axis extents and flags are derived from the bindings.
 */
type OwnParams<P> = { [K in keyof P]: number };

export interface RunOptions {
  /** Override the kernel's usual constants. */
  constants?: Constants;
}

/** Type of `run`, for ops that take it as an argument. */
export type Run = typeof run;

interface Placed {
  name: string;
  binding: Binding;
  tensor: Tensor;
  /** First row of each segment, and the total as last entry. */
  starts: number[];
}

let beforeRun: (kernel: string, bound: readonly Placed[]) => void = () => {};

/** For the tape. The tape records ops, so it refuses a kernel that is run outside of an op. */
export function onRun(listener: (kernel: string, bound: readonly { name: string; tensor: Tensor }[]) => void): void {
  beforeRun = listener;
}

/**
 * Runs a kernel on the tensors that are bound to it, cell by cell.
 * @throws ShapeError when a binding is missing, was freed, is cut although it may not be, or has another extent on its
 *         axis than the others
 * @throws Error inside `record`, when a bound tensor requires a gradient: the tape records only ops (`defineOp`)
 */
export function run<
  A extends string,
  B extends Readonly<Record<string, Binding<A>>>,
  P extends Readonly<Record<string, ParamType>>,
>(typed: Kernel<A, B, P>, bindings: Bound<B>, params: OwnParams<P>, options: RunOptions = {}): void {
  const kernel = eraseKernel(typed);
  const constants = { ...kernel.constants, ...options.constants };
  const flags: Record<string, number> = {};
  const placed: Placed[] = Object.entries(kernel.bindings).map(([name, binding]) => {
    const given: GradientTarget | Tensor | undefined = (bindings as Record<string, GradientTarget | Tensor>)[name];
    if (given === undefined) throw new ShapeError(`${kernel.name}: nothing bound to "${name}"`);
    const tensor = "tensor" in given ? given.tensor : given;
    if ("tensor" in given) flags[addFlag(name)] = given.add ? 1 : 0;
    if (tensor.storage.isFreed) throw new ShapeError(`${kernel.name}: ${name}: this tensor was freed already`);
    if (binding.axis === undefined && tensor.segments.length > 1)
      throw new ShapeError(
        `${kernel.name}: ${name}: [${tensor.shape}] lies in ${tensor.segments.length} segments, this binding takes one`,
      );
    return { name, binding, tensor, starts: segmentStarts(tensor.segments) };
  });
  beforeRun(kernel.name, placed);

  const axes = Object.keys(kernel.axes).map((axis) => ({
    axis,
    kind: kernel.axes[axis],
    ...cutAxis(kernel, axis, placed),
  }));
  // Map axes are the outer loops, reduce axes the inner ones, so that each output cell gets the parts of its sum one
  // after another.
  const order = [...axes.filter((a) => a.kind === "map"), ...axes.filter((a) => a.kind === "reduce")];
  const backend = placed[0].tensor.backend;
  const cell = new Map<string, IndexRange>();
  const visit = (depth: number): void => {
    if (depth < order.length) {
      const { axis, ranges } = order[depth];
      for (const range of ranges) {
        cell.set(axis, range);
        visit(depth + 1);
      }
      return;
    }
    const values: Record<string, number> = { ...params, ...flags };
    let continues = false;
    for (const { axis, kind, total } of axes) {
      const range = cell.get(axis) ?? { start: 0, count: total };
      values[axis] = range.count;
      values[`${axis}Start`] = range.start;
      values[`${axis}Total`] = total;
      if (kind === "reduce" && range.start > 0) continues = true;
    }
    // Later cells of a reduction continue the sum of the first cell.
    if (continues) for (const flag of Object.keys(flags)) values[flag] = 1;
    const buffers = placed.map(({ name, binding, tensor, starts }) => {
      const range = binding.axis === undefined ? undefined : cell.get(binding.axis);
      const { dtype } = tensor;
      if (range === undefined) {
        values[`${name}Base`] = tensor.segments[0].base;
        return { buffer: tensor.segments[0].buffer, base: tensor.segments[0].base, length: tensor.size, dtype };
      }
      const index = segmentOf(starts, range.start);
      const base = tensor.segments[index].base + (range.start - starts[index]) * tensor.rowSize;
      values[`${name}Base`] = base;
      return { buffer: tensor.segments[index].buffer, base, length: range.count * tensor.rowSize, dtype };
    });
    const own = kernel.form === undefined ? constants : { ...constants, ...kernel.form(values, backend.style) };
    backend.dispatch({ kernel, buffers, params: values, constants: own });
  };
  visit(0);
}

function segmentStarts(segments: readonly Segment[]): number[] {
  const starts = [0];
  for (const s of segments) starts.push(starts[starts.length - 1] + s.rows);
  return starts;
}

function segmentOf(starts: readonly number[], row: number): number {
  let index = 0;
  while (index < starts.length - 2 && starts[index + 1] <= row) index++;
  return index;
}

/**
 * The extent of an axis and its ranges between all segment boundaries of the tensors on it. An empty map axis has no
 * range. An empty reduce axis has one, so that the empty sum is written.
 */
function cutAxis(kernel: AnyKernel, axis: string, placed: readonly Placed[]): { total: number; ranges: IndexRange[] } {
  const on = placed.filter((p) => p.binding.axis === axis);
  if (on.length === 0) throw new ShapeError(`${kernel.name}: no binding lies on axis "${axis}"`);
  const total = on[0].tensor.rows;
  for (const p of on)
    if (p.tensor.rows !== total)
      throw new ShapeError(
        `${kernel.name}: axis "${axis}": ${on[0].name} has ${total} rows, ${p.name} has ${p.tensor.rows} ([${p.tensor.shape}])`,
      );
  if (on.every((p) => p.starts.length === 2))
    return { total, ranges: total === 0 && kernel.axes[axis] === "map" ? [] : [{ start: 0, count: total }] };
  const cuts = [...new Set(on.flatMap((p) => p.starts))].sort((a, b) => a - b);
  return { total, ranges: cuts.slice(1).map((end, i) => ({ start: cuts[i], count: end - cuts[i] })) };
}
