import type { NumberArray } from "../../dtype.ts";
import { perturbPanels, perturbRows } from "./perturb.cpu.ts";

/** Words of an entry: the workgroup that it begins with, layout, places of weight and slot, rows, row size, name, keys, coefficients. */
export const entryWords = 14;

export function perturbTogether(
  { weights, slots, entries }: Record<"weights" | "slots" | "entries", NumberArray>,
  { count }: { count: number },
): void {
  const words = Uint32Array.from(entries);
  const floats = new Float32Array(words.buffer);
  for (let i = 0; i < count; i++) {
    const start = i * entryWords;
    const [, inPanels, weightStart, slotStart, rows, rowSize] = words.subarray(start);
    const [name0, name1, deltaKey0, deltaKey1, etaKey0, etaKey1] = words.subarray(start + 6);
    const [a, b] = floats.subarray(start + 12);
    const noise = { name0, name1, deltaKey0, deltaKey1, etaKey0, etaKey1, a, b, rowSize, firstRow: 0 };
    const panels = Math.ceil(rows / 8);
    const weight = weights.subarray(weightStart, weightStart + rows * rowSize);
    const slot = slots.subarray(slotStart, slotStart + (inPanels ? 8 * panels : rows) * rowSize);
    const cell = { ...noise, rows, rowsStart: 0 };
    if (inPanels) perturbPanels({ weight, slot }, { ...cell, rowsTotal: rows, panels, panelsStart: 0 });
    else perturbRows({ weight, slot }, cell);
  }
}
