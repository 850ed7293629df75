// The weights of several points around an arena's weights θ at once, one slot per point, in the layouts that the forward pass
// reads. θ itself is never written.
//
// The slots of one weight lie in one buffer at equal distances, if the adapter's limit allows. Then one dispatch multiplies
// the rows of all points (row-tables.ts).
import type { Backend } from "./backends/backend.ts";
import { PlanningBackend } from "./backends/planning.ts";
import { sayOnce } from "./backends/webgpu/say-once.ts";
import { bytesPerElement, type DType } from "./dtype.ts";
import { memoryLabel } from "./memory-purpose.ts";
import type { PointWeights } from "./moved-weights.ts";
import { panelShape } from "./ops/matmul/matmul.ts";
import { type DirectionStep, moveIntoSlot } from "./ops/perturbation/along.ts";
import { joinedShapes, type ParameterArena } from "./parameter-arena.ts";
import type { OperandPrecision, Parameter, SlotStack, WeightTensors } from "./parameters.ts";
import { wordsOf } from "./random.ts";
import { assume } from "./replay.ts";
import { RowTables } from "./row-tables.ts";
import { keep } from "./scope.ts";
import { empty, type Shape, sizeOf, type Tensor } from "./tensor.ts";

export class SlotWeights implements PointWeights {
  readonly dtype: "f32" | "f64";
  readonly isPerturbed = true;
  readonly operands: OperandPrecision;
  readonly #arena: ParameterArena;
  readonly #parameters = new Map<string, Parameter>();
  /** By name, a weight's tensors in each slot. */
  readonly #slots: ReadonlyMap<string, readonly WeightTensors[]>;
  readonly #stacks = new Map<string, SlotStack>();
  readonly #tables: RowTables;
  readonly #count: number;
  /** Grows when slots are given to points: recorded work may have used those of other points. */
  version = 0;

