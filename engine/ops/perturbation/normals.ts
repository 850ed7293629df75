// Standard normals on the device, as functions of names (engine/random.ts): the Gaussian of a direction as a tensor.
// Perturbing a weight needs no such tensor: perturb.ts draws the same numbers while it uses them.
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

/** The WGSL files of a kernel that draws from a stream. */
export const directionFunctions: readonly string[] = ["philox", "random-values", "direction"];

/**
 * The number of counters (fours of elements) that a cell of `rows` rows touches: it may begin and end inside a four.
 */
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
 * Fills a tensor with the standard normals of a stream: element e from the words of counter [e >> 2, e >> 34,
 * nameWords] under the key, e counted in the tensor's own layout. Within 4e-6 of float64; the same bits on one adapter
 * and driver, however the tensor is cut.
 * @param y  [...] f32, written
 */
export function writeNormals(y: Tensor, key: WordPair, nameWords: WordPair): void {
  run(normalsKernel, { y }, { rowSize: y.rowSize, ...streamOf(key, nameWords) });
}
