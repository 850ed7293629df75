import type { NumberArray } from "../dtype.ts";
import { directionNormals } from "../random.ts";

interface Noise {
  rowSize: number;
  deltaKey0: number;
  deltaKey1: number;
  etaKey0: number;
  etaKey1: number;
  name0: number;
  name1: number;
  a: number;
  b: number;
}

/** Calls `write` with each perturbed element of rows start … end − 1; the weight's array begins at row `origin`. */
function perturbed(
  weight: NumberArray,
  origin: number,
  start: number,
  end: number,
  noise: Noise,
  write: (row: number, column: number, value: number) => void,
): void {
  const { rowSize, name0, name1, a, b } = noise;
  const count = (end - start) * rowSize;
  const name = [name0, name1] as const;
  const delta = directionNormals([noise.deltaKey0, noise.deltaKey1], name, count, start * rowSize);
  const eta = directionNormals([noise.etaKey0, noise.etaKey1], name, count, start * rowSize);
  for (let i = 0; i < count; i++) {
    const value = weight[(start - origin) * rowSize + i];
    write(start + Math.floor(i / rowSize), i % rowSize, a === 0 && b === 0 ? value : value + a * delta[i] + b * eta[i]);
  }
}

export function perturbRows(
  { weight, slot }: { weight: NumberArray; slot: NumberArray },
  params: Noise & { rows: number; rowsStart: number },
): void {
  const { rows, rowsStart, rowSize } = params;
  perturbed(weight, rowsStart, rowsStart, rowsStart + rows, params, (row, column, value) => {
    slot[(row - rowsStart) * rowSize + column] = value;
  });
}

export function perturbPanels(
  { weight, slot }: { weight: NumberArray; slot: NumberArray },
  params: Noise & { rows: number; rowsStart: number; panels: number; panelsStart: number },
): void {
  const { rows, rowsStart, panels, panelsStart, rowSize } = params;
  const start = Math.max(rowsStart, panelsStart * 8);
  const end = Math.min(rowsStart + rows, (panelsStart + panels) * 8);
  if (end <= start) return;
  perturbed(weight, rowsStart, start, end, params, (row, column, value) => {
    const panel = Math.floor(row / 8) - panelsStart;
    slot[(panel * rowSize + column) * 8 + (row % 8)] = value;
  });
}

export function addDirections(
  { weight, delta, eta, slot }: { weight: NumberArray; delta: NumberArray; eta: NumberArray; slot: NumberArray },
  { rows, rowSize, a, b }: { rows: number; rowSize: number; a: number; b: number },
): void {
  for (let i = 0; i < rows * rowSize; i++)
    slot[i] = a === 0 && b === 0 ? weight[i] : weight[i] + a * delta[i] + b * eta[i];
}