  /**
   * @param slots      points held at once
   * @param precision  f16: matrices are f16 panels, computed in f32 and rounded to nearest. Default f32
   */
  constructor(arena: ParameterArena, slots: number, precision: OperandPrecision = "f32") {
    this.dtype = arena.dtype;
    this.operands = precision;
    this.#arena = arena;
    this.#count = slots;
    this.#tables = new RowTables(arena.backend);
    this.#slots = precision === "f16" ? allocateHalfSlots(arena, slots) : allocateSlots(arena, slots);
    for (const [name, own] of this.#slots) {
      const of = (layout: keyof WeightTensors): number | null => distanceOf(own.map((tensors) => tensors[layout]));
      this.#stacks.set(name, {
        first: own[0],
        strides: { rows: of("rows"), panels: of("panels") },
        tables: this.#tables,
      });
    }
    if (slots > 1) this.#sayWhatIsApart();
  }

  /**
   * Fills the slots with weights moved along any directions, which may differ from point to point. In a batch, point k means
   * points[k].
   * @param points  for each point, the steps from a tensor of θ to that of the point
   */
  placeAlong(points: readonly ((name: string) => readonly DirectionStep[])[]): void {
    if (points.length > this.#count) throw new Error(`SlotWeights: ${points.length} points for ${this.#count} slots`);
    this.#arena.backend.phase?.("perturbing");
    this.version++;
    this.#tables.assign(new Map(points.map((_, point) => [point, point])));
    for (const [name, own] of this.#slots) {
      const weight = this.#arena.value(name);
      const slots = new Map<number, WeightTensors>();
      points.forEach((stepsOf, point) => {
        moveIntoSlot(weight, own[point], wordsOf(name), stepsOf(name));
        slots.set(point, own[point]);
      });
      this.#parameters.set(name, { kind: "slots", shape: weight.shape, slots, stack: this.#stacks.get(name) });
    }
  }

  /** Fills one slot anew; the others keep their points. `placeAlong` must have filled it before. */
  replace(point: number, stepsOf: (name: string) => readonly DirectionStep[]): void {
    this.#arena.backend.phase?.("perturbing");
    for (const [name, own] of this.#slots)
      moveIntoSlot(this.#arena.value(name), own[point], wordsOf(name), stepsOf(name));
  }

  get(name: string): Parameter {
    assume(this);
    const parameter = this.#parameters.get(name);
    if (parameter === undefined) throw new Error(`SlotWeights: no weights were placed for ${name}`);
    return parameter;
  }

  free(): void {
    this.#tables.free();
    for (const own of this.#slots.values())
      for (const { rows, panels } of own) {
        rows?.free();
        panels?.free();
      }
  }

  #sayWhatIsApart(): void {
    const { backend } = this.#arena;
    if (backend instanceof PlanningBackend) return;
    const apart = [...this.#slots].filter(([name, [{ rows, panels }]]) => {
      const { strides } = this.#stacks.get(name) ?? {};
      return (rows !== null && strides?.rows === null) || (panels !== null && strides?.panels === null);
    });
    if (apart.length === 0) return;
    const names = apart.slice(0, 3).map(([name]) => name);
    sayOnce(
      `${this.#count} slots of ${names.join(", ")}${apart.length > 3 ? ` and ${apart.length - 3} other weights` : ""} are too ` +
        "large for one buffer of this adapter. Their products run once for each point in place of once for all; results are the same.",
    );
  }
}

/** Vectors are padded so that each begins at a multiple of four elements, and can be read in fours. */
const inFours = (length: number): number => 4 * Math.ceil(length / 4);

/**
 * The norms and biases of all slots in one buffer, so that a kernel that reads several of them has one binding (ops/matmul/layer-parts.ts).
 * They are small beside the matrices. Without room for all in one buffer, each has its own.
 */
class SharedVectors {
  readonly #all: Tensor | null;
  #taken = 0;

  constructor(arena: ParameterArena, slots: number) {
    const { backend, dtype, names } = arena;
    const shapes = names.map((name) => arena.value(name).shape).filter(({ length }) => length === 1);
    const length = slots * shapes.reduce((sum, [own]) => sum + inFours(own), 0);
    const fits = length > 0 && length * bytesPerElement[dtype] <= backend.limits.maxBufferBytes;
    this.#all = fits ? keep(empty(backend, [length], dtype, memoryLabel("perturbed weights", "vectors"))) : null;
  }

  /** The next part; null if it is to have a buffer of its own. */
  take(length: number): Tensor | null {
    if (this.#all === null) return null;
    const part = this.#all.sliceRows(this.#taken, length);
    this.#taken += inFours(length);
    return part;
  }
}

/** A tensor per slot: parts of one buffer at equal distances if it can hold all of them, else tensors of their own. */
function allocateEach(
  backend: Backend,
  slots: number,
  shape: Shape,
  dtype: DType,
  label: string,
  vectors: SharedVectors | null = null,
): Tensor[] {
  const isVector = shape.length === 1;
  const distance = isVector ? inFours(shape[0]) : shape[0];
  const whole = [(slots - 1) * distance + shape[0], ...shape.slice(1)];
  const shared = isVector ? (vectors?.take(whole[0]) ?? null) : null;
  if (shared !== null) return Array.from({ length: slots }, (_, slot) => shared.sliceRows(slot * distance, shape[0]));
  const make = (of: Shape): Tensor => keep(empty(backend, of, dtype, memoryLabel("perturbed weights", label)));
  if (sizeOf(whole) * bytesPerElement[dtype] > backend.limits.maxBufferBytes)
    return Array.from({ length: slots }, () => make(shape));
  const all = make(whole);
  return Array.from({ length: slots }, (_, slot) => all.sliceRows(slot * distance, shape[0]));
}

/** Elements from each of these tensors to the next; null if they are not at equal distances in one buffer. */
function distanceOf(tensors: readonly (Tensor | null)[]): number | null {
  const places = tensors.map((tensor) => (tensor?.segments.length === 1 ? tensor.segments[0] : null));
  const [first, second] = places;
  const distance = (second?.base ?? 0) - (first?.base ?? 0);
  return places.every(
    (place, i) => place !== null && place.buffer === first?.buffer && place.base === first.base + i * distance,
  )
    ? distance
    : null;
}

/** Matrices in f16 panels, which the embedding reads too; norms and biases in f32. */
function allocateHalfSlots(arena: ParameterArena, slots: number): Map<string, WeightTensors[]> {
  const { backend, names } = arena;
  const shapeOf = (name: string): Shape => arena.value(name).shape;
  const isMatrix = (name: string): boolean => shapeOf(name).length === 2;
  const panelsOf = (name: string): Shape => panelShape(shapeOf(name)[0], shapeOf(name)[1]);
  const wanted = (isHalf: boolean) =>
    groupsIn(arena, (name) =>
      isMatrix(name) !== isHalf || (isHalf && shapeOf(name)[0] % 8 !== 0)
        ? null
        : isHalf
          ? panelsOf(name)
          : shapeOf(name),
    );
  const parts = new Map([
    ...allocateJoined(backend, slots, wanted(true), "f16"),
    ...allocateJoined(backend, slots, wanted(false), "f32"),
  ]);
  return new Map(
    names.map((name) => [
      name,
      isMatrix(name)
        ? (parts.get(name) ?? allocateEach(backend, slots, panelsOf(name), "f16", `${name}.panels`)).map((panels) => ({
            rows: null,
            panels,
          }))
        : (parts.get(name) ?? allocateEach(backend, slots, shapeOf(name), "f32", name)).map((rows) => ({
            rows,
            panels: null,
          })),
    ]),
  );
}

/** The parameters that are in a group, with the shape that each is stored in; null for one to leave out. */
function groupsIn(
  arena: ParameterArena,
  storedShape: (name: string) => Shape | null,
): Map<string, { shape: Shape; group: string }> {
  const found = new Map<string, { shape: Shape; group: string }>();
  for (const name of arena.names) {
    const group = arena.groupOf(name);
    const shape = group === undefined ? null : storedShape(name);
    if (group !== undefined && shape !== null) found.set(name, { shape, group });
  }
  return found;
}

/** For each name a tensor per slot: what one product reads follows each other in a slot as in the arena, panels of a group and biases. */
function allocateJoined(
  backend: Backend,
  slots: number,
  wanted: ReadonlyMap<string, { shape: Shape; group: string }>,
  dtype: DType,
  vectors: SharedVectors | null = null,
): Map<string, Tensor[]> {
  const parts = new Map<string, Tensor[]>();
  for (const { group, whole, members } of joinedShapes(backend, wanted, dtype)) {
    const each = allocateEach(backend, slots, whole, dtype, group, vectors);
    for (const { name, start, count } of members)
      parts.set(
        name,
        each.map((tensor) => tensor.sliceRows(start, count)),
      );
  }
  return parts;
}

/**
 * A matrix that only the forward product reads needs no copy in Hugging Face's layout; a tied embedding is read in both
 * layouts.
 */
function allocateSlots(arena: ParameterArena, slots: number): Map<string, WeightTensors[]> {
  const { backend, dtype } = arena;
  const grouped = groupsIn(arena, (name) => {
    const { tensor, panels } = plainOf(arena, name);
    return (panels ?? tensor).shape;
  });
  const vectors = new SharedVectors(arena, slots);
  const parts = allocateJoined(backend, slots, grouped, dtype, vectors);
  return new Map(
    arena.names.map((name) => {
      const { tensor, panels } = plainOf(arena, name);
      const of = (shape: Shape, label: string): Tensor[] => allocateEach(backend, slots, shape, dtype, label, vectors);
      const needsRows = panels === null || !arena.isLinear(name);
      const rows = needsRows ? (panels === null && parts.get(name)) || of(tensor.shape, name) : null;
      const inPanels = panels === null ? null : (parts.get(name) ?? of(panels.shape, `${name}.panels`));
      return [
        name,
        Array.from({ length: slots }, (_, slot) => ({ rows: rows?.[slot] ?? null, panels: inPanels?.[slot] ?? null })),
      ];
    }),
  );
}

function plainOf(arena: ParameterArena, name: string): Parameter & { readonly kind: "tensor" } {
  const parameter = arena.get(name);
  if (parameter.kind !== "tensor") throw new Error("SlotWeights: the arena holds plain tensors");
  return parameter;
}
