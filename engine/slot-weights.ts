// The weights of several points around an arena's weights θ at once, one slot per point, in the layouts that the forward pass
// reads. θ itself is never written.
import { allocateForward } from "./half-weights.ts";
import { memoryLabel } from "./memory-purpose.ts";
import { type DirectionStep, moveIntoSlot } from "./ops/perturbation/along.ts";
import { allocateGroups, type ParameterArena } from "./parameter-arena.ts";
import type { OperandPrecision, Parameter, Weights, WeightTensors } from "./parameters.ts";
import { wordsOf } from "./random.ts";
import { keep } from "./scope.ts";
import { empty, type Tensor } from "./tensor.ts";

export class SlotWeights implements Weights {
  readonly dtype: "f32" | "f64";
  readonly isPerturbed = true;
  readonly operands: OperandPrecision;
  readonly #arena: ParameterArena;
  readonly #parameters = new Map<string, Parameter>();
  readonly #slots: ReadonlyMap<string, WeightTensors>[] = [];

  /**
   * @param slots      points held at once
   * @param precision  f16: matrices are f16 panels, computed in f32 and rounded to nearest. Default f32
   */
  constructor(arena: ParameterArena, slots: number, precision: OperandPrecision = "f32") {
    this.dtype = arena.dtype;
    this.operands = precision;
    this.#arena = arena;
    for (let slot = 0; slot < slots; slot++)
      this.#slots.push(precision === "f16" ? allocateHalfSlot(arena) : allocateSlot(arena));
  }

  /**
   * Fills the slots with weights moved along any directions, which may differ from point to point. In a batch, point k means
   * points[k].
   * @param points  for each point, the steps from a tensor of θ to that of the point
   */
  placeAlong(points: readonly ((name: string) => readonly DirectionStep[])[]): void {
    if (points.length > this.#slots.length)
      throw new Error(`SlotWeights: ${points.length} points for ${this.#slots.length} slots`);
    this.#arena.backend.phase?.("perturbing");
    for (const name of this.#arena.names) {
      const weight = this.#arena.value(name);
      const slots = new Map<number, WeightTensors>();
      points.forEach((stepsOf, point) => {
        const slot = this.#slots[point].get(name);
        if (slot === undefined) throw new Error(`SlotWeights: no slot for ${name}`);
        moveIntoSlot(weight, slot, wordsOf(name), stepsOf(name));
        slots.set(point, slot);
      });
      this.#parameters.set(name, { kind: "slots", shape: weight.shape, slots });
    }
  }

  /** Fills one slot anew; the others keep their points. `placeAlong` must have filled it before. */
  replace(point: number, stepsOf: (name: string) => readonly DirectionStep[]): void {
    this.#arena.backend.phase?.("perturbing");
    for (const name of this.#arena.names) {
      const slot = this.#slots[point]?.get(name);
      if (slot === undefined) throw new Error(`SlotWeights: no slot ${point} for ${name}`);
      moveIntoSlot(this.#arena.value(name), slot, wordsOf(name), stepsOf(name));
    }
  }

  get(name: string): Parameter {
    const parameter = this.#parameters.get(name);
    if (parameter === undefined) throw new Error(`SlotWeights: no weights were placed for ${name}`);
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
      return [name, allocateForward(arena.backend, { shape, isHalf: shape.length === 2 }, "perturbed weights", name)];
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
      if (parameter.kind !== "tensor") throw new Error("SlotWeights: the arena holds plain tensors");
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
