// Attention with f16 operands on matrix units (attention-matrix.wgsl and its two backward neighbours), and the kernels'
// forms for an adapter.
import type { Backend } from "../../backends/backend.ts";
import { sayOnce } from "../../backends/webgpu/say-once.ts";
import { type Constants, defineKernel } from "../../kernel.ts";
import { knownForms } from "../matmul/matrix-tiles.ts";
import { type MatrixUnits, matrixUnits, nameOf } from "../shared/matrix-units.ts";
import { backwardKey, backwardQuery, forward, type Heads, statistics, vectorOf } from "./kernels.ts";
import * as cpu from "./matrix-attention.cpu.ts";

/** Keys of a block. It decides the order of the sums, so it is the same for every number of rows. */
const blockKeys = 32;
export type Pass = "forward" | "backward";
/** Tables of scores in workgroup memory: the backward pass needs dy · values beside q · keys. */
const tables: Readonly<Record<Pass, number>> = { forward: 1, backward: 2 };
/** Largest workgroup, and workgroup memory that every WebGPU device has, bytes. */
const [mostLanes, mostBytes] = [256, 16384];

export type AttentionForm = Readonly<
  Record<
    | "MATRIX_ROWS"
    | "MATRIX_COLUMNS"
    | "MATRIX_STEPS"
    | "SUBGROUPS"
    | "BLOCK"
    | "STEPS_DEEP"
    | "COLUMNS_ACROSS"
    | "WIDTH"
    | "LANES",
    number
  > & { Vector: string }
>;

/**
 * The form for heads of a size; null if blocks of keys do not divide into the shape's matrices, or
 * the tiles do not fit into workgroup memory.
 * @param mostSubgroups  more share each tile of keys; fewer leave fewer rows idle where there are few. Changes no bit
 * @param pass           default forward
 */
export function attentionForm(
  { constants, subgroup }: Pick<MatrixUnits, "constants" | "subgroup">,
  headSize: number,
  mostSubgroups: number,
  pass: Pass = "forward",
): AttentionForm | null {
  const { MATRIX_ROWS, MATRIX_COLUMNS, MATRIX_STEPS } = constants;
  if ([MATRIX_ROWS, MATRIX_COLUMNS, MATRIX_STEPS].some((side) => blockKeys % side !== 0)) return null;
  // Sides are powers of two, so the larger one is a multiple of the smaller one.
  const side = Math.max(MATRIX_COLUMNS, MATRIX_STEPS);
  const padded = Math.ceil(headSize / side) * side;
  const bytesOf = (subgroups: number): number => {
    const rows = MATRIX_ROWS * subgroups;
    const staged = Math.max(blockKeys * (padded / 8 + 1) * 16, rows * MATRIX_COLUMNS * 4);
    return staged + tables[pass] * rows * (blockKeys / 4 + 1) * 16 + rows * 4 + blockKeys * 8 + 64;
  };
  let subgroups = 1;
  while (2 * subgroups <= mostSubgroups && 2 * subgroups * subgroup <= mostLanes && bytesOf(2 * subgroups) <= mostBytes)
    subgroups *= 2;
  if (bytesOf(subgroups) > mostBytes) return null;
  // Each row needs an invocation.
  const lanes = Math.ceil(Math.max(subgroup, MATRIX_ROWS) / subgroup) * subgroup * subgroups;
  return {
    ...constants,
    SUBGROUPS: subgroups,
    BLOCK: blockKeys,
    STEPS_DEEP: padded / MATRIX_STEPS,
    COLUMNS_ACROSS: padded / MATRIX_COLUMNS,
    ...vectorOf(headSize),
    LANES: lanes,
  };
}

/** Rows that see other keys than their neighbours (decoding) leave most of a tile idle, so it is small then. */
const subgroupsOf = (isCached: boolean): number => (isCached ? 1 : 4);

/**
 * The form that a backend's attention with f16 operands uses; null if it has no matrix units for them. If a shape does
 * not fit, it says so once.
 * @param isCached  tokens read a cache, so hardly any two of them see the same keys
 * @param pass      default forward
 */
