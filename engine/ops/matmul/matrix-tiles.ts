// The tile of products on matrix units (matrix-tile.wgsl): how many matrices of the adapter's shape a workgroup sums.
//
// A product uses the same tile for every number of rows, decoding included. So a row's result has the same bits alone
// and among 500 others. The counts below change no bit, only speed: every sum takes its matrices in ascending order of
// steps.
import type { AdapterStyle, Constants } from "../../kernel.ts";
import { type MatrixBackend, type MatrixConstants, matrixUnits } from "../shared/matrix-units.ts";

/** Counts of matrix-tile.wgsl: subgroups of a workgroup, matrices of a subgroup, matrices' steps of a round. */
export interface MatrixCounts {
  readonly SUBGROUPS_DOWN: number;
  readonly SUBGROUPS_ACROSS: number;
  readonly MATRICES_DOWN: number;
  readonly MATRICES_ACROSS: number;
  readonly MATRICES_DEEP: number;
}

export type MatrixForm = Readonly<Record<keyof MatrixConstants | keyof MatrixCounts | "LANES", number>>;

/** Largest workgroup that every WebGPU device allows, invocations. */
const mostLanes = 256;
/**
 * Rows, columns and steps of a round that one subgroup takes, if the matrices are not larger. lavapipe takes half a
 * minute to compile all kernels with 32, and is not much faster then.
 */
const subgroupSide: Readonly<Record<AdapterStyle, number>> = { plain: 32, lavapipe: 16, swiftshader: 16, gpu: 32 };

/**
 * The form for a shape. On a GPU 2 × 2 subgroups of 32 × 32 sums each, 64 × 64 in all: 32 sums per invocation of a
 * subgroup of 32, and enough workgroups for the small matrices of a small model.
 */
export function matrixForm(style: AdapterStyle, shape: MatrixConstants, subgroup: number): MatrixForm {
  const perSide = (side: number): number => Math.max(1, Math.floor(subgroupSide[style] / side));
  // lavapipe runs the subgroups of a workgroup one after another, and a barrier between them costs time.
  const fitting = style === "lavapipe" ? 1 : Math.max(1, Math.floor(mostLanes / subgroup));
  const [down, across] = fitting >= 4 ? [2, 2] : fitting >= 2 ? [1, 2] : [1, 1];
  return {
    ...shape,
    SUBGROUPS_DOWN: down,
    SUBGROUPS_ACROSS: across,
    MATRICES_DOWN: perSide(shape.MATRIX_ROWS),
    MATRICES_ACROSS: perSide(shape.MATRIX_COLUMNS),
    MATRICES_DEEP: perSide(shape.MATRIX_STEPS),
    LANES: subgroup * down * across,
  };
}

export function tileRows({ MATRIX_ROWS, MATRICES_DOWN, SUBGROUPS_DOWN }: Constants): number {
  return Number(MATRIX_ROWS) * Number(MATRICES_DOWN) * Number(SUBGROUPS_DOWN);
}

export function tileColumns({ MATRIX_COLUMNS, MATRICES_ACROSS, SUBGROUPS_ACROSS }: Constants): number {
  return Number(MATRIX_COLUMNS) * Number(MATRICES_ACROSS) * Number(SUBGROUPS_ACROSS);
}

const shapeOf = (rows: number, columns: number, steps: number): MatrixConstants => ({
  MATRIX_ROWS: rows,
  MATRIX_COLUMNS: columns,
  MATRIX_STEPS: steps,
});

/** Forms for shapes that are known of NVIDIA (the first three), Intel, and Apple: `npm run check` compiles them. */
export const knownForms: readonly MatrixForm[] = [
  matrixForm("gpu", shapeOf(16, 16, 16), 32),
  matrixForm("gpu", shapeOf(16, 8, 16), 32),
  matrixForm("gpu", shapeOf(16, 8, 8), 32),
  matrixForm("gpu", shapeOf(8, 16, 16), 32),
  matrixForm("gpu", shapeOf(8, 8, 8), 32),
];

const preferred = new WeakMap<MatrixBackend, MatrixCounts>();

/** Makes a backend's products on matrix units use these counts: to tune them on a card, and to test that bits stay. */
export function preferCounts(backend: MatrixBackend, counts: MatrixCounts): void {
  preferred.set(backend, counts);
}

/** The form that a backend's products use; null if it has no matrix units for f16 operands. */
export function ownForm(backend: MatrixBackend & { readonly style: AdapterStyle }): MatrixForm | null {
  const units = matrixUnits(backend);
  if (units === null) return null;
  const form = { ...matrixForm(backend.style, units.constants, units.subgroup), ...preferred.get(backend) };
  return { ...form, LANES: units.subgroup * form.SUBGROUPS_DOWN * form.SUBGROUPS_ACROSS };
}

/** For people: "matrix units 16×16×16, 64×64×32 per round of 4 subgroups". */
export function describeForm(form: MatrixForm): string {
  const { MATRIX_ROWS, MATRIX_COLUMNS, MATRIX_STEPS, MATRICES_DEEP, SUBGROUPS_DOWN, SUBGROUPS_ACROSS } = form;
  const tile = [tileRows(form), tileColumns(form), MATRIX_STEPS * MATRICES_DEEP].join("×");
  const subgroups = SUBGROUPS_DOWN * SUBGROUPS_ACROSS;
  return (
    `matrix units ${MATRIX_ROWS}×${MATRIX_COLUMNS}×${MATRIX_STEPS}, ${tile} per round of ` +
    `${subgroups === 1 ? "1 subgroup" : `${subgroups} subgroups`}`
  );
}
