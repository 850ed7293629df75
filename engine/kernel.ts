// A kernel is one piece of device work with two bodies: `cpu`, plain loops that define what it computes, and `wgsl`, a
// file with the fast version. Its contract (bindings, axes, params) is declared once; the types of the plain body, the
// WGSL parameter block and the checks all follow from it.
//
// Axes. A tensor may be stored in several segments, cut along its first axis. A binding that names an axis promises
// that this is the first axis of its tensor, so that the work can be cut at every segment boundary: one dispatch per
// cell. Over a "map" axis cells are independent. Over a "reduce" axis they run in ascending order, and the kernel
// continues from the result of the previous cell; `run` explains how the gradient flags and `…Start`/`…Total` tell it
// so. A binding without an axis must be one segment.
import type { NumberArray } from "./dtype.ts";

/**
 * A "gradient" is a write that the tape lets assign or add: the param `addTo<Name>` says which. "update" reads and
 * writes.
 */
export type Access = "read" | "write" | "update" | "gradient";
export interface Binding<Axis extends string = string> {
  access: Access;
  axis?: Axis;
}
/** Software drivers and GPUs need opposite forms of a kernel. */
export type AdapterStyle = "plain" | "lavapipe" | "swiftshader" | "gpu";
export type ParamType = "u32" | "i32" | "f32";
export type AxisKind = "map" | "reduce";
export type Constants = Readonly<Record<string, number | boolean | string>>;

type AxisParams<A extends string> = { [K in A | `${A}Start` | `${A}Total`]: number };
type AddFlags<B> = {
  [K in keyof B as B[K] extends { access: "gradient" } ? `addTo${Capitalize<K & string>}` : never]: number;
};
/** Where each binding begins in its buffer, elements. */
type Bases<B> = { [K in keyof B as `${K & string}Base`]: number };
/**
 * All `params` of a kernel body: its own params, the extents of its axes, and the assign-or-add flags of its gradients.
 */
export type KernelParams<A extends string, B, P> = AxisParams<A> & AddFlags<B> & { [K in keyof P]: number };

export interface KernelDefinition<
  A extends string,
  B extends Readonly<Record<string, Binding<A>>>,
  P extends Readonly<Record<string, ParamType>>,
> {
  name: string;
  axes?: Readonly<Record<A, AxisKind>>;
  bindings: B;
  params?: P;
  /** Defines what the kernel computes: plain loops over the cell. Arrays start at the cell's first row. */
  cpu: (bindings: { [K in keyof B]: NumberArray }, params: KernelParams<A, B, P>, constants: Constants) => void;
  /** The file with the fast body. */
  wgsl: URL;
  /** Shared WGSL functions (files beside the body, or in engine/ops/shared) that the body calls. */
  uses?: readonly string[];
  /** Constants that specialise a pipeline, with their usual values. */
  constants?: Constants;
  /**
   * Sets of constants that callers use in place of the usual ones, one per form of the body: `npm run check` compiles
   * all.
   */
  variants?: readonly Constants[];
  /** Pipeline constants for one dispatch, chosen from its sizes, its buffer offsets and the adapter. */
  form?: (cell: KernelParams<A, B, P> & Bases<B>, style: AdapterStyle) => Constants;
  /**
   * Workgroups of one cell; if one count exceeds the adapter's limit, it is folded into two axes (`flatWorkgroup`
   * undoes it).
   */
  workgroups: (
    params: KernelParams<A, B, P>,
    constants: Constants,
  ) => readonly [number] | readonly [number, number, number];
  /**
   * Floating-point operations of one cell, for kernels whose arithmetic is worth counting; a multiply-add counts as
   * two.
   */
  flops?: (params: KernelParams<A, B, P>) => number;
}

/** Fields that a definition may leave out; `defineKernel` fills them in. */
type Filled = "axes" | "params" | "constants" | "variants" | "uses";

export interface Kernel<
  A extends string = string,
  B extends Readonly<Record<string, Binding<A>>> = Readonly<Record<string, Binding<A>>>,
  P extends Readonly<Record<string, ParamType>> = Readonly<Record<string, ParamType>>,
> extends Omit<KernelDefinition<A, B, P>, Filled>,
    Required<Pick<KernelDefinition<A, B, P>, Filled>> {}

/** A kernel without its own types: the form that backends use. */
export interface AnyKernel extends Omit<Kernel, "cpu" | "form" | "workgroups" | "flops"> {
  cpu: (bindings: Record<string, NumberArray>, params: Record<string, number>, constants: Constants) => void;
  form?: (cell: Record<string, number>, style: AdapterStyle) => Constants;
  workgroups: (
    params: Record<string, number>,
    constants: Constants,
  ) => readonly [number] | readonly [number, number, number];
  flops?: (params: Record<string, number>) => number;
}

const known = new Map<string, AnyKernel>();

/** Declares a kernel. Names must be unique: pipelines, traces and errors use them. */
export function defineKernel<
  const A extends string = never,
  const B extends Readonly<Record<string, Binding<A>>> = Readonly<Record<string, Binding<A>>>,
  const P extends Readonly<Record<string, ParamType>> = Record<never, ParamType>,
>(definition: KernelDefinition<A, B, P>): Kernel<A, B, P> {
  if (known.has(definition.name)) throw new Error(`defineKernel: "${definition.name}" is declared twice`);
  const kernel = {
    ...definition,
    axes: definition.axes ?? ({} as Readonly<Record<A, AxisKind>>),
    params: definition.params ?? ({} as P),
    constants: definition.constants ?? {},
    variants: definition.variants ?? [],
    uses: definition.uses ?? [],
  };
  known.set(kernel.name, eraseKernel(kernel));
  return kernel;
}

/**
 * Drops a kernel's types. This is sound because `run` gives its body exactly the bindings and params that it declares.
 */
export function eraseKernel<
  A extends string,
  B extends Readonly<Record<string, Binding<A>>>,
  P extends Readonly<Record<string, ParamType>>,
>(kernel: Kernel<A, B, P>): AnyKernel {
  return kernel as unknown as AnyKernel;
}

/** All kernels declared so far (those of the modules that were imported): `npm run check` compiles each. */
export function knownKernels(): readonly AnyKernel[] {
  return [...known.values()];
}

export function addFlag(binding: string): string {
  return `addTo${binding[0].toUpperCase()}${binding.slice(1)}`;
}

export interface ParameterField {
  readonly name: string;
  readonly type: ParamType;
}

const blocks = new WeakMap<AnyKernel, readonly ParameterField[]>();

/** Names and types of the parameter block, in its order: axes, binding bases, assign-or-add flags, the kernel's own. */
export function parameterBlock(kernel: AnyKernel): readonly ParameterField[] {
  const found = blocks.get(kernel);
  if (found !== undefined) return found;
  const block: ParameterField[] = [];
  for (const axis of Object.keys(kernel.axes))
    for (const end of ["", "Start", "Total"]) block.push({ name: axis + end, type: "u32" });
  for (const binding of Object.keys(kernel.bindings)) block.push({ name: `${binding}Base`, type: "u32" });
  for (const [binding, { access }] of Object.entries(kernel.bindings))
    if (access === "gradient") block.push({ name: addFlag(binding), type: "u32" });
  for (const [name, type] of Object.entries(kernel.params)) block.push({ name, type });
  blocks.set(kernel, block);
  return block;
}
