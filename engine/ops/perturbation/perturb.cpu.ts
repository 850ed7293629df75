import type { NumberArray } from "../../dtype.ts";
import { directionNormals } from "../../random.ts";
import { keptHalf } from "../matmul/half.cpu.ts";

interface Coefficients {
  a: number;
  b: number;
}

export interface Noise extends Coefficients {
  rowSize: number;
  deltaKey0: number;
  deltaKey1: number;
  etaKey0: number;
  etaKey1: number;
  name0: number;
  name1: number;
  firstRow: number;
}

/** (w + a·δ) + b·η; a step whose coefficient is 0 is left out. */
export function perturbed(w: number, delta: number, eta: number, { a, b }: Coefficients): number {
  const first = a === 0 ? w : w + a * delta;
  return b === 0 ? first : first + b * eta;
}

/** Normals of both directions for rows start … end − 1. */
export function directionsOf(start: number, end: number, noise: Noise): { delta: Float64Array; eta: Float64Array } {
  const { rowSize, deltaKey0, deltaKey1, etaKey0, etaKey1, name0, name1, firstRow } = noise;
  const draw = (key0: number, key1: number): Float64Array =>
    directionNormals([key0, key1], [name0, name1], (end - start) * rowSize, (firstRow + start) * rowSize);
  return { delta: draw(deltaKey0, deltaKey1), eta: draw(etaKey0, etaKey1) };
}

export function perturbRows(
  { weight, slot }: { weight: NumberArray; slot: NumberArray },
  params: Noise & { rows: number; rowsStart: number },
): void {
  const { rows, rowsStart, rowSize } = params;
  const { delta, eta } = directionsOf(rowsStart, rowsStart + rows, params);
  for (let i = 0; i < rows * rowSize; i++) slot[i] = perturbed(weight[i], delta[i], eta[i], params);
}

type PanelNoise = Noise & { rows: number; rowsStart: number; rowsTotal: number; panels: number; panelsStart: number };

/** perturbPanels with its results rounded to f16; NaN if f16 does not hold the number */
export function perturbHalfPanels(bindings: { weight: NumberArray; slot: NumberArray }, params: PanelNoise): void {
  perturbPanels(bindings, params, keptHalf);
}

export function perturbPanels(
  { weight, slot }: { weight: NumberArray; slot: NumberArray },
  params: PanelNoise,
  round: (x: number) => number = (x) => x,
): void {
  const { rows, rowsStart, rowsTotal, panels, panelsStart, rowSize } = params;
  const place = (row: number, column: number): number =>
    ((Math.floor(row / 8) - panelsStart) * rowSize + column) * 8 + (row % 8);
  const start = Math.max(rowsStart, panelsStart * 8);
  const end = Math.min(rowsStart + rows, (panelsStart + panels) * 8);
  if (end <= start) return;
  const { delta, eta } = directionsOf(start, end, params);
  for (let row = start; row < end; row++)
    for (let column = 0; column < rowSize; column++) {
      const i = (row - start) * rowSize + column;
      const w = weight[(row - rowsStart) * rowSize + column];
      slot[place(row, column)] = round(perturbed(w, delta[i], eta[i], params));
    }
  if (end === rowsTotal)
    for (let row = end; row < Math.ceil(end / 8) * 8; row++)
      for (let column = 0; column < rowSize; column++) slot[place(row, column)] = 0;
}
