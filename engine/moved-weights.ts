// The weights of several points around an arena's weights θ without a copy of any: a tile of a point's weight is made from θ and
// its directions when a product needs it, and freed after the product. The numbers are those of `SlotWeights`, to the bit.
//
// A tile is a whole matrix of a layer, or as many rows of the head as a chunk of logits has columns. An embedding looks up θ's
// rows and moves each by itself. So the memory does not grow with the number of points; but every pass of the model makes every
// weight again for each of its points.
import { memoryLabel } from "./memory-purpose.ts";
import { panelShape } from "./ops/matmul/matmul.ts";
import { type DirectionStep, moveIntoSlot } from "./ops/perturbation/along.ts";
import { lookUpMoved } from "./ops/perturbation/looked-up.ts";
import type { ParameterArena } from "./parameter-arena.ts";
import type { OperandPrecision, Parameter, Weights, WeightTensors } from "./parameters.ts";
import { wordsOf } from "./random.ts";
import { assume } from "./replay.ts";
import { empty, type IndexRange, type Shape, type Tensor } from "./tensor.ts";

/** Weights of several points that can be placed anywhere around θ: slots, or weights that are made a tile at a time. */
export interface PointWeights extends Weights {
  /**
   * Moves the points' weights along any directions, which may differ from point to point. In a batch, point k means points[k].
   * @param points  for each point, the steps from a tensor of θ to that of the point
   */
  placeAlong(points: readonly ((name: string) => readonly DirectionStep[])[]): void;
  /** Moves one point's weights anew; the others stay. `placeAlong` must have placed it before. */
  replace(point: number, stepsOf: (name: string) => readonly DirectionStep[]): void;
  free(): void;
}

export class MovedWeights implements PointWeights {
  readonly dtype: "f32" | "f64";
  readonly isPerturbed = true;
  readonly operands: OperandPrecision;
  readonly #arena: ParameterArena;
  readonly #parameters = new Map<string, Parameter>();
  #points: readonly ((name: string) => readonly DirectionStep[])[] = [];
  #names: ReadonlySet<number> = new Set();
  /** Grows when a point moves: its directions are parameters of the kernels that make its tiles. */
  version = 0;

  /** @param precision  f16: matrices are f16 panels, computed in f32 and rounded to nearest. Default f32 */
  constructor(arena: ParameterArena, precision: OperandPrecision = "f32") {
    this.dtype = arena.dtype;
    this.operands = precision;
    this.#arena = arena;
  }

  placeAlong(points: readonly ((name: string) => readonly DirectionStep[])[]): void {
    this.version++;
    this.#points = points;
    this.#names = new Set(points.keys());
    this.#parameters.clear();
  }

  replace(point: number, stepsOf: (name: string) => readonly DirectionStep[]): void {
    this.version++;
    this.#points = this.#points.with(point, stepsOf);
  }

  get(name: string): Parameter {
    assume(this);
    const known = this.#parameters.get(name);
    if (known !== undefined) return known;
    if (this.#points.length === 0) throw new Error(`MovedWeights: no weights were placed for ${name}`);
    const weight = this.#arena.value(name);
    const isHalf = this.operands === "f16" && weight.shape.length === 2;
    const words = wordsOf(name);
    const made: Parameter = {
      kind: "moved",
      shape: weight.shape,
      dtype: this.dtype,
      isHalf,
      points: this.#names,
      tile: (point, range) => this.#tile(weight, isHalf, name, point, range),
      lookUp: (point, ids, y) => lookUpMoved(ids, weight, y, words, this.#points[point](name), isHalf),
    };
    this.#parameters.set(name, made);
    return made;
  }

  free(): void {
    this.#parameters.clear();
    this.#points = [];
  }

  #tile(weight: Tensor, isHalf: boolean, name: string, point: number, range: IndexRange | null): WeightTensors {
    const { backend, dtype } = weight;
    const cut = (tensor: Tensor): Tensor => (range === null ? tensor : tensor.sliceRows(range.start, range.count));
    const own = cut(weight);
    const make = (shape: Shape, type: typeof dtype): Tensor =>
      empty(backend, shape, type, memoryLabel("perturbed weights", `${name}, a tile`));
    const tile: WeightTensors =
      own.shape.length === 2
        ? { rows: null, panels: make(panelShape(own.shape[0], own.shape[1]), isHalf ? "f16" : dtype) }
        : { rows: make(own.shape, dtype), panels: null };
    const steps = this.#points[point](name).map((step) =>
      step.kind === "explicit" ? { ...step, tensor: cut(step.tensor) } : step,
    );
    moveIntoSlot(own, tile, wordsOf(name), steps, range?.start ?? 0);
    return tile;
  }
}
