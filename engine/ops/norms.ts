// Frobenius norms. A kernel sums squares in fixed pieces of 4,096 elements, the host adds the pieces in float64: 64 terms an
// invocation and a tree of 64, so the norm errs by at most 70 · 2⁻²⁵ = 2e-6 and in practice by a tenth of that. A
// direction's norm is taken without ever storing the direction.
import { defineKernel } from "../kernel.ts";
import type { WordPair } from "../random.ts";
import { run } from "../run.ts";
import { scopeAsync } from "../scope.ts";
import { empty, readTensors, type Tensor } from "../tensor.ts";
import * as cpu from "./norms.cpu.ts";
import { directionFunctions, streamOf, streamParams } from "./random.ts";

const pieceElements = 4096;

const sumOfSquaresKernel = defineKernel({
  name: "tensorSquares",
  bindings: { x: { access: "read" }, partial: { access: "write" } },
  params: { count: "u32" },
  cpu: cpu.tensorSquares,
  wgsl: new URL("./norms.wgsl", import.meta.url),
  uses: ["flat-workgroup", "tree-sum"],
  constants: { LANES: 64 },
  workgroups: ({ count }) => [Math.ceil(count / pieceElements)],
});

const directionSquaresKernel = defineKernel({
  name: "directionSquares",
  bindings: { partial: { access: "write" } },
  params: { count: "u32", ...streamParams },
  cpu: cpu.directionSquares,
  wgsl: new URL("./norms-direction.wgsl", import.meta.url),
  uses: ["flat-workgroup", "tree-sum", ...directionFunctions],
  constants: { LANES: 64 },
  workgroups: ({ count }) => [Math.ceil(count / pieceElements)],
});

function rootOfSum(parts: readonly ArrayLike<number>[]): number {
  let sum = 0;
  for (const part of parts) for (let i = 0; i < part.length; i++) sum += part[i];
  return Math.sqrt(sum);
}

/** ‖x‖, the root of the sum of squares over all elements. */
export function norm(x: Tensor): Promise<number> {
  return scopeAsync(async () => {
    let first = 0;
    const partials = x.segments.map(({ rows }) => {
      const part = x.sliceRows(first, rows);
      first += rows;
      const partial = empty(x.backend, [Math.ceil(part.size / pieceElements)], x.dtype, "norm.partial");
      run(sumOfSquaresKernel, { x: part, partial }, { count: part.size });
      return partial;
    });
    return rootOfSum(await readTensors(partials));
  });
}

/** ‖g‖ of the stream's first normals, as many as `like` has elements (fewer than 2³²). */
export function normOfDirection(like: Tensor, key: WordPair, nameWords: WordPair): Promise<number> {
  return scopeAsync(async () => {
    const partial = empty(like.backend, [Math.ceil(like.size / pieceElements)], like.dtype, "norm.partial");
    run(directionSquaresKernel, { partial }, { count: like.size, ...streamOf(key, nameWords) });
    return rootOfSum(await readTensors([partial]));
  });
}
