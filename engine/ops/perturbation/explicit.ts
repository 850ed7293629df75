// Directions that are tensors on the device: adding a multiple of one to weights, and what norm rules and Gram–Schmidt
// need: products of rows, and a factor per row. Directions drawn from counters need no tensors (perturb.ts).
//
// All three change or read tensors as they are; none has a gradient.
import { noGradient } from "../../autograd.ts";
import type { NumberArray } from "../../dtype.ts";
import { ShapeError } from "../../errors.ts";
import { type AdapterStyle, type Constants, defineKernel } from "../../kernel.ts";
import { expectShape } from "../../op.ts";
import { run } from "../../run.ts";
import { scopeAsync } from "../../scope.ts";
import { empty, fromArray, type Tensor } from "../../tensor.ts";
import * as cpu from "./explicit.cpu.ts";

const fours = ({ rows, rowSize }: { rows: number; rowSize: number }): [number] => [Math.ceil((rows * rowSize) / 256)];

const addDirectionKernel = defineKernel({
  name: "addDirection",
  axes: { rows: "map" },
  bindings: { direction: { access: "read", axis: "rows" }, moved: { access: "update", axis: "rows" } },
  params: { rowSize: "u32", coefficient: "f32" },
  cpu: cpu.addDirection,
  wgsl: new URL("./add-direction.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: fours,
});

/** 64 lanes sum a row, as in frobenius-norm.ts: on software drivers 4 invocations share them. */
const manyInvocations: Constants = { INVOCATIONS: 64, SHARE: 1 };
const fewInvocations: Constants = { INVOCATIONS: 4, SHARE: 16 };

const rowProductsKernel = defineKernel({
  name: "rowProducts",
  axes: { rows: "map" },
  bindings: {
    x: { access: "read", axis: "rows" },
    y: { access: "read", axis: "rows" },
    products: { access: "write", axis: "rows" },
  },
  params: { rowSize: "u32" },
  cpu: cpu.rowProducts,
  wgsl: new URL("./row-products.wgsl", import.meta.url),
  uses: ["flat-workgroup", "lane-sums"],
  constants: { LANES: 64, ...manyInvocations },
  variants: [fewInvocations],
  form: (_: unknown, style: AdapterStyle): Constants => (style === "gpu" ? manyInvocations : fewInvocations),
  workgroups: ({ rows }) => [rows],
});

const scaleRowsKernel = defineKernel({
  name: "scaleRows",
  axes: { rows: "map" },
  bindings: { x: { access: "update", axis: "rows" }, factors: { access: "read", axis: "rows" } },
  params: { rowSize: "u32" },
  cpu: cpu.scaleRows,
  wgsl: new URL("./scale-rows.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: fours,
});

/**
 * moved ← moved + coefficient · direction, one fma per element: the rounding of `perturbIntoSlot`. A coefficient of 0
 * leaves every bit as it is.
 * @param direction  [O, …] f32
 * @param moved      of the same shape
 * @throws ShapeError when the shapes differ
 */
export function addDirection(moved: Tensor, direction: Tensor, coefficient: number): void {
  expectShape("addDirection", direction.shape, moved.shape, "A direction has the shape of its weight.");
  if (coefficient === 0) return;
  run(addDirectionKernel, { direction, moved }, { rowSize: moved.rowSize, coefficient });
}

/**
 * ⟨x_r, y_r⟩ of each row, on the host. Summed in f32 in a fixed order: the error of a row is at most (rowSize / 256 + 9)
 * · 2⁻²⁴ · Σ |x·y|.
 * @param x  [O, …] f32
 * @param y  of the same shape; may be x itself, for squared norms
 * @returns  [O]
 * @throws ShapeError when the shapes differ
 */
export function rowProducts(x: Tensor, y: Tensor): Promise<NumberArray> {
  expectShape("rowProducts", y.shape, x.shape, "Products are of rows of two tensors of one shape.");
  return scopeAsync(async () => {
    const products = empty(x.backend, [x.rows], x.dtype, "row products");
    noGradient(() => run(rowProductsKernel, { x, y, products }, { rowSize: x.rowSize }));
    return products.read();
  });
}

/**
 * x[r, …] ← x[r, …] · factors[r].
 * @param x        [O, …] f32
 * @param factors  [O]
 * @throws ShapeError when there is not one factor per row
 */
export async function scaleRows(x: Tensor, factors: ArrayLike<number>): Promise<void> {
  if (factors.length !== x.rows)
    throw new ShapeError(`scaleRows: expected one factor for each of ${x.rows} rows, got ${factors.length}`);
  await scopeAsync(async () => {
    const given = fromArray(x.backend, factors, [x.rows], x.dtype, "row factors");
    run(scaleRowsKernel, { x, factors: given }, { rowSize: x.rowSize });
  });
}
