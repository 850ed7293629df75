// What an op that takes weights is given: a plain tensor, or one tensor for each of several perturbed policies of which
// every row of the batch uses its own. Models pass both through unread, so they never hear of directions.
import type { Tensor } from "./tensor.ts";

/** One weight matrix in the forms that ops read. */
export interface WeightTensors {
  /** Hugging Face's layout, [out, in] (or [V, C], or [C]). Absent where only the forward product will read it. */
  readonly rows: Tensor | null;
  /** The forward product's own copy: panels of eight outputs, [⌈out/8⌉, in, 8]. Absent for weights that are no matrix factor. */
  readonly panels: Tensor | null;
}

/** A linear layer's weight in f16, in both layouts: its products then take f16 operands. */
export interface HalfCopies {
  readonly rows: Tensor;
  readonly panels: Tensor;
}

export type Parameter =
  | {
      readonly kind: "tensor";
      readonly tensor: Tensor;
      readonly panels: Tensor | null;
      /** With it the weight is a linear layer's alone, and `panels` is null. Default: none. */
      readonly half?: HalfCopies;
    }
  /** A perturbed copy for each grid point under way. */
  | { readonly kind: "slots"; readonly shape: readonly number[]; readonly slots: ReadonlyMap<number, WeightTensors> };

/** A plain tensor as a parameter, and a parameter as it is: what ops do with the weights they are given. */
export function asParameter(weight: Tensor | Parameter): Parameter {
  return "kind" in weight ? weight : { kind: "tensor", tensor: weight, panels: null };
}

/** Rows start … start + count − 1 of a batch belong to grid point `point`. */
export interface RowGroup {
  readonly start: number;
  readonly count: number;
  readonly point: number;
}

/**
 * Which grid point each row of a batch belongs to, as runs of rows. It belongs to the batch, never to the weights; null
 * where all rows use plain tensors.
 */
export type BatchRows = readonly RowGroup[] | null;

/** Weights by Hugging Face's names. */
export interface Weights {
  get(name: string): Parameter;
}

/**
 * Calls `body` once for each run of rows that shares its weights: once with the whole batch for a plain tensor.
 */
export function forEachGroup(
  name: string,
  parameter: Parameter,
  rows: BatchRows,
  total: number,
  body: (weight: WeightTensors, start: number, count: number) => void,
): void {
  if (parameter.kind === "tensor") {
    body({ rows: parameter.tensor, panels: parameter.panels }, 0, total);
    return;
  }
  if (rows === null) throw new Error(`${name}: perturbed weights need the batch's rows`);
  let next = 0;
  for (const { start, count, point } of rows) {
    const slot = parameter.slots.get(point);
    if (slot === undefined) throw new Error(`${name}: no weights for grid point ${point}`);
    if (start !== next) throw new Error(`${name}: rows ${next} to ${start} belong to no grid point`);
    next = start + count;
    body(slot, start, count);
  }
  if (next !== total) throw new Error(`${name}: rows ${next} to ${total} belong to no grid point`);
}
