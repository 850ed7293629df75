// Attention, and its forward pass with f16 operands, at the shapes of the embedded tiny model (a training batch of 123 dialogues, decoding 448 rows of which
// every eight share a prompt) and of Qwen2.5-0.5B (training at 128 to 512 tokens, decoding 1, 16 and 256 rows).
import { type GradientStore, record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { attentionOp, causalSpans } from "../../../../engine/ops/attention/attention.ts";
import { type AttentionForm, attentionFormOf } from "../../../../engine/ops/attention/matrix-attention.ts";
import { scope } from "../../../../engine/scope.ts";
import { empty, fromArray, type Shape, sizeOf, type Tensor } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";

/** Which keys each query sees, for heads [H, K, D]. */
interface Size {
  heads: readonly [H: number, K: number, D: number];
  slots: number;
  spans: Uint32Array;
  querySpans: Uint32Array | null;
}

function operand(backend: Backend, shape: Shape, seed: number): Tensor {
  const element = (i: number) => (Math.imul(i + seed, 2654435761) >>> 8) / 2 ** 23 - 1;
  return fromArray(
    backend,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => element(i)),
    shape,
  );
}

type Pass = "forward" | "f16 forward" | "backward";

function setUp(backend: Backend, pass: Pass, { heads: [H, K, D], slots: S, ...size }: Size): BenchWork {
  const T = size.spans.length / 4;
  const leaves = [operand(backend, [T, H, D], 1), operand(backend, [S, K, D], 2), operand(backend, [S, K, D], 3)];
  const [q, keys, values] = leaves;
  const spans = fromArray(backend, size.spans, [T, 4], "u32");
  const querySpans = size.querySpans === null ? null : fromArray(backend, size.querySpans, [S, 2], "u32");
  const operands = pass === "f16 forward" ? "f16" : "f32";
  const forward = () => attentionOp({ q, keys, values, spans, querySpans }, { scale: D ** -0.5, operands });
  if (pass !== "backward") {
    const { y } = forward();
    const form =
      operands === "f16" ? attentionFormOf(backend, { heads: H, keyHeads: K, headSize: D }, !querySpans) : null;
    const tolerance = form === null ? undefined : 2e-3;
    return {
      run: () => scope(() => void forward()),
      check: async () => compare("y", y, (await textbook(size.spans, leaves, [H, K, D])).y, tolerance),
      ...(operands === "f32" ? {} : { choice: form === null ? "f32 operands" : describeForm(form) }),
    };
  }
  for (const leaf of leaves) leaf.requiresGradient = true;
  const recording = record(forward);
  const dy = operand(backend, [T, H, D], 4);
  const targets = new Map(leaves.map((leaf) => [leaf, empty(backend, leaf.shape)]));
  const store: GradientStore = { target: (leaf) => targets.get(leaf), has: () => false, mark: () => {} };
  return {
    run: () => recording.backward(new Map([[recording.result.y, dy]]), store),
    check: async () => {
      const expected = await textbook(size.spans, [...leaves, dy], [H, K, D]);
      for (const [i, name] of (["dq", "dKeys", "dValues"] as const).entries()) {
        const target = targets.get(leaves[i]);
        if (target !== undefined) await compare(name, target, expected[name]);
      }
    },
  };
}

/** y and, if dy is among the operands, the gradients, in float64 by the formulas. */
async function textbook(
  spans: Uint32Array,
  operands: readonly Tensor[],
  [H, K, D]: Size["heads"],
): Promise<Record<"y" | "dq" | "dKeys" | "dValues", Float64Array>> {
  const [q, keys, values, dy] = await Promise.all(operands.map((tensor) => tensor.read()));
  const [y, dq] = [new Float64Array(q.length), new Float64Array(q.length)];
  const [dKeys, dValues] = [new Float64Array(keys.length), new Float64Array(keys.length)];
  const dot = (a: NumberArray, i: number, b: NumberArray, j: number) => {
    let sum = 0;
    for (let d = 0; d < D; d++) sum += a[i + d] * b[j + d];
    return sum;
  };
  for (let at = 0; at < q.length; at += D) {
    const [prefixStart, prefixLength, ownStart, length] = spans.subarray(4 * Math.floor(at / (H * D)));
    const keyHead = Math.floor((((at / D) % H) * K) / H);
    const places = Array.from({ length }, (_, j) => {
      const slot = j < prefixLength ? prefixStart + j : ownStart + j - prefixLength;
      return (slot * K + keyHead) * D;
    });
    const weights = places.map((place) => Math.exp(dot(q, at, keys, place) * D ** -0.5));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (const [j, place] of places.entries())
      for (let d = 0; d < D; d++) y[at + d] += (weights[j] / total) * values[place + d];
    if (dy === undefined) continue;
    const delta = dot(dy, at, y, at);
    for (const [j, place] of places.entries()) {
      const weight = weights[j] / total;
      const dScore = D ** -0.5 * weight * (dot(dy, at, values, place) - delta);
      for (let d = 0; d < D; d++) {
        dq[at + d] += dScore * keys[place + d];
        dKeys[place + d] += dScore * q[at + d];
        dValues[place + d] += weight * dy[at + d];
      }
    }
  }
  return { y, dq, dKeys, dValues };
}

