// Products of one x with several weights in one dispatch, if the weights' panels follow each other in memory. Each sum
// is the same as in a separate dispatch, in the same order, so the bits are the same too.
//
// The tensors themselves show whether memory is laid out in this way. It is for the weights of one `group` in a
// `ParameterArena` and in the slots of perturbed weights. Otherwise, and for odd sizes, each weight has its own
// dispatch.
import { type AdapterStyle, defineKernel } from "../../kernel.ts";
import { run } from "../../run.ts";
import { spanOf, Tensor } from "../../tensor.ts";
import {
  areInFours,
  chooseRowKernel,
  matrixFormFor,
  operandType,
  type RowsBody,
  rowKernels,
  tryRowKernel,
} from "./bodies.ts";
import { gatedContract, tripleContract } from "./contracts.ts";
import * as cpu from "./joined.cpu.ts";

function tripleKernel({ nameOf, uses, constants, variants, rows: rowsOf, columns: columnsOf }: RowsBody) {
  return defineKernel({
    name: nameOf("Triple"),
    ...tripleContract,
    cpu: cpu.multiplyTriple,
    wgsl: new URL("./matmul-triple.wgsl", import.meta.url),
    uses: [...uses, "all-rows"],
    constants,
    variants,
    workgroups: ({ rows, firstColumns, secondColumns, thirdColumns }, own) => [
      Math.ceil(rows / rowsOf(own)),
      Math.ceil((firstColumns + secondColumns + thirdColumns) / columnsOf(own)),
      1,
    ],
    flops: ({ rows, width, firstColumns, secondColumns, thirdColumns }) =>
      2 * rows * width * (firstColumns + secondColumns + thirdColumns),
  });
}

/** What a gated product stores: y in f32, or in f16, the operand of the next product, four numbers at a time. */
export const gatedOutputs = {
  f32: { ending: "", uses: ["sigmoid", "output-f32"], stored: (result: string) => result },
  f16: { ending: "ToHalf", uses: ["sigmoid", "output-half-fours", "halves"], stored: () => "vec2u" },
} as const;

function gatedKernel(output: "f32" | "f16") {
  const { ending, uses: ofOutput, stored } = gatedOutputs[output];
  return ({ nameOf, uses, constants, variants, rows: rowsOf, columns: columnsOf }: RowsBody) =>
    defineKernel({
      name: nameOf(`Gated${ending}`),
      ...gatedContract,
      cpu: output === "f32" ? cpu.multiplyGated : cpu.multiplyGatedToHalf,
      wgsl: new URL("./matmul-gated.wgsl", import.meta.url),
      uses: [...uses, "all-rows", ...ofOutput],
      constants: { ...constants, Vector: constants["Result"], Stored: stored(String(constants["Result"])) },
      variants,
      workgroups: ({ rows, columns }, own) => [Math.ceil(rows / rowsOf(own)), Math.ceil(columns / columnsOf(own)), 1],
      flops: ({ rows, width, columns, products }) => 2 * rows * width * columns * products,
    });
}

const tripleKernels = rowKernels(tripleKernel);
const gatedKernels = {
  f32: rowKernels(gatedKernel("f32"), { inFours: true }),
  f16: rowKernels(gatedKernel("f16"), { inFours: true, onlyFours: true }),
};

/**
 * From this many rows on each weight is multiplied by itself: a dispatch is then cheap beside its work, and the joined
 * kernels are slower, because they choose the output of every store.
 *
 * Measured by processor time on 2 busy cores, 64 inputs, joined ÷ apart (AMD EPYC, Zen 4). Lavapipe, Mesa 25.0.7: three
 * outputs 1.00 at 1,024 rows, 1.0 to 1.1 at 2,048, 1.05 to 1.13 at 4,096; gated 0.92 to 1.05 at 1,024 to 4,096 rows.
 * SwiftShader: three outputs 0.99 at 512 and 1.05 at 2,048; gated 1.05 to 1.1 at 256 to 2,048.
 */
const rowsApart: Readonly<Record<AdapterStyle, { triple: number; gated: number }>> = {
  lavapipe: { triple: 2048, gated: Number.POSITIVE_INFINITY },
  swiftshader: { triple: 2048, gated: 256 },
  gpu: { triple: Number.POSITIVE_INFINITY, gated: Number.POSITIVE_INFINITY },
  plain: { triple: Number.POSITIVE_INFINITY, gated: Number.POSITIVE_INFINITY },
};

