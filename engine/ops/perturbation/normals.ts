// Standard normals on the device, as functions of names (engine/random.ts): the Gaussian of a direction, for where it is
// wanted as a tensor. Perturbing a weight needs no such tensor: perturb.ts draws the same numbers where it uses them.
import { defineKernel } from "../../kernel.ts";
import type { WordPair } from "../../random.ts";
import { run } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import * as cpu from "./normals.cpu.ts";

/** Params that say which stream a kernel draws from. */
export const streamParams = { key0: "u32", key1: "u32", name0: "u32", name1: "u32" } as const;

export function streamOf(key: WordPair, nameWords: WordPair): cpu.Stream {
  return { key0: key[0], key1: key[1], name0: nameWords[0], name1: nameWords[1] };
}

/** What a kernel calls to draw from a stream. */
export const directionFunctions: readonly string[] = ["philox", "random-values", "direction"];

/** Fours of elements, as counters count them, that a cell of `rows` rows touches: its ends may lie within one. */
export function quadsTouched(rowsStart: number, rows: number, rowSize: number): number {
  const first = Math.floor((rowsStart * rowSize) / 4);
  return rows * rowSize === 0 ? 0 : Math.ceil(((rowsStart + rows) * rowSize) / 4) - first;
}

export const normalsKernel = defineKernel({
  name: "normals",
  axes: { rows: "map" },
  bindings: { y: { access: "write", axis: "rows" } },
  params: { rowSize: "u32", ...streamParams },
  cpu: cpu.normals,
  wgsl: new URL("./normals.wgsl", import.meta.url),
  uses: ["flat-workgroup", ...directionFunctions],
  workgroups: ({ rowsStart, rows, rowSize }) => [Math.ceil(quadsTouched(rowsStart, rows, rowSize) / 64)],
});

/**
 * Fills a tensor with the standard normals of a stream: element e from the words of counter [e >> 2, e >> 34, nameWords]
 * under the key, e counted in the tensor's own layout. Within 4e-6 of float64; the same bits on one adapter and driver,
 * however the tensor is cut.
 * @param y  [...] f32, written
 */
export function writeNormals(y: Tensor, key: WordPair, nameWords: WordPair): void {
  run(normalsKernel, { y }, { rowSize: y.rowSize, ...streamOf(key, nameWords) });
}