function describeForm({ MATRIX_ROWS, MATRIX_COLUMNS, MATRIX_STEPS, SUBGROUPS }: AttentionForm): string {
  const rows = MATRIX_ROWS * SUBGROUPS;
  return `matrix units ${MATRIX_ROWS}×${MATRIX_COLUMNS}×${MATRIX_STEPS}, ${rows} rows per workgroup`;
}

/** @param tolerance  of the largest expected element; with f16 operands these are not rounded beforehand */
async function compare(name: string, actual: Tensor, expected: Float64Array, tolerance = 2e-5): Promise<void> {
  const found = await actual.read();
  let scale = 0;
  for (const value of expected) scale = Math.max(scale, Math.abs(value));
  for (const [i, value] of expected.entries())
    if (!(Math.abs(found[i] - value) <= tolerance * scale))
      throw new Error(`${name}[${i}]: expected ${value}, got ${found[i]}`);
}

function training(heads: Size["heads"], lengths: readonly number[]): Size {
  const { spans, querySpans } = causalSpans(lengths);
  return { heads, slots: querySpans.length / 2, spans, querySpans };
}

/** Rows of `own` tokens each after a prompt of `prefix` tokens, which is shared by `sharing` neighbouring rows. */
function decoding(heads: Size["heads"], rows: number, prefix: number, own: number, sharing: number): Size {
  const prompts = Math.ceil(rows / sharing) * prefix;
  const spans = Array.from({ length: rows }, (_, row) => [
    Math.floor(row / sharing) * prefix,
    prefix,
    prompts + row * own,
    prefix + own,
  ]);
  return { heads, slots: prompts + rows * own, spans: Uint32Array.from(spans.flat()), querySpans: null };
}

const tiny = [4, 2, 16] as const;
const half = [14, 2, 64] as const; // Qwen2.5-0.5B
const sizes: Record<string, Size> = {
  "tiny, 123 dialogues of 73 tokens": training(tiny, new Array(123).fill(73)),
  "decode tiny, 448 rows at 50 keys": decoding(tiny, 448, 30, 20, 8),
  "0.5B, 2 sequences of 128": training(half, [128, 128]),
  "0.5B, 128 tokens": training(half, [128]),
  "0.5B, 512 tokens": training(half, [512]),
  "decode 0.5B, 1 row at 256 keys": decoding(half, 1, 200, 56, 1),
  "decode 0.5B, 16 rows at 256 keys": decoding(half, 16, 200, 56, 16),
  "decode 0.5B, 256 rows at 256 keys": decoding(half, 256, 200, 56, 16),
};

/**
 * Products per pair of query and key. Forward: q·k and p·v. Backward: q·k and dy·v twice, since two kernels need them,
 * and the three gradients.
 */
const products: Readonly<Record<Pass, number>> = { forward: 2, "f16 forward": 2, backward: 7 };

export const cases: readonly BenchCase[] = Object.entries(sizes).flatMap(([name, size]) =>
  (["forward", "f16 forward", "backward"] as const)
    .filter((pass) => pass !== "backward" || size.querySpans !== null)
    .map((pass) => {
      const [H, K, D] = size.heads;
      const T = size.spans.length / 4;
      const pairs = size.spans.reduce((sum, value, i) => sum + (i % 4 === 3 ? value : 0), 0) * H;
      return {
        name: `attention ${pass} ${name}`,
        flops: 2 * products[pass] * pairs * D,
        bytes:
          4 * (pass !== "backward" ? 2 * T * H * D + 2 * size.slots * K * D : 4 * (T * H * D + size.slots * K * D)),
        setUp: (backend: Backend) => setUp(backend, pass, size),
      };
    }),
);
