// Inputs of attention with f16 operands, and its results and gradients on a backend, for its tests.

import { record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { f16ToF32, f32ToF16 } from "../../../../engine/dtype-conversion.ts";
import { attentionOp, causalSpans } from "../../../../engine/ops/attention/attention.ts";
import { matrixUnits } from "../../../../engine/ops/shared/matrix-units.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { reference, testBackends, webgpuBackend } from "../../../backends.ts";
import { normals } from "../../check-op.ts";

/** Heads: [H, K, D]. */
export type Heads = readonly [number, number, number];

export interface Given {
  heads: Heads;
  q: ArrayLike<number>;
  keys: ArrayLike<number>;
  values: ArrayLike<number>;
  spans: ArrayLike<number>;
  querySpans?: ArrayLike<number>;
}

export const scale = 0.5;
export const halved = (values: ArrayLike<number>): Float64Array =>
  Float64Array.from(values, (value) => f16ToF32(f32ToF16(value)));
export const halfNormals = (seed: number, count: number, spread = 1): Float64Array =>
  halved(normals(seed, count, spread));

/** Tensors of a backend. */
export function tensorsOf(backend: Backend, given: Given) {
  const [H, K, D] = given.heads;
  const dtype = backend === reference ? "f64" : "f32";
  const rows = (values: ArrayLike<number>, heads: number): Tensor =>
    fromArray(backend, values, [values.length / (heads * D), heads, D], dtype);
  const table = (from: ArrayLike<number>, width: number): Tensor =>
    fromArray(backend, from, [from.length / width, width], "u32");
  return {
    rows,
    inputs: {
      q: rows(given.q, H),
      keys: rows(given.keys, K),
      values: rows(given.values, K),
      spans: table(given.spans, 4),
      querySpans: given.querySpans === undefined ? null : table(given.querySpans, 2),
    },
  };
}

/** The gradients of q and, with querySpans, of keys and values. */
export async function gradients(
  backend: Backend,
  given: Given,
  dy: ArrayLike<number>,
  operands: "f16" | "f32",
  factor = scale,
): Promise<NumberArray[]> {
  return scopeAsync(async () => {
    const { rows, inputs } = tensorsOf(backend, given);
    const leaves = given.querySpans === undefined ? [inputs.q] : [inputs.q, inputs.keys, inputs.values];
    for (const leaf of leaves) leaf.requiresGradient = true;
    const targets = new Map(leaves.map((leaf) => [leaf, empty(backend, leaf.shape, leaf.dtype)]));
    const recording = record(() => attentionOp(inputs, { scale: factor, operands }));
    recording.backward(new Map([[recording.result.y, rows(dy, given.heads[0])]]), {
      target: (leaf) => targets.get(leaf),
      has: () => false,
      mark: () => {},
    });
    return readTensors([...targets.values()]);
  });
}

/** y and logSumExp. */
export async function evaluate(
  backend: Backend,
  given: Given,
  operands: "f16" | "f32",
  factor = scale,
): Promise<NumberArray[]> {
  return scopeAsync(async () => {
    const { inputs } = tensorsOf(backend, given);
    const { y, logSumExp } = attentionOp(inputs, { scale: factor, operands });
    return readTensors([y, logSumExp]);
  });
}

/** Inputs of a check on spans that are given in full. */
export function along(spans: ArrayLike<number>, querySpans: ArrayLike<number>, [H, K, D]: Heads) {
  const [T, S] = [spans.length / 4, querySpans.length / 2];
  return {
    q: [T, H, D],
    keys: [S, K, D],
    values: [S, K, D],
    spans: { shape: [T, 4], values: spans, dtype: "u32" },
    querySpans: { shape: [S, 2], values: querySpans, dtype: "u32" },
  } as const;
}

export function causal(lengths: readonly number[], heads: Heads, cachedLengths?: readonly number[]) {
  const { spans, querySpans } = causalSpans(lengths, cachedLengths);
  return along(spans, querySpans, heads);
}

/** Rows that share a prefix in slots 3 …, each followed by an own sequence in slots of any order. */
export function withPrefix(heads: Heads, prefix: number, owns: readonly number[]): Given {
  const [H, K, D] = heads;
  const order = owns.map((_, row) => row).toReversed();
  let slots = 3 + prefix;
  const starts: number[] = [];
  for (const row of order) {
    starts[row] = slots;
    slots += owns[row] + (row % 3);
  }
  const spans = owns.flatMap((own, row) =>
    Array.from({ length: own }, (_, i) => [3, prefix, starts[row], prefix + i + 1]).flat(),
  );
  const T = spans.length / 4;
  return {
    heads,
    q: halfNormals(1, T * H * D),
    keys: halfNormals(2, slots * K * D),
    values: halfNormals(3, slots * K * D),
    spans,
  };
}

/**
 * Weights are rounded to f16, to within 2⁻¹¹ each: y errs by at most that times Σ p·|values|, which may be a few times
 * the largest |y| where values cancel.
 */
export const tolerance = { ofScale: 2e-3, absolute: 1e-6 };
/** Log-sum-exp sees no rounded weight. */
export const sumTolerance = { ofScale: 2e-5, absolute: 1e-5 };

export const { name: adapterName, backend: whole } = await webgpuBackend();
export const all = await testBackends();
/** Those with matrix units. */
export const backends = all.filter(({ backend }) => matrixUnits(backend) !== null);
