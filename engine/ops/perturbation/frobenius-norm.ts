// Frobenius norms. A kernel sums squares in pieces of 4,096 elements; the host adds the pieces in float64. Each of an
// invocation's four sums has sixteen terms; two levels join these, and six levels join the invocations. All terms are
// positive, so the sum has a relative error of at most 24 · 2⁻²⁴, and the norm half of that. The norm of a direction is
// computed without storing the direction.
//
// Squares are f32: an element above 1e19 makes the norm infinite, and elements below 1e-19 count as 0.
import { noGradient } from "../../autograd.ts";
import { type AdapterStyle, type Constants, defineKernel } from "../../kernel.ts";
import type { WordPair } from "../../random.ts";
import { run } from "../../run.ts";
import { scopeAsync } from "../../scope.ts";
import { empty, readTensors, type Segment, type Tensor } from "../../tensor.ts";
import * as cpu from "./frobenius-norm.cpu.ts";
import { directionFunctions, streamOf, streamParams } from "./normals.ts";

const pieceElements = 4096;
/**
 * 64 lanes sum a piece. On a GPU there is one invocation per lane; on software drivers barriers are expensive, so 4
 * invocations share them.
 */
const manyInvocations: Constants = { INVOCATIONS: 64, SHARE: 1 };
const fewInvocations: Constants = { INVOCATIONS: 4, SHARE: 16 };
const lanes = {
  constants: { LANES: 64, PIECE: pieceElements, ...manyInvocations },
  variants: [fewInvocations],
  form: (_: unknown, style: AdapterStyle): Constants => (style === "gpu" ? manyInvocations : fewInvocations),
};
const piecesOf = (count: number): number => Math.ceil(count / pieceElements);

const tensorSquaresKernel = defineKernel({
  name: "tensorSquares",
  bindings: { x: { access: "read" }, partial: { access: "write" } },
  params: { count: "u32" },
  cpu: cpu.tensorSquares,
  wgsl: new URL("./frobenius-norm.wgsl", import.meta.url),
  uses: ["flat-workgroup", "lane-sums"],
  ...lanes,
  workgroups: ({ count }) => [piecesOf(count)],
});

export const directionSquaresKernel = defineKernel({
  name: "directionSquares",
  bindings: { partial: { access: "write" } },
  /**
   * The index of the first quad of elements in 64 bits, a multiple of 2²⁸, and the number of elements from there on.
   */
  params: { quadLow: "u32", quadHigh: "u32", count: "u32", ...streamParams },
  cpu: cpu.directionSquares,
  wgsl: new URL("./frobenius-norm-direction.wgsl", import.meta.url),
  uses: ["flat-workgroup", "lane-sums", ...directionFunctions],
  ...lanes,
  workgroups: ({ count }) => [piecesOf(count)],
});

/** Elements of a direction in one dispatch. */
const mostElements = 2 ** 30;

async function rootOfSum(partials: readonly Tensor[]): Promise<number> {
  let sum = 0;
  for (const partial of await readTensors(partials)) for (let i = 0; i < partial.length; i++) sum += partial[i];
  return Math.sqrt(sum);
}

/**
 * ‖x‖ = √Σ x² over all elements, on the host and without a gradient. Relative error at most 7.2e-7; the same bits on
 * one adapter and driver.
 * @param x  [...] f32
 */
export function norm(x: Tensor): Promise<number> {
  let first = 0;
  const sumsOf = ({ rows }: Segment): Tensor => {
    const part = x.sliceRows(first, rows);
    first += rows;
    const partial = empty(x.backend, [piecesOf(part.size)], x.dtype, "norm.partial");
    run(tensorSquaresKernel, { x: part, partial }, { count: part.size });
    return partial;
  };
  return scopeAsync(() => rootOfSum(noGradient(() => x.segments.map(sumsOf))));
}

/**
 * ‖g‖ of a direction's Gaussian (`writeNormals`), for a tensor with as many elements as `like`. It sums exactly the
 * numbers that the device draws when it perturbs.
 * @param like  gives size, backend and dtype; its content is not read
 */
export function normOfDirection(like: Tensor, key: WordPair, nameWords: WordPair): Promise<number> {
  return scopeAsync(() => {
    const partials: Tensor[] = [];
    for (let first = 0; first < like.size; first += mostElements) {
      const count = Math.min(mostElements, like.size - first);
      const partial = empty(like.backend, [piecesOf(count)], like.dtype, "norm.partial");
      const quad = { quadLow: (first / 4) % 2 ** 32, quadHigh: Math.floor(first / 2 ** 34) };
      run(directionSquaresKernel, { partial }, { ...quad, count, ...streamOf(key, nameWords) });
      partials.push(partial);
    }
    return rootOfSum(partials);
  });
}
