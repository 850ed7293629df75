// The weights θ + αδ + βη of several grid points at once, one slot per point.
import { SlotWeights } from "../../engine/index.ts";
import type { GridCell } from "../grid.ts";
import { type Slice, stepsTo } from "./directions.ts";

export class PerturbedWeights extends SlotWeights {
  /** Fills the slots with the perturbed weights of these cells. In a batch, point k means cells[k]. */
  place(cells: readonly GridCell[], slice: Slice): void {
    this.placeAlong(cells.map((cell) => (name) => stepsTo(cell, slice, name)));
  }
}
