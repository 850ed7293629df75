// A weighted sum of Gaussians that are not stored: the step of evolution strategies is one. Each Gaussian is drawn again from
// its counters, so the sum needs no memory but its result.
import { noGradient } from "../../autograd.ts";
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import type { WordPair } from "../../random.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { fromArray, type Tensor } from "../../tensor.ts";
import { directionFunctions, quadsTouched } from "./normals.ts";
import * as cpu from "./weighted-normals.cpu.ts";

const weightedNormalsKernel = defineKernel({
  name: "weightedNormals",
  axes: { rows: "map" },
  bindings: { keys: { access: "read" }, coefficients: { access: "read" }, y: { access: "write", axis: "rows" } },
  params: { rowSize: "u32", count: "u32", name0: "u32", name1: "u32" },
  cpu: cpu.weightedNormals,
  wgsl: new URL("./weighted-normals.wgsl", import.meta.url),
  uses: ["flat-workgroup", ...directionFunctions],
  workgroups: ({ rowsStart, rows, rowSize }) => [Math.ceil(quadsTouched(rowsStart, rows, rowSize) / 64)],
});

/** One term of a sum: a stream's key and its coefficient. */
export interface WeightedStream {
  readonly key: WordPair;
  readonly coefficient: number;
}

/**
 * y[e] = Σ_k c_k · g_k[e], with g_k the standard normals of stream k for this name (`writeNormals`). In f32, k ascending, one
 * fma each: the same bits on one adapter and driver, however the tensor is cut. The error is at most
 * (4e-6 + K · 2⁻²⁴ · max|g|) · Σ|c_k|.
 * @param y          [...] f32, written
 * @param nameWords  `wordsOf` the tensor's name
 * @param streams    K terms, at least one
 * @throws ShapeError when there is no term
 */
export function writeWeightedNormals(y: Tensor, nameWords: WordPair, streams: readonly WeightedStream[]): void {
  const count = streams.length;
  if (count === 0) throw new ShapeError("writeWeightedNormals: expected at least one stream, got none.");
  const { backend, dtype, rowSize } = y;
  scope(() => {
    const words = streams.flatMap(({ key }) => key);
    const keys = fromArray(backend, words, [count, 2], "u32", "stream keys");
    const weights = streams.map(({ coefficient }) => coefficient);
    const coefficients = fromArray(backend, weights, [count], dtype, "stream coefficients");
    const params = { rowSize, count, name0: nameWords[0], name1: nameWords[1] };
    noGradient(() => run(weightedNormalsKernel, { keys, coefficients, y }, params));
  });
}