export function attentionFormOf(
  backend: Backend,
  { headSize }: Heads,
  isCached: boolean,
  pass: Pass = "forward",
): AttentionForm | null {
  const units = matrixUnits(backend);
  if (units === null) return null;
  // lavapipe runs the subgroups of a workgroup one after another, and a barrier between them costs time.
  const form = attentionForm(units, headSize, backend.style === "lavapipe" ? 1 : subgroupsOf(isCached), pass);
  if (form === null)
    sayOnce(
      `attention: expected matrices whose sides divide ${blockKeys}, got ${nameOf(units.shape)}. Attention reads f32 ` +
        "operands, as on adapters without matrix units.",
    );
  return form;
}

/**
 * Forms for the known shapes and usual heads: `npm run check` compiles them, on a device whose workgroups must be
 * multiples of 128.
 */
const formsOf = (pass: Pass) =>
  knownForms.flatMap(({ MATRIX_ROWS, MATRIX_COLUMNS, MATRIX_STEPS }) =>
    [16, 64, 128, 14].flatMap((size) => {
      const constants = { MATRIX_ROWS, MATRIX_COLUMNS, MATRIX_STEPS };
      const form = attentionForm({ constants, subgroup: 32 }, size, 4, pass);
      return form === null ? [] : [{ ...form, LANES: 128 }];
    }),
  );
const forms = formsOf("forward");
const backwardForms = formsOf("backward");

const withCells = (form: AttentionForm, CONTINUES: boolean): Constants => ({ ...form, CONTINUES });

/** `attention` with q, keys and values rounded to f16. */
export const matrixKernel = defineKernel({
  ...forward,
  name: "attentionMatrix",
  cpu: cpu.attentionOfHalves,
  wgsl: new URL("./attention-matrix.wgsl", import.meta.url),
  uses: ["matrix-units", "flat-workgroup", "halves", "is-finite", "matrix-blocks"],
  constants: withCells(forms[0], true),
  variants: forms.map((form) => withCells(form, false)),
  workgroups: ({ tokens, heads, keyHeads }, { MATRIX_ROWS, SUBGROUPS }) => [
    keyHeads * Math.ceil((tokens * heads) / keyHeads / (Number(MATRIX_ROWS) * Number(SUBGROUPS))),
  ],
});

const backwardUses = ["matrix-units", "flat-workgroup", "halves", "matrix-operands-backward"];
const backwardConstants = {
  constants: withCells(backwardForms[0], true),
  variants: backwardForms.map((form) => withCells(form, false)),
};

/** `attentionBackwardQuery` with q, keys, values and dy rounded to f16. */
export const matrixQueryKernel = defineKernel({
  ...backwardQuery,
  name: "attentionMatrixBackwardQuery",
  cpu: cpu.attentionBackwardQueryOfHalves,
  wgsl: new URL("./attention-matrix-backward-query.wgsl", import.meta.url),
  uses: [...backwardUses, "matrix-blocks"],
  ...backwardConstants,
  workgroups: ({ tokens, heads, keyHeads }, { MATRIX_ROWS, SUBGROUPS }) => [
    keyHeads * Math.ceil((tokens * heads) / keyHeads / (Number(MATRIX_ROWS) * Number(SUBGROUPS))),
  ],
});

/** `attentionBackwardKey` with q, keys, values and dy rounded to f16. */
export const matrixKeyKernel = defineKernel({
  ...backwardKey,
  name: "attentionMatrixBackwardKey",
  cpu: cpu.attentionBackwardKeyOfHalves,
  wgsl: new URL("./attention-matrix-backward-key.wgsl", import.meta.url),
  uses: backwardUses,
  ...backwardConstants,
  workgroups: ({ slots, keyHeads }, { MATRIX_ROWS, SUBGROUPS }) => [
    keyHeads * Math.ceil(slots / (Number(MATRIX_ROWS) * Number(SUBGROUPS))),
  ],
});

/** `attentionStatistics` with dy rounded to f16. */
export const matrixStatisticsKernel = defineKernel({
  ...statistics,
  name: "attentionMatrixStatistics",
  cpu: cpu.attentionStatisticsOfHalves,
  uses: ["flat-workgroup", "halves", "upstream-halves"],
});
