// The parts of a transformer layer before and after attention, each in one dispatch. Except in attention the rows of a
// batch do not depend on each other, so one workgroup can take a few rows through all of it.
//
// On a software driver a dispatch costs 60 to 100 µs, and in decoding the products of a small model take less than that. A
// layer then has three dispatches in place of eight. Every sum has the order of the separate kernels, so the bits are the same.
//
// Each workgroup reads all weights of the layer. That is cheap as long as they fit the cache of a core, and a few
// workgroups must keep all cores busy. So large layers keep their separate kernels.
import { isRecording } from "../../autograd.ts";
import { defineKernel } from "../../kernel.ts";
import type { BatchRows, Parameter, WeightTensors } from "../../parameters.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, spanOf, type Tensor } from "../../tensor.ts";
import type { CacheTarget } from "../rope/rope-pair.ts";
import { joined, type Triple } from "./joined.ts";
import * as cpu from "./layer-parts.cpu.ts";

/** Numbers in the matrices of a part: 1 MiB. */
const mostNumbers = 2 ** 18;
/**
 * With more rows the separate kernels' tiles need less time than is spared. Measured by processor time on 2 busy cores,
 * joined ÷ apart, for decode steps of the tiny model: 16 to 48 rows 0.7 to 1.0, 88 rows about 1.1 (Mesa 25.0.7).
 */
const mostRows = 64;
/** Up to so many rows a workgroup takes 4 of them, above 16. */
const fewRows = 16;
const formOf = (rows: number) => ({ ROWS: rows <= fewRows ? 4 : 16 });

const tile = {
  uses: ["product", "column-tile", "add-products"],
  constants: { LANES: 8, ROWS: 16 },
  variants: [{ ROWS: 4 }],
} as const;

const beforeKernel = defineKernel({
  ...tile,
  name: "beforeAttention",
  axes: { rows: "map" },
  bindings: {
    x: { access: "read", axis: "rows" },
    right: { access: "read" },
    vectors: { access: "read" },
    angles: { access: "read" },
    slots: { access: "read", axis: "rows" },
    scratch: { access: "write" },
    keys: { access: "update" },
    values: { access: "update" },
  },
  params: {
    ...{ width: "u32", heads: "u32", keyHeads: "u32", half: "u32", cacheSlots: "u32", eps: "f32" },
    ...{ norm: "u32", firstBias: "u32", secondBias: "u32", thirdBias: "u32", cosStart: "u32", sinStart: "u32" },
  },
  cpu: cpu.beforeAttention,
  wgsl: new URL("./before-attention.wgsl", import.meta.url),
  workgroups: ({ rows }, { ROWS }) => [Math.ceil(rows / Number(ROWS))],
  flops: ({ rows, width, heads, keyHeads, half }) => 2 * rows * width * (heads + 2 * keyHeads) * 2 * half,
});

const afterKernel = defineKernel({
  ...tile,
  name: "afterAttention",
  axes: { rows: "map" },
  bindings: {
    mixed: { access: "read", axis: "rows" },
    x: { access: "read", axis: "rows" },
    output: { access: "read" },
    gated: { access: "read" },
    down: { access: "read" },
    weight: { access: "read" },
    scratch: { access: "write", axis: "rows" },
    y: { access: "write", axis: "rows" },
  },
  params: { width: "u32", mixedWidth: "u32", inner: "u32", products: "u32", eps: "f32" },
  cpu: cpu.afterAttention,
  wgsl: new URL("./after-attention.wgsl", import.meta.url),
  uses: [...tile.uses, "sigmoid"],
  constants: { ...tile.constants, Vector: "vec4f" },
  workgroups: ({ rows }, { ROWS }) => [Math.ceil(rows / Number(ROWS))],
  flops: ({ rows, width, mixedWidth, inner }) => 2 * rows * width * (mixedWidth + 3 * inner),
});

/** Whether parts of layers run in one dispatch: on a software driver with subgroups of 8, for these rows. */
function joinsParts({ backend, rows }: Tensor): boolean {
  return backend.style === "lavapipe" && !isRecording() && rows > 0 && rows <= mostRows;
}

/**
 * The tensors of a weight that is the same for all rows, as the slot of their one grid point is; null for others. In mixed
 * precision it has no panels.
 */
function plainWeight(parameter: Parameter, rows: BatchRows): WeightTensors | null {
  if (parameter.kind === "tensor") return { rows: parameter.tensor, panels: parameter.panels };
  if (parameter.kind === "forward") return parameter.weight;
  if (parameter.kind !== "slots" || rows === null || "places" in rows) return null;
  const filled = rows.filter(({ count }) => count > 0);
  return (filled.length === 1 && parameter.slots.get(filled[0].point)) || null;
}

/** The panels of all these weights; null if one of them has none. */
function panelsOf(parameters: readonly Parameter[], rows: BatchRows): Tensor[] | null {
  const found = parameters.flatMap((one) => plainWeight(one, rows)?.panels ?? []);
  return found.length === parameters.length ? found : null;
}

/** The numbers of a weight [C] that is the same for all rows; null for others. */
const vectorOf = (parameter: Parameter, rows: BatchRows): Tensor | null => plainWeight(parameter, rows)?.rows ?? null;

const isInFours = (tensors: readonly Tensor[]): boolean =>
  tensors.every(({ dtype, segments }) => dtype === "f32" && segments.length === 1 && segments[0].base % 4 === 0);

