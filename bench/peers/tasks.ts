// The tasks of foothold and its peers: the same sizes, the same numbers, and the same check of the results. A
// contestant may store a weight in the layout that suits it best; results are compared in one layout. Checks compute in
// float64 by plain loops, or, for the whole layer, by foothold's plain backend in float64, which shares no kernel with
// the WebGPU one.
import { qwen2Model } from "../../model/index.ts";
import { unit } from "../operands.ts";

export type Task =
  | { kind: "matmul"; name: string; T: number; C: number; O: number }
  | { kind: "attention"; name: string; T: number; pass: "forward" | "forward and gradients" }
  | { kind: "layer"; name: string; T: number };

/** Query heads, key heads and head size of Qwen2.5-0.5B. */
export const heads = { H: 14, K: 2, D: 64 } as const;

/** One layer of Qwen2.5-0.5B between an embedding of few ids and the final norm. */
export const layerConfig = qwen2Model({
  vocabSize: 512,
  hiddenSize: 896,
  intermediateSize: 4864,
  numHiddenLayers: 1,
  numAttentionHeads: heads.H,
  numKeyValueHeads: heads.K,
  headDim: heads.D,
  maxPositionEmbeddings: 32_768,
  ropeTheta: 1_000_000,
  rmsNormEps: 1e-6,
  tieWordEmbeddings: true,
  eosTokenIds: [],
});

export const tasks: readonly Task[] = [
  ...(
    [
      [1024, 1024, 1024],
      [256, 896, 4864],
      [256, 4864, 896],
    ] as const
  ).map(([T, C, O]) => ({ kind: "matmul" as const, name: `matmul ${T}×${C}×${O}`, T, C, O })),
  ...[128, 512].flatMap((T) =>
    (["forward", "forward and gradients"] as const).map((pass) => ({
      kind: "attention" as const,
      name: `attention ${pass}, ${T} tokens`,
      T,
      pass,
    })),
  ),
  { kind: "layer", name: "layer forward and gradients, 256 tokens", T: 256 },
];

/** Floating-point operations: a multiply-add is two. Attention counts only the pairs that the causal mask allows. */
export function flopsOf(task: Task): number {
  const { H, K, D } = heads;
  const pairs = ((task.T * (task.T + 1)) / 2) * H;
  switch (task.kind) {
    case "matmul":
      return 2 * task.T * task.C * task.O;
    case "attention":
      // q·k and p·v; the gradients need both again, dy·v, and three products.
      return 2 * pairs * D * (task.pass === "forward" ? 2 : 2 + 7);
    case "layer": {
      const { hiddenSize: C, intermediateSize: F } = layerConfig;
      const weights = C * (H * D) * 2 + C * K * D * 2 + 3 * C * F;
      return 3 * 2 * task.T * weights + 2 * pairs * D * (2 + 7);
    }
    default:
      return task satisfies never;
  }
}

/** Pseudo-random numbers in [-1, 1) · scale. */
export function numbers(count: number, seed: number, scale = 1): Float32Array {
  return Float32Array.from({ length: count }, (_, place) => (2 * unit(place, seed) - 1) * scale);
}

/** [rows, columns] to [columns, rows]. */
export function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const other = new Float32Array(matrix.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) other[j * rows + i] = matrix[i * columns + j];
  return other;
}

export function matmulOperands({ T, C, O }: Task & { kind: "matmul" }): { x: Float32Array; weight: Float32Array } {
  return { x: numbers(T * C, 1), weight: numbers(O * C, 2) }; // [T, C], [O, C]
}

export function attentionOperands(T: number): Record<"q" | "k" | "v" | "dy", Float32Array> {
  const { H, K, D } = heads;
  return { q: numbers(T * H * D, 1), k: numbers(T * K * D, 2), v: numbers(T * K * D, 3), dy: numbers(T * H * D, 4) };
}

/** Results by name, each in the layout that `check` expects. */
export type Results = Record<string, Float32Array>;

/** @throws Error that names result, element, and both numbers */
export function expectClose(name: string, found: Float32Array, wanted: ArrayLike<number>, tolerance: number): void {
  if (found.length < wanted.length) throw new Error(`${name}: expected ${wanted.length} elements, got ${found.length}`);
  let scale = 0;
  for (let i = 0; i < wanted.length; i++) scale = Math.max(scale, Math.abs(wanted[i]));
  for (let i = 0; i < wanted.length; i++)
    if (!(Math.abs(found[i] - wanted[i]) <= tolerance * scale))
      throw new Error(`${name}: element ${i}: expected ${wanted[i]}, got ${found[i]}`);
}

/** x · weightᵀ, checked at 2,000 elements spread over it. */
export function checkMatmul(task: Task & { kind: "matmul" }, { y }: Results): void {
  const { T, C, O } = task;
  const { x, weight } = matmulOperands(task);
  const step = Math.max(1, Math.floor((T * O) / 2000));
  const [found, wanted]: [number[], number[]] = [[], []];
  for (let place = T * O - 1; place >= 0; place -= step) {
    const [t, o] = [Math.floor(place / O), place % O];
    let sum = 0;
    for (let c = 0; c < C; c++) sum += x[t * C + c] * weight[o * C + c];
    found.push(y[place]);
    wanted.push(sum);
  }
  expectClose("y", Float32Array.from(found), wanted, 2e-5);
}

/** Causal attention and its gradients, every element. */
export function checkAttention({ T, pass }: Task & { kind: "attention" }, results: Results): void {
  const { H, K, D } = heads;
  const { q, k, v, dy } = attentionOperands(T);
  const expected = {
    y: new Float64Array(q.length),
    dq: new Float64Array(q.length),
    dk: new Float64Array(k.length),
    dv: new Float64Array(v.length),
  };
  const dot = (a: ArrayLike<number>, i: number, b: ArrayLike<number>, j: number): number => {
    let sum = 0;
    for (let d = 0; d < D; d++) sum += a[i + d] * b[j + d];
    return sum;
  };
  const weights = new Float64Array(T);
  for (let t = 0; t < T; t++)
    for (let head = 0; head < H; head++) {
      const at = (t * H + head) * D;
      const keyAt = (j: number): number => (j * K + Math.floor((head * K) / H)) * D;
      let total = 0;
      for (let j = 0; j <= t; j++) {
        weights[j] = Math.exp(dot(q, at, k, keyAt(j)) * D ** -0.5);
        total += weights[j];
      }
      for (let j = 0; j <= t; j++)
        for (let d = 0; d < D; d++) expected.y[at + d] += (weights[j] / total) * v[keyAt(j) + d];
      if (pass === "forward") continue;
      const delta = dot(dy, at, expected.y, at);
      for (let j = 0; j <= t; j++) {
        const p = weights[j] / total;
        const place = keyAt(j);
        const dScore = D ** -0.5 * p * (dot(dy, at, v, place) - delta);
        for (let d = 0; d < D; d++) {
          expected.dq[at + d] += dScore * k[place + d];
          expected.dk[place + d] += dScore * q[at + d];
          expected.dv[place + d] += p * dy[at + d];
        }
      }
    }
  expectClose("y", results["y"], expected.y, 2e-5);
  if (pass === "forward") return;
  for (const name of ["dq", "dk", "dv"] as const) expectClose(name, results[name], expected[name], 2e-5);
}
