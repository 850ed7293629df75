// The only way to run a kernel: checks bindings against the contract, cuts the work at segment boundaries, and hands
// the cells to the backend in order.
//
// A decode step runs the same few hundred cells again and again, and on a GPU the host's time per cell limits its rate.
// So what follows from a kernel alone is derived once (`KernelLayout`), and what follows from the numbers of a cell (its params
// by name, its constants) is kept and found again by those numbers (`Cell`). Backends recognise a repeated cell by its
// `params` object.
import type { Backend, BufferHandle } from "./backends/backend.ts";
import type { DType } from "./dtype.ts";
import { ShapeError } from "./errors.ts";
import {
  type AnyKernel,
  type Binding,
  type Constants,
  eraseKernel,
  type Kernel,
  type ParamType,
  parameterBlock,
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

/** What follows from a kernel's contract alone. */
interface KernelLayout {
  readonly kernel: AnyKernel;
  readonly bindings: readonly string[];
  /** For each binding, the number of its axis; −1 for none. */
  readonly axisOf: readonly number[];
  /** For each binding, whether the tape decides if it is assigned or added to. */
  readonly isGradient: readonly boolean[];
  readonly axes: readonly string[];
  /** For each axis, whether it is summed over, and the bindings on it. */
  readonly isReduced: readonly boolean[];
  readonly onAxis: readonly (readonly number[])[];
  /** The numbers of the axes in the order of the loops over cells. */
  readonly loops: readonly number[];
  /** The kernel's own params. */
  readonly params: readonly string[];
  /** Names of all params, in the order of the parameter block. */
  readonly block: readonly string[];
  /** Cells seen before, by a hash of their numbers. */
  readonly cells: WeakMap<Backend, Map<number, Cell>>;
}

/** The params and constants of one cell. */
interface Cell {
  /** Its numbers in the order of the parameter block, as the bits of f64. */
  readonly bits: Uint32Array;
  readonly given: Constants | undefined;
  readonly params: Readonly<Record<string, number>>;
  readonly constants: Constants;
}

/** Cells kept per kernel and backend. A decode step of a model of 80 layers has 560 of its largest kernel. */
const mostCells = 1024;

const layouts = new WeakMap<AnyKernel, KernelLayout>();

function layoutOf(kernel: AnyKernel): KernelLayout {
  const found = layouts.get(kernel);
  if (found !== undefined) return found;
  const axes = Object.keys(kernel.axes);
  const bindings = Object.entries(kernel.bindings);
  const axisOf = bindings.map(([, { axis }]) => (axis === undefined ? -1 : axes.indexOf(axis)));
  const isReduced = axes.map((axis) => kernel.axes[axis] === "reduce");
  const numbers = axes.map((_, axis) => axis);
  const onAxis = numbers.map((axis) => axisOf.flatMap((own, i) => (own === axis ? [i] : [])));
  onAxis.forEach((on, axis) => {
    if (on.length === 0) throw new ShapeError(`${kernel.name}: no binding lies on axis "${axes[axis]}"`);
  });
  const made: KernelLayout = {
    ...{ kernel, axes, axisOf, isReduced, onAxis },
    bindings: bindings.map(([name]) => name),
    isGradient: bindings.map(([, { access }]) => access === "gradient"),
    // Map axes are the outer loops, reduce axes the inner ones, so that each output cell gets the parts of its sum one
    // after another.
    loops: [...numbers.filter((axis) => !isReduced[axis]), ...numbers.filter((axis) => isReduced[axis])],
    params: Object.keys(kernel.params),
    block: parameterBlock(kernel).map(({ name }) => name),
    cells: new WeakMap(),
  };
  layouts.set(kernel, made);
  return made;
}

let beforeRun: (kernel: string, bindings: readonly string[], tensors: readonly Tensor[]) => void = () => {};

/**
 * For the tape. The tape records ops, so it refuses a kernel that is run outside of an op.
 * @param listener  gets the kernel's name, and the names and tensors of its bindings
 */
export function onRun(
  listener: (kernel: string, bindings: readonly string[], tensors: readonly Tensor[]) => void,
): void {
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
  const layout = layoutOf(eraseKernel(typed));
  const { kernel, bindings: names, isGradient, axisOf } = layout;
  const bound: Readonly<Record<string, GradientTarget | Tensor | undefined>> = bindings;
  const work: Work = { layout, tensors: [], flags: [], params, given: options.constants };
  let isCut = false;
  for (let i = 0; i < names.length; i++) {
    const given = bound[names[i]];
    if (given === undefined) throw new ShapeError(`${kernel.name}: nothing bound to "${names[i]}"`);
    const tensor = "tensor" in given ? given.tensor : given;
    if (isGradient[i]) work.flags.push("tensor" in given && given.add ? 1 : 0);
    if (tensor.storage.isFreed) throw new ShapeError(`${kernel.name}: ${names[i]}: this tensor was freed already`);
    if (tensor.segments.length > 1) {
      if (axisOf[i] < 0)
        throw new ShapeError(
          `${kernel.name}: ${names[i]}: [${tensor.shape}] lies in ${tensor.segments.length} segments, this binding takes one`,
        );
      isCut = true;
    }
    work.tensors.push(tensor);
  }
  beforeRun(kernel.name, names, work.tensors);
  const totals = layout.axes.map((_, axis) => extentOf(layout, axis, work.tensors));
  if (isCut) runCut(work, totals);
  else if (totals.every((total, axis) => total > 0 || layout.isReduced[axis])) runCell(work, totals, null, null);
}

/** One call of `run`. */
interface Work {
  readonly layout: KernelLayout;
  readonly tensors: Tensor[];
  /** Whether each gradient is added to, 1 or 0. */
  readonly flags: number[];
  readonly params: Readonly<Record<string, number>>;
  readonly given: Constants | undefined;
}

/** Rows on an axis. */
function extentOf({ kernel, axes, onAxis, bindings }: KernelLayout, axis: number, tensors: readonly Tensor[]): number {
  const on = onAxis[axis];
  const total = tensors[on[0]].rows;
  for (const i of on)
    if (tensors[i].rows !== total)
      throw new ShapeError(
        `${kernel.name}: axis "${axes[axis]}": ${bindings[on[0]]} has ${total} rows, ${bindings[i]} has ` +
          `${tensors[i].rows} ([${tensors[i].shape}])`,
      );
  return total;
}

/** Cuts the work at every segment boundary of its tensors, and runs the cells. */
function runCut(work: Work, totals: readonly number[]): void {
  const { axisOf, isReduced, onAxis, loops } = work.layout;
  const starts = work.tensors.map((tensor, i) => (axisOf[i] < 0 ? [] : segmentStarts(tensor.segments)));
  const intervals = onAxis.map((on, axis) => cutAxis(on, starts, totals[axis], isReduced[axis]));
  const cell: IndexRange[] = totals.map((count) => ({ start: 0, count }));
  const visit = (depth: number): void => {
    if (depth === loops.length) {
      runCell(work, totals, cell, starts);
      return;
    }
    for (const interval of intervals[loops[depth]]) {
      cell[loops[depth]] = interval;
      visit(depth + 1);
    }
  };
  visit(0);
}

/** The numbers of the cell at hand, in the order of the parameter block, and the same memory as words. */
const numbers = new Float64Array(128);
const numberBits = new Uint32Array(numbers.buffer);

/**
 * Hands one cell to the backend.
 * @param cell    the interval of each axis; null if it is the whole axis
 * @param starts  the first row of each segment of each binding, and the total; null if no tensor is cut
 */
function runCell(
  { layout, tensors, flags, params, given }: Work,
  totals: readonly number[],
  cell: readonly IndexRange[] | null,
  starts: readonly (readonly number[])[] | null,
): void {
  const { kernel, axisOf, isReduced } = layout;
  let n = 0;
  let continues = false;
  for (let axis = 0; axis < totals.length; axis++) {
    const start = cell === null ? 0 : cell[axis].start;
    numbers[n++] = cell === null ? totals[axis] : cell[axis].count;
    numbers[n++] = start;
    numbers[n++] = totals[axis];
    if (start > 0 && isReduced[axis]) continues = true;
  }
  const buffers: { buffer: BufferHandle; base: number; length: number; dtype: DType }[] = [];
  for (let i = 0; i < tensors.length; i++) {
    const { segments, size, rowSize, dtype } = tensors[i];
    const axis = axisOf[i];
    let place = segments[0];
    let { base } = place;
    let length = size;
    if (cell !== null && starts !== null && axis >= 0) {
      const { start, count } = cell[axis];
      const index = segmentOf(starts[i], start);
      place = segments[index];
      base = place.base + (start - starts[i][index]) * rowSize;
      length = count * rowSize;
    }
    numbers[n++] = base;
    buffers.push({ buffer: place.buffer, base, length, dtype });
  }
  // Later cells of a reduction continue the sum of the first cell.
  for (const flag of flags) numbers[n++] = continues ? 1 : flag;
  for (const name of layout.params) {
    const value = params[name];
    if (value === undefined) throw new Error(`${kernel.name}: no value for param "${name}"`);
    numbers[n++] = value;
  }
  const { backend } = tensors[0];
  const found = cellOf(layout, backend, 2 * n, given);
  backend.dispatch({ kernel, buffers, params: found.params, constants: found.constants });
}

/** The cell whose numbers are the first `words` words of `numberBits`. */
function cellOf(layout: KernelLayout, backend: Backend, words: number, given: Constants | undefined): Cell {
  let cells = layout.cells.get(backend);
  if (cells === undefined) {
    cells = new Map();
    layout.cells.set(backend, cells);
  }
  let hash = 0;
  for (let i = 0; i < words; i++) hash = Math.imul(hash ^ numberBits[i] ^ (hash >>> 15), 0x9e3779b1);
  const found = cells.get(hash);
  if (found !== undefined && isSameCell(found, words, given)) return found;
  const { kernel } = layout;
  const params: Record<string, number> = {};
  layout.block.forEach((name, i) => {
    params[name] = numbers[i];
  });
  const made: Cell = {
    bits: numberBits.slice(0, words),
    given,
    params,
    constants: { ...kernel.constants, ...given, ...kernel.form?.(params, backend.style) },
  };
  if (cells.size >= mostCells) cells.clear();
  cells.set(hash, made);
  return made;
}

function isSameCell(cell: Cell, words: number, given: Constants | undefined): boolean {
  if (cell.bits.length !== words) return false;
  for (let i = 0; i < words; i++) if (cell.bits[i] !== numberBits[i]) return false;
  return cell.given === given || areSame(cell.given ?? {}, given ?? {});
}

function areSame(a: Constants, b: Constants): boolean {
  for (const name in a) if (a[name] !== b[name]) return false;
  for (const name in b) if (!(name in a)) return false;
  return true;
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
 * The intervals of an axis between all segment boundaries of the tensors on it. An empty map axis has none. An empty
 * reduce axis has one, so that the empty sum is written.
 */
function cutAxis(
  on: readonly number[],
  starts: readonly (readonly number[])[],
  total: number,
  isReduced: boolean,
): IndexRange[] {
  if (on.every((i) => starts[i].length === 2)) return total === 0 && !isReduced ? [] : [{ start: 0, count: total }];
  const cuts = [...new Set(on.flatMap((i) => starts[i]))].sort((a, b) => a - b);
  return cuts.slice(1).map((end, i) => ({ start: cuts[i], count: end - cuts[i] }));
}