/** Whether this adapter multiplies so many rows faster by each weight by itself. Matrix units were not measured. */
export function isFasterApart(what: "triple" | "gated", x: Tensor, right: Tensor): boolean {
  const operands = operandType("linear", x, right);
  return matrixFormFor(x.backend, "forward", operands, x.rows) === null && x.rows >= rowsApart[x.backend.style][what];
}

/** Three of a kind: query, key and value. */
export type Triple<T> = readonly [T, T, T];

/**
 * y_i = x · W_iᵀ + b_i for three weights.
 * @param x       [T, C] f32 or f16
 * @param panels  [O_i/8, C, 8] each, of the type of x
 * @param biases  [O_i] each, or null for none
 * @param ys      [T, O_i] f32, written
 * @returns       false, and nothing is done, if the weights do not follow each other in memory, biases lie in several
 *                buffers, an O_i is no multiple of 8, or this adapter is faster without at so many rows
 */
export function multiplyTriple(
  x: Tensor,
  panels: Triple<Tensor>,
  biases: Triple<Tensor> | null,
  ys: Triple<Tensor>,
): boolean {
  const right = joined(panels);
  const bias = biases === null ? null : spanOf(biases);
  if (right === null || (biases !== null && bias === null) || !fillPanels(panels, ys)) return false;
  if (isFasterApart("triple", x, right)) return false;
  const inFours = areInFours([x.rowSize], [x, right, ...ys]);
  const { kernel, constants } = chooseRowKernel(tripleKernels, "linearTriple", x, right, inFours);
  const [firstBias, secondBias, thirdBias] = bias?.starts ?? [0, 0, 0];
  run(
    kernel,
    // A binding needs some buffer even if there is no bias.
    { left: x, right, bias: bias?.span ?? right.sliceRows(0, 0), result: ys[0], second: ys[1], third: ys[2] },
    {
      width: x.rowSize,
      hasBias: bias === null ? 0 : 1,
      ...{ firstColumns: ys[0].rowSize, secondColumns: ys[1].rowSize, thirdColumns: ys[2].rowSize },
      ...{ firstBias, secondBias, thirdBias },
    },
    { constants },
  );
  return true;
}

/**
 * gate = x · Gᵀ, up = x · Uᵀ, y = silu(gate) · up.
 * @param x           [T, C] f32 or f16
 * @param panels      of G and of U, [F/8, C, 8] each, of the type of x
 * @param gate, up, y [T, F], written; y f32, or with x in f16 also f16, rounded to nearest
 * @returns           false, and nothing is done, if U does not follow G in memory, F is no multiple of 8, this adapter is
 *                    faster without at so many rows, or its tile does not write y's type
 */
export function multiplyGated(
  x: Tensor,
  panels: readonly [gate: Tensor, up: Tensor],
  { gate, up, y }: Record<"gate" | "up" | "y", Tensor>,
): boolean {
  const right = joined(panels);
  if (right === null || !fillPanels(panels, [gate, up]) || isFasterApart("gated", x, right)) return false;
  const chosen = tryGatedKernel(x, right, [gate, up, y], y);
  if (chosen === null) return false;
  run(
    chosen.kernel,
    { left: x, right, result: gate, up, y },
    { width: x.rowSize, columns: y.rowSize, products: 2 },
    { constants: chosen.constants },
  );
  return true;
}

/** The kernel of a gated product; null if the adapter's tile does not write y's type, or everything must lie in fours and does not. */
function tryGatedKernel(x: Tensor, right: Tensor, to: readonly Tensor[], y: Tensor) {
  const inFours = areInFours([], to);
  // Matrix units store fours.
  if (x.dtype === "f16" && !inFours) return null;
  const kernels = gatedKernels[y.dtype === "f16" ? "f16" : "f32"];
  return tryRowKernel(kernels, "gatedLinear", x, right, inFours && areInFours([x.rowSize], [x, right]));
}

/** Whether every panel is full, so that the outputs of one weight end where those of the next begin. */
export function fillPanels(panels: readonly Tensor[], ys: readonly Tensor[]): boolean {
  return panels.every((own, i) => own.rows * 8 === ys[i].rowSize);
}

/** Tensors that follow each other in one buffer, as one tensor; null if they do not. */
export function joined(tensors: readonly Tensor[]): Tensor | null {
  const [{ backend, shape, dtype, storage }] = tensors;
  const [first] = tensors[0].segments;
  let rows = 0;
  for (const tensor of tensors) {
    const [{ buffer, base }] = tensor.segments;
    if (tensor.segments.length !== 1 || buffer !== first.buffer || base !== first.base + rows * tensor.rowSize)
      return null;
    rows += tensor.rows;
  }
  return new Tensor(backend, [rows, ...shape.slice(1)], dtype, [{ ...first, rows }], storage);
}
