// Rows of a tensor, selected by a list of indices that the host knows.

import { reshape, shouldRecord } from "../../autograd.ts";
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp } from "../../op.ts";
import { scope } from "../../scope.ts";
import { fromArray, type Tensor } from "../../tensor.ts";
import {
  elementConstants,
  elementForm,
  elementVariants,
  elementWorkgroups,
  runConstants,
  runForm,
  runVariants,
} from "../elementwise/work-split.ts";
import { embedding } from "../embedding/embedding.ts";
import * as cpu from "./gather.cpu.ts";

/** Marks a row without a source in a list of row numbers. */
const absent = 0xffffffff;

// Over the segments of x, each dispatch writes the rows that it holds; together they write every row once.
const gatherKernel = defineKernel({
  name: "gatherRows",
  axes: { rows: "map", source: "reduce" },
  bindings: {
    x: { access: "read", axis: "source" },
    indices: { access: "read", axis: "rows" },
    y: { access: "write", axis: "rows" },
  },
  params: { rowSize: "u32" },
  cpu: cpu.gatherRows,
  wgsl: new URL("./gather.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: runConstants,
  variants: runVariants,
  form: (p, style) => runForm(style, p.rowSize, p.xBase, p.yBase),
  workgroups: ({ rows, rowSize }, constants) => elementWorkgroups(rows * rowSize, constants),
});

const scatterKernel = defineKernel({
  name: "scatterRows",
  axes: { rows: "map", source: "reduce" },
  bindings: {
    dy: { access: "read", axis: "source" },
    places: { access: "read", axis: "rows" },
    dx: { access: "gradient", axis: "rows" },
  },
  params: { rowSize: "u32" },
  cpu: cpu.scatterRows,
  wgsl: new URL("./gather-backward.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rowSize, p.dyBase, p.dxBase),
  workgroups: ({ rows, rowSize }, constants) => elementWorkgroups(rows * rowSize, constants),
});

/** The op below `gatherRows`. With a backward pass each index occurs once. */
export const gatherRowsOp = defineOp<"x", "y", never, { indices: Uint32Array }>({
  name: "gatherRows",
  shapes: ({ x }, { indices }) => {
    if (x.length === 0) throw new ShapeError("gatherRows: x: expected [T, …], got a scalar.");
    for (const index of indices)
      if (index >= x[0]) throw new ShapeError(`gatherRows: index ${index}: expected a row of [${x}], below ${x[0]}.`);
    return { y: [indices.length, ...x.slice(1)] };
  },
  forward: (run, { x }, { y }, { indices }) =>
    scope(() => {
      const list = fromArray(x.backend, indices, [indices.length], "u32", "gatherRows.indices");
      run(gatherKernel, { x, indices: list, y }, { rowSize: x.rowSize });
    }),
  // dx[indices[i]] = dy[i], 0 elsewhere. Each row of dx looks up its one row of dy, so no element is added twice.
  vjp: (run, { x }, { y }, d, { indices }) => {
    if (!d.x) return;
    const places = new Uint32Array(x.rows).fill(absent);
    indices.forEach((row, i) => {
      places[row] = i;
    });
    const list = fromArray(x.backend, places, [x.rows], "u32", "gatherRows.places");
    run(scatterKernel, { dy: y, places: list, dx: d.x }, { rowSize: x.rowSize });
  },
});

/**
 * Rows of a tensor: y[i] = x[indices[i]]. The gradients of a row that occurs several times add up, in the order of the indices.
 * @param x        [T, …] f32
 * @param indices  [N] whole numbers below T
 * @returns        [N, …]
 * @throws ShapeError when an index is not a row of x
 */
export function gatherRows(x: Tensor, indices: readonly number[] | Uint32Array): Tensor {
  for (const index of indices)
    if (!Number.isInteger(index) || index < 0 || index >= x.rows)
      throw new ShapeError(
        `gatherRows: index ${index}: expected a row of [${x.shape}], a whole number below ${x.rows}.`,
      );
  if (!shouldRecord([x]) || new Set(indices).size === indices.length)
    return gatherRowsOp({ x }, { indices: Uint32Array.from(indices) }).y;
  // Equal ids add up in an embedding's gradient.
  return reshape(embedding(indices, reshape(x, [x.rows, x.rowSize])), [indices.length, ...x.shape.slice(1)]);
}
