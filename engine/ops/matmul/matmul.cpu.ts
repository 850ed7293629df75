import type { NumberArray } from "../../dtype.ts";
import { roundedToHalf } from "./half.cpu.ts";

interface Operands {
  left: NumberArray;
  right: NumberArray;
  result: NumberArray;
}

/** result[t, o] = residual[t, o] + (bias[o] + Σ_c left[t, c] · panels[o / 8, c, o % 8]) */
export function multiplyForward(
  { left, right, bias, residual, result }: Operands & { bias: NumberArray; residual: NumberArray },
  {
    rows,
    panels,
    panelsStart,
    width,
    columns,
    hasBias,
    hasResidual,
  }: {
    rows: number;
    panels: number;
    panelsStart: number;
    width: number;
    columns: number;
    hasBias: number;
    hasResidual: number;
  },
): void {
  const first = panelsStart * 8;
  const end = Math.min(first + panels * 8, columns);
  for (let t = 0; t < rows; t++)
    for (let o = first; o < end; o++) {
      const panel = ((o - first) >> 3) * width * 8 + ((o - first) & 7);
      let sum = hasBias ? bias[o] : 0;
      for (let c = 0; c < width; c++) sum += left[t * width + c] * right[panel + c * 8];
      const y = t * columns + o;
      result[y] = sum;
      // To the stored sum, so that arrays of f32 get the bits of separate kernels.
      if (hasResidual) result[y] += residual[y];
    }
}

/** result[t, c] (+)= Σ_o left[t, o] · right[o, c], over the outputs of the cell */
export function multiplyInput(
  { left, right, result }: Operands,
  {
    rows,
    outputs,
    outputsStart,
    leftWidth,
    width,
    addToResult,
  }: { rows: number; outputs: number; outputsStart: number; leftWidth: number; width: number; addToResult: number },
): void {
  for (let t = 0; t < rows; t++)
    for (let c = 0; c < width; c++) {
      let sum = addToResult ? result[t * width + c] : 0;
      for (let o = 0; o < outputs; o++) sum += left[t * leftWidth + outputsStart + o] * right[o * width + c];
      result[t * width + c] = sum;
    }
}

/** The rows of a sum that lie in a cell, and how they are cut into chunks. */
interface ChunkedRows {
  rows: number;
  rowsStart: number;
  chunkRows: number;
  chunks: number;
  hasStarts: number;
}

/** Calls `body` for each chunk with the rows of it that lie in the cell, counted from the cell's first row. */
function forEachChunk(
  { rows, rowsStart, chunkRows, chunks, hasStarts }: ChunkedRows,
  starts: NumberArray,
  body: (chunk: number, first: number, end: number, isBegun: boolean) => void,
): void {
  const startOf = (chunk: number): number => (hasStarts ? starts[chunk] : chunk * chunkRows);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const begin = startOf(chunk);
    const first = Math.max(begin, rowsStart) - rowsStart;
    const end = Math.min(startOf(chunk + 1), rowsStart + rows) - rowsStart;
    // The first cell writes the sums of chunks without rows.
    const isEmpty = startOf(chunk + 1) === begin;
    if (chunks > 1 && (isEmpty ? rowsStart > 0 : end <= first)) continue;
    body(chunk, first, Math.max(first, end), chunks === 1 || begin < rowsStart);
  }
}

/** result[o, chunk, c] (+)= Σ_t left[t, c] · right[t, o], over the rows of the chunk that lie in the cell */
export function multiplyWeight(
  { left, right, starts, result }: Operands & { starts: NumberArray },
  cell: ChunkedRows & {
    outputs: number;
    outputsStart: number;
    width: number;
    rightWidth: number;
    addToResult: number;
  },
): void {
  const { outputs, outputsStart, width, rightWidth, chunks, addToResult } = cell;
  forEachChunk(cell, starts, (chunk, first, end, isBegun) => {
    const continues = addToResult && isBegun;
    for (let o = 0; o < outputs; o++)
      for (let c = 0; c < width; c++) {
        const place = (o * chunks + chunk) * width + c;
        let sum = continues ? result[place] : 0;
        for (let t = first; t < end; t++) sum += right[t * rightWidth + outputsStart + o] * left[t * width + c];
        result[place] = sum;
      }
  });
}

/** partial[o, chunk] (+)= Σ_t x[t, o], over the rows of the chunk that lie in the cell */
export function sumRows(
  { x, starts, partial }: { x: NumberArray; starts: NumberArray; partial: NumberArray },
  cell: ChunkedRows & { outputs: number; outputsStart: number; width: number; addToPartial: number },
): void {
  const { outputs, outputsStart, width, chunks, addToPartial } = cell;
  forEachChunk(cell, starts, (chunk, first, end, isBegun) => {
    const continues = addToPartial && isBegun;
    for (let o = 0; o < outputs; o++) {
      let sum = continues ? partial[o * chunks + chunk] : 0;
      for (let t = first; t < end; t++) sum += x[t * width + outputsStart + o];
      partial[o * chunks + chunk] = sum;
    }
  });
}

/** result[o, c] (+)= Σ_chunk partial[o, chunk, c] */
export function sumChunks(
  { partial, result }: { partial: NumberArray; result: NumberArray },
  { outputs, chunks, width, addToResult }: { outputs: number; chunks: number; width: number; addToResult: number },
): void {
  for (let o = 0; o < outputs; o++)
    for (let c = 0; c < width; c++) {
      let sum = addToResult ? result[o * width + c] : 0;
      for (let chunk = 0; chunk < chunks; chunk++) sum += partial[(o * chunks + chunk) * width + c];
      result[o * width + c] = sum;
    }
}

/**
 * panels[o / 8, c, o % 8] = weight[o, c], and 0 past the last output; only the part that the cell's rows and panels
 * share
 */
export function packPanels(
  { weight, panels }: { weight: NumberArray; panels: NumberArray },
  cell: {
    outputs: number;
    outputsStart: number;
    outputsTotal: number;
    panels: number;
    panelsStart: number;
    width: number;
  },
): void {
  const { outputs, outputsStart, outputsTotal, panelsStart, width } = cell;
  const isLast = outputsStart + outputs === outputsTotal;
  for (let panel = 0; panel < cell.panels; panel++)
    for (let j = 0; j < 8; j++) {
      const o = (panelsStart + panel) * 8 + j;
      const isHere = o >= outputsStart && o < outputsStart + outputs;
      if (!isHere && !(isLast && o >= outputsTotal)) continue;
      for (let c = 0; c < width; c++)
        panels[(panel * width + c) * 8 + j] = isHere ? weight[(o - outputsStart) * width + c] : 0;
    }
}

/** packPanels with the panels rounded to f16 */
export function packHalfPanels(...[b, cell]: Parameters<typeof packPanels>): void {
  packPanels(b, cell);
  for (let i = 0; i < cell.panels * cell.width * 8; i++) b.panels[i] = roundedToHalf(b.panels[i]);
}

/** Workgroups for the chunks of a cell: for those that have rows in it; with starts, for all. */
export function chunksTouched({ rows, rowsStart, chunkRows, chunks, hasStarts }: ChunkedRows): number {
  if (hasStarts !== 0) return chunks;
  return Math.floor((rowsStart + Math.max(rows, 1) - 1) / chunkRows) - Math.floor(rowsStart / chunkRows) + 1;
}
