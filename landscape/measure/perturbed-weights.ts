// The weights θ + αδ + βη of several grid points at once: one slot per point, or without any copy (engine/moved-weights.ts).
import { MovedWeights, type ParameterArena, type PointWeights, SlotWeights } from "../../engine/index.ts";
import type { GridCell } from "../grid.ts";
import type { StudySettings } from "../settings.ts";
import { type Slice, stepsTo } from "./directions.ts";

export class PerturbedWeights extends SlotWeights {
  /** Fills the slots with the perturbed weights of these cells. In a batch, point k means cells[k]. */
  place(cells: readonly GridCell[], slice: Slice): void {
    this.placeAlong(cells.map((cell) => (name) => stepsTo(cell, slice, name)));
  }
}

/**
 * Weights of up to `points` grid points, as the settings ask for; for `auto`, slots: the memory plan has replaced it if not even
 * one slot fits (`settingsThatFit`).
 */
export function pointWeights(
  arena: ParameterArena,
  points: number,
  { weights, precision }: Pick<StudySettings["landscape"], "weights" | "precision">,
): PointWeights {
  return weights === "in-tile" ? new MovedWeights(arena, precision) : new PerturbedWeights(arena, points, precision);
}
