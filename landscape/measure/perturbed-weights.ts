// The weights θ + αδ + βη of several grid points at once, one slot per point, in the layouts that the forward pass reads. The
// checkpoint's own weights θ are never written.
import {
  allocateForward,
  allocateGroups,
  type DirectionStep,
  empty,
  keep,
  memoryLabel,
  moveIntoSlot,
  type OperandPrecision,
  type Parameter,
  type ParameterArena,
  type Tensor,
  type Weights,
  type WeightTensors,
  wordsOf,
} from "../../engine/index.ts";
import type { GridCell } from "../grid.ts";
import { type Slice, stepsTo } from "./directions.ts";
import { isMatrix } from "./rounded-weights.ts";

export class PerturbedWeights implements Weights {
  readonly dtype: "f32" | "f64";
  readonly isPerturbed = true;
  readonly operands: OperandPrecision;
  readonly #arena: ParameterArena;
  readonly #parameters = new Map<string, Parameter>();
  readonly #slots: ReadonlyMap<string, WeightTensors>[] = [];

  /**
   * @param slots      grid points held at once
   * @param precision  f16: matrices are f16 panels, computed in f32 and rounded to nearest. Default f32
   */
  constructor(arena: ParameterArena, slots: number, precision: OperandPrecision = "f32") {
    this.dtype = arena.dtype;
    this.operands = precision;
    this.#arena = arena;
    for (let slot = 0; slot < slots; slot++)
      this.#slots.push(precision === "f16" ? allocateHalfSlot(arena) : allocateSlot(arena));
  }

  /** Fills the slots with the perturbed weights of these cells. In a batch, point k means cells[k]. */
  place(cells: readonly GridCell[], slice: Slice): void {
    this.placeAlong(cells.map((cell) => (name) => stepsTo(cell, slice, name)));
  }

  /**
   * Fills the slots with weights moved along any directions, which may differ from point to point.
   * @param points  for each point, the steps from a tensor of the checkpoint to that of the point
   */
  placeAlong(points: readonly ((name: string) => readonly DirectionStep[])[]): void {
    if (points.length > this.#slots.length)
      throw new Error(`PerturbedWeights: ${points.length} points for ${this.#slots.length} slots`);
    this.#arena.backend.phase?.("perturbing");
    for (const name of this.#arena.names) {
      const weight = this.#arena.value(name);
      const slots = new Map<number, WeightTensors>();
      points.forEach((stepsOf, point) => {
        const slot = this.#slots[point].get(name);
        if (slot === undefined) throw new Error(`PerturbedWeights: no slot for ${name}`);
        moveIntoSlot(weight, slot, wordsOf(name), stepsOf(name));
        slots.set(point, slot);
      });
      this.#parameters.set(name, { kind: "slots", shape: weight.shape, slots });
    }
  }

  get(name: string): Parameter {
    const parameter = this.#parameters.get(name);
    if (parameter === undefined) throw new Error(`PerturbedWeights: no weights were placed for ${name}`);
    return parameter;
  }

  free(): void {
    for (const slot of this.#slots)
      for (const { rows, panels } of slot.values()) {
        rows?.free();
        panels?.free();
      }
  }
}

/** Matrices in f16 panels, which the embedding reads too; norms and biases in f32. */
function allocateHalfSlot(arena: ParameterArena): Map<string, WeightTensors> {
  return new Map(
    arena.names.map((name) => {
      const { shape } = arena.value(name);
      return [name, allocateForward(arena.backend, { shape, isHalf: isMatrix(shape) }, "perturbed weights", name)];
    }),
  );
}

/**
 * A matrix that only the forward product reads needs no copy in Hugging Face's layout; a tied embedding is read in both
 * layouts.
 */
function allocateSlot(arena: ParameterArena): Map<string, WeightTensors> {
  // What one product reads follows each other here as in the arena: panels of a group, and its biases.
  const grouped = new Map<string, { shape: readonly number[]; group: string }>();
  for (const name of arena.names) {
    const parameter = arena.get(name);
    const group = arena.groupOf(name);
    const shape = parameter.kind === "tensor" ? (parameter.panels ?? parameter.tensor).shape : parameter.shape;
    if (group !== undefined) grouped.set(name, { shape, group });
  }
  const own = (shape: readonly number[], label: string): Tensor =>
    keep(empty(arena.backend, shape, arena.dtype, memoryLabel("perturbed weights", label)));
  const parts = allocateGroups(arena.backend, grouped, arena.dtype, (group) => memoryLabel("perturbed weights", group));
  return new Map(
    arena.names.map((name) => {
      const parameter = arena.get(name);
      if (parameter.kind !== "tensor") throw new Error("PerturbedWeights: the arena holds plain tensors");
      const { tensor, panels } = parameter;
      const needsRows = panels === null || !arena.isLinear(name);
      return [
        name,
        {
          rows: needsRows ? (panels === null && parts.get(name)) || own(tensor.shape, name) : null,
          panels: panels === null ? null : (parts.get(name) ?? own(panels.shape, `${name}.panels`)),
        },
      ];
    }),
  );
}
