import type { NumberArray } from "../../dtype.ts";

export function gatherRows(
  { x, indices, y }: { x: NumberArray; indices: NumberArray; y: NumberArray },
  { rows, source, sourceStart, rowSize }: { rows: number; source: number; sourceStart: number; rowSize: number },
): void {
  for (let row = 0; row < rows; row++) {
    const from = indices[row] - sourceStart;
    if (from >= 0 && from < source) y.set(x.subarray(from * rowSize, (from + 1) * rowSize), row * rowSize);
  }
}

export function scatterRows(
  { dy, places, dx }: { dy: NumberArray; places: NumberArray; dx: NumberArray },
  params: { rows: number; source: number; sourceStart: number; rowSize: number; addToDx: number },
): void {
  const { rows, source, sourceStart, rowSize, addToDx } = params;
  if (!addToDx) dx.fill(0, 0, rows * rowSize);
  for (let row = 0; row < rows; row++) {
    const from = places[row] - sourceStart;
    if (from < 0 || from >= source) continue;
    for (let i = 0; i < rowSize; i++) dx[row * rowSize + i] += dy[from * rowSize + i];
  }
}
