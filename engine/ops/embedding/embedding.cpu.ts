import type { NumberArray } from "../../dtype.ts";

interface Vocabulary {
  vocabulary: number;
  vocabularyStart: number;
}

export function embedding(
  { ids, table, y }: { ids: NumberArray; table: NumberArray; y: NumberArray },
  { rows, width, vocabulary, vocabularyStart }: Vocabulary & { rows: number; width: number },
): void {
  for (let t = 0; t < rows; t++) {
    const row = ids[t] - vocabularyStart;
    if (row < 0 || row >= vocabulary) continue;
    for (let c = 0; c < width; c++) y[t * width + c] = table[row * width + c];
  }
}

export function embeddingHalf(
  { ids, table, y }: { ids: NumberArray; table: NumberArray; y: NumberArray },
  { rows, width, panels, panelsStart }: { rows: number; width: number; panels: number; panelsStart: number },
): void {
  for (let t = 0; t < rows; t++) {
    const panel = Math.floor(ids[t] / 8) - panelsStart;
    if (panel < 0 || panel >= panels) continue;
    for (let c = 0; c < width; c++) y[t * width + c] = table[(panel * width + c) * 8 + (ids[t] % 8)];
  }
}

/** embedding, each token from the table of its slot */
export function embeddingSlots(
  { ids, table, y, tiles }: Parameters<typeof embedding>[0] & { tiles: NumberArray },
  { rows, width, stride, ...cell }: Parameters<typeof embedding>[1] & { stride: number },
): void {
  for (let t = 0; t < rows; t++) {
    const own = { ids: ids.subarray(t), table: table.subarray(tiles[3 * t + 2] * stride), y: y.subarray(t * width) };
    embedding(own, { rows: 1, width, ...cell });
  }
}

/** embeddingHalf, each token from the table of its slot */
export function embeddingSlotsHalf(
  { ids, table, y, tiles }: Parameters<typeof embeddingHalf>[0] & { tiles: NumberArray },
  { rows, width, stride, ...cell }: Parameters<typeof embeddingHalf>[1] & { stride: number },
): void {
  for (let t = 0; t < rows; t++) {
    const own = { ids: ids.subarray(t), table: table.subarray(tiles[3 * t + 2] * stride), y: y.subarray(t * width) };
    embeddingHalf(own, { rows: 1, width, ...cell });
  }
}

export function embeddingBackward(
  { dy, runs, order, dTable }: { dy: NumberArray; runs: NumberArray; order: NumberArray; dTable: NumberArray },
  {
    rows,
    rowsStart,
    vocabulary,
    vocabularyStart,
    width,
    distinct,
  }: Vocabulary & {
    rows: number;
    rowsStart: number;
    width: number;
    distinct: number;
  },
): void {
  for (let k = 0; k < distinct; k++) {
    const row = runs[3 * k] - vocabularyStart;
    if (row < 0 || row >= vocabulary) continue;
    for (let c = 0; c < width; c++) {
      let sum = dTable[row * width + c];
      for (let i = runs[3 * k + 1]; i < runs[3 * k + 2]; i++) {
        const t = order[i] - rowsStart;
        if (t >= 0 && t < rows) sum += dy[t * width + c];
      }
      dTable[row * width + c] = sum;
    }
  }
}