const areMultiples = (count: number, numbers: readonly number[]): boolean => numbers.every((one) => one % count === 0);

/** What is given before attention. */
export interface AttentionInputs {
  /** [T, C] f32. */
  readonly x: Tensor;
  /** [C], of the norm; its epsilon. */
  readonly norm: Parameter;
  readonly eps: number;
  /** Of query, key and value: [H · D, C], [K · D, C] twice; and their biases. */
  readonly weights: Triple<Parameter>;
  readonly biases: Triple<Parameter>;
  /** As in `linear`. Default null. */
  readonly rows?: BatchRows;
  /** [T, D/2] each, from `rotaryTables`. */
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/**
 * h = rmsNorm(x), three projections of h, rotary position embedding, and keys and values written into the cache, in one
 * dispatch: the bits of `rmsNorm`, `linearTriple` and `ropeIntoCache`. No gradient.
 * @param isJoined  whether it may be; default: if this adapter is faster so
 * @returns  rotated queries [T, H, D]; null, and nothing is done, if this adapter, these weights or sizes have their own
 *           kernels
 */
export function beforeAttention(
  given: AttentionInputs,
  { slots, keys, values }: CacheTarget,
  isJoined = joinsParts(given.x),
): Tensor | null {
  const { x, eps, cos, sin, rows = null } = given;
  const { backend } = x;
  if (!isJoined) return null;
  const panels = panelsOf(given.weights, rows);
  const norm = vectorOf(given.norm, rows);
  const [first, second, third] = given.biases.map((one) => vectorOf(one, rows));
  if (panels === null || norm === null || !first || !second || !third) return null;
  const right = joined(panels);
  const vectors = spanOf([norm, first, second, third]);
  const angles = spanOf([cos, sin]);
  if (right === null || vectors === null || angles === null) return null;
  const [width, keyHeads, half] = [x.rowSize, keys.shape[1], keys.shape[2] / 2];
  const columns = 8 * right.rows;
  const heads = columns / (2 * half) - 2 * keyHeads;
  const fits =
    areMultiples(4, [width, half]) &&
    areMultiples(32, [columns]) &&
    isInFours([x, right, norm, vectors.span, cos, sin, keys, values]) &&
    slots.segments.length === 1;
  if (!fits || right.size > mostNumbers) return null;
  const queries = x.rows * heads * 2 * half;
  const scratch = empty(backend, [queries + x.rows * (width + columns)], "f32", "beforeAttention.scratch");
  const [normStart, firstBias, secondBias, thirdBias] = vectors.starts;
  const [cosStart, sinStart] = angles.starts;
  run(
    beforeKernel,
    { x, right, vectors: vectors.span, angles: angles.span, slots, scratch, keys, values },
    {
      ...{ width, heads, keyHeads, half, cacheSlots: keys.rows, eps, cosStart, sinStart },
      ...{ norm: normStart, firstBias, secondBias, thirdBias },
    },
    { constants: formOf(x.rows) },
  );
  return scratch.sliceRows(0, queries).view([x.rows, heads, 2 * half]);
}

/** What is given after attention. */
export interface AttentionOutputs {
  /** [T, H · D] f32: what attention returned. */
  readonly mixed: Tensor;
  /** [T, C] f32: the layer's input. */
  readonly x: Tensor;
  /** [C, H · D]. */
  readonly output: Parameter;
  /** [C], of the norm before the MLP; its epsilon. */
  readonly norm: Parameter;
  readonly eps: number;
  /** [F, C], [F, C], [C, F]. */
  readonly gate: Parameter;
  readonly up: Parameter;
  readonly down: Parameter;
  /** As in `linear`. Default null. */
  readonly rows?: BatchRows;
}

/**
 * a = x + mixed · Oᵀ, and a + (silu(h · Gᵀ) ⊙ (h · Uᵀ)) · Dᵀ with h = rmsNorm(a), in one dispatch: the bits of `linear` with a
 * residual, `rmsNorm`, `gatedLinear` and `linear` with a residual. No gradient.
 * @param isJoined  as in `beforeAttention`
 * @returns  [T, C]; null, and nothing is done, if this adapter, these weights or sizes have their own kernels
 */
export function afterAttention(given: AttentionOutputs, isJoined = joinsParts(given.x)): Tensor | null {
  const { mixed, x, eps, rows = null } = given;
  const { backend } = x;
  if (!isJoined) return null;
  const panels = panelsOf([given.output, given.gate, given.up, given.down], rows);
  const norm = vectorOf(given.norm, rows);
  if (panels === null || norm === null) return null;
  const [output, gate, up, down] = panels;
  const gated = joined([gate, up]);
  const [width, mixedWidth, inner] = [x.rowSize, mixed.rowSize, 8 * gate.rows];
  const fits = areMultiples(32, [width, mixedWidth, inner]) && isInFours([x, mixed, norm, ...panels]);
  if (gated === null || !fits || output.size + gated.size + down.size > mostNumbers) return null;
  const y = empty(backend, x.shape, "f32", "afterAttention.y");
  scope(() => {
    const scratchWidth = width + Math.max(mixedWidth, inner);
    const scratch = empty(backend, [x.rows, scratchWidth], "f32", "afterAttention.scratch");
    run(
      afterKernel,
      { mixed, x, output, gated, down, weight: norm, scratch, y },
      { width, mixedWidth, inner, eps, products: 4 },
      { constants: formOf(x.rows) },
    );
  });
  return y;
}
