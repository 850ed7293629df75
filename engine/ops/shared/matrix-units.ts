// Matrix units (tensor cores): which of an adapter's shapes kernels with f16 operands and f32 sums use, and the WGSL
// constants that name it (matrix-units.wgsl). Nothing is assumed about shapes or subgroups: both come from the adapter.
import type { Abilities, MatrixShape } from "../../backends/backend.ts";
import { sayOnce } from "../../backends/webgpu/say-once.ts";

/** The constants of matrix-units.wgsl. */
export interface MatrixConstants {
  readonly MATRIX_ROWS: number;
  readonly MATRIX_COLUMNS: number;
  readonly MATRIX_STEPS: number;
}

export interface MatrixUnits {
  readonly shape: MatrixShape;
  readonly constants: MatrixConstants;
  /** The largest subgroup, invocations: a workgroup is a multiple of it. */
  readonly subgroup: number;
}

export interface MatrixBackend {
  readonly abilities: Pick<Abilities, "hasHalf" | "matrixShapes" | "subgroups">;
}

/** Kernels stage operands in eights of halves, so every side of a matrix is a multiple of this. */
export const sideUnit = 8;

const found = new WeakMap<MatrixBackend, MatrixUnits | null>();

/**
 * The matrix units that multiply f16 operands into f32 sums; null if there are none. If the adapter lists matrix units,
 * but none that fit, it says so once.
 * @param say  receives that sentence. Default: prints to standard error
 */
export function matrixUnits(backend: MatrixBackend, say: (sentence: string) => void = sayOnce): MatrixUnits | null {
  const known = found.get(backend);
  if (known !== undefined) return known;
  const chosen = chooseUnits(backend, say);
  found.set(backend, chosen);
  return chosen;
}

function chooseUnits(
  { abilities: { hasHalf, matrixShapes, subgroups } }: MatrixBackend,
  say: (sentence: string) => void,
): MatrixUnits | null {
  if (matrixShapes.length === 0) return null;
  const fitting = matrixShapes.filter(
    ({ M, N, K, componentType, resultType }) =>
      componentType === "f16" && resultType === "f32" && [M, N, K].every((side) => side % sideUnit === 0),
  );
  const missing = !hasHalf ? "f16 in kernels (WebGPU's shader-f16)" : subgroups === null ? "subgroups" : null;
  if (missing !== null || subgroups === null || fitting.length === 0) {
    const fault =
      missing === null
        ? `expected a shape with f16 operands, f32 sums and sides that are multiples of ${sideUnit}, ` +
          `got ${matrixShapes.map(nameOf).join(", ")}`
        : `expected ${missing} beside them, got none`;
    say(
      `matrix units: ${fault}. Products with f16 operands use the other tiles, as on adapters ` +
        "without matrix units.",
    );
    return null;
  }
  // The deepest first: fewest instructions per product. Then the largest.
  const [shape] = [...fitting].sort((a, b) => b.K - a.K || b.M * b.N - a.M * a.N || b.M - a.M);
  const constants = { MATRIX_ROWS: shape.M, MATRIX_COLUMNS: shape.N, MATRIX_STEPS: shape.K };
  return { shape, constants, subgroup: subgroups.most };
}

/** M×N×K operands→sums: 16×16×16 f16→f32. */
export function nameOf({ M, N, K, componentType, resultType }: MatrixShape): string {
  return `${M}×${N}×${K} ${componentType}→${resultType}`;
}
