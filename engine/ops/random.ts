// Direction Gaussians on the device: the standard normals of a (key, tensor name), element by element in Hugging Face's layout.
import { defineKernel } from "../kernel.ts";
import type { WordPair } from "../random.ts";
import { run } from "../run.ts";
import type { Tensor } from "../tensor.ts";
import * as cpu from "./random.cpu.ts";

/** Params that say which stream a kernel draws from. */
export const streamParams = { key0: "u32", key1: "u32", name0: "u32", name1: "u32" } as const;

export function streamOf(key: WordPair, nameWords: WordPair): { key0: number; key1: number; name0: number; name1: number } {
  return { key0: key[0], key1: key[1], name0: nameWords[0], name1: nameWords[1] };
}

/** Quads of elements that a cell of `rows` rows touches: its ends may lie within a quad. */
export function quadsTouched(rowsStart: number, rows: number, rowSize: number): number {
  const first = Math.floor((rowsStart * rowSize) / 4);
  return rows * rowSize === 0 ? 0 : Math.ceil(((rowsStart + rows) * rowSize) / 4) - first;
}

const normalsKernel = defineKernel({
  name: "normals",
  axes: { rows: "map" },
  bindings: { y: { access: "write", axis: "rows" } },
  params: { rowSize: "u32", ...streamParams },
  cpu: cpu.normals,
  wgsl: new URL("./normals.wgsl", import.meta.url),
  uses: ["flat-workgroup", "philox", "random-values"],
  workgroups: ({ rowsStart, rows, rowSize }) => [Math.ceil(quadsTouched(rowsStart, rows, rowSize) / 64)],
});

/** Writes the stream's normals into a tensor of fewer than 2³⁴ elements: y[e] is normal number e. */
export function writeNormals(y: Tensor, key: WordPair, nameWords: WordPair): void {
  run(normalsKernel, { y }, { rowSize: y.rowSize, ...streamOf(key, nameWords) });
}
