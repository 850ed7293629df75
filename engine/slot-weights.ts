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
import { type DirectionStep, type Move, moveIntoSlots } from "./ops/perturbation/along.ts";
import { joinedShapes, type ParameterArena } from "./parameter-arena.ts";
import type { OperandPrecision, Parameter, SlotStack, WeightTensors } from "./parameters.ts";
import { wordsOf } from "./random.ts";
import { assume } from "./replay.ts";
import { RowTables } from "./row-tables.ts";
import { keep, keepAll } from "./scope.ts";
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
   * @throws OutOfMemoryError when there is no memory for one of the buffers; those made before are freed then
   */
  constructor(arena: ParameterArena, slots: number, precision: OperandPrecision = "f32") {
    this.dtype = arena.dtype;
    this.operands = precision;
    this.#arena = arena;
    this.#count = slots;
    this.#tables = new RowTables(arena.backend);
    this.#slots = keepAll(() => (precision === "f16" ? allocateHalfSlots(arena, slots) : allocateSlots(arena, slots)));
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
      const slots = new Map(points.map((_, point) => [point, own[point]]));
      const { shape } = this.#arena.value(name);
      this.#parameters.set(name, { kind: "slots", shape, slots, stack: this.#stacks.get(name) });
    }
    moveIntoSlots(points.flatMap((stepsOf, point) => this.#moves(point, stepsOf)));
  }

  /** Fills one slot anew; the others keep their points. `placeAlong` must have filled it before. */
  replace(point: number, stepsOf: (name: string) => readonly DirectionStep[]): void {
    this.#arena.backend.phase?.("perturbing");
    moveIntoSlots(this.#moves(point, stepsOf));
  }

  #moves(point: number, stepsOf: (name: string) => readonly DirectionStep[]): Move[] {
    return [...this.#slots].map(([name, own]) => ({
      ...{ weight: this.#arena.value(name), slot: own[point], nameWords: wordsOf(name), steps: stepsOf(name) },
    }));
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

/** Tensors are padded so that each begins at a multiple of four elements, and can be read in fours. */
const inFours = (length: number): number => 4 * Math.ceil(length / 4);

/**
 * One buffer for many slots: for all tensors of the model, if it can hold them. Then a point's weights are moved by few dispatches
 * (ops/perturbation/perturb-together.ts). Else for the norms and biases, which are small beside the matrices: a kernel that reads
 * several of them has one binding (ops/matmul/layer-parts.ts). Without room for these either, each has a buffer of its own.
 */
class SharedBuffer {
  readonly #all: Tensor | null;
  readonly #hasMatrices: boolean;
  #taken = 0;

  /** @param shapes  of all tensors of a slot that may lie here */
  constructor({ backend, dtype }: ParameterArena, slots: number, shapes: readonly Shape[]) {
    const lengthOf = (some: readonly Shape[]): number =>
      slots * some.reduce((sum, shape) => sum + inFours(sizeOf(shape)), 0);
    const fits = (length: number): boolean =>
      length > 0 && length * bytesPerElement[dtype] <= backend.limits.maxBufferBytes;
    const [whole, vectors] = [shapes, shapes.filter(isVector)].map(lengthOf);
    this.#hasMatrices = fits(whole);
    const length = this.#hasMatrices ? whole : vectors;
    const label = memoryLabel("perturbed weights", this.#hasMatrices ? "all tensors" : "vectors");
    this.#all = fits(length) ? keep(empty(backend, [length], dtype, label)) : null;
  }

  /** A tensor of this shape per slot, at equal distances; null if they are to have a buffer of their own. */
  take(slots: number, shape: Shape): Tensor[] | null {
    if (this.#all === null || !(this.#hasMatrices || isVector(shape))) return null;
    const all = this.#all;
    const [start, size] = [this.#taken, sizeOf(shape)];
    const distance = inFours(size);
    this.#taken += slots * distance;
    return Array.from({ length: slots }, (_, slot) => all.sliceRows(start + slot * distance, size).view(shape));
  }
}

const isVector = ({ length }: Shape): boolean => length === 1;

/** A tensor per slot: parts of one buffer at equal distances if it can hold all of them, else tensors of their own. */
function allocateEach(
  backend: Backend,
  slots: number,
  shape: Shape,
  dtype: DType,
  label: string,
  shared: SharedBuffer | null = null,
): Tensor[] {
  const taken = shared?.take(slots, shape) ?? null;
  if (taken !== null) return taken;
  const distance = isVector(shape) ? inFours(shape[0]) : shape[0];
  const whole = [(slots - 1) * distance + shape[0], ...shape.slice(1)];
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
  shared: SharedBuffer | null = null,
): Map<string, Tensor[]> {
  const parts = new Map<string, Tensor[]>();
  for (const { group, whole, members } of joinedShapes(backend, wanted, dtype)) {
    const each = allocateEach(backend, slots, whole, dtype, group, shared);
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
  const layouts = new Map(arena.names.map((name) => [name, layoutsOf(arena, name)]));
  // Panels that are packed from rows lie in another buffer than these: a kernel does not write the buffer that it reads.
  const shared = new SharedBuffer(
    ...([arena, slots] as const),
    [...layouts.values()].flatMap(({ rows, panels }) => [rows ?? panels ?? []]),
  );
  const isPacked = (name: string): boolean => layouts.get(name)?.rows !== null && layouts.get(name)?.panels !== null;
  const groupedOf = (packed: boolean) => new Map([...grouped].filter(([name]) => isPacked(name) === packed));
  const parts = new Map([
    ...allocateJoined(backend, slots, groupedOf(false), dtype, shared),
    ...allocateJoined(backend, slots, groupedOf(true), dtype),
  ]);
  const of = (shape: Shape, label: string, own: SharedBuffer | null): Tensor[] =>
    allocateEach(backend, slots, shape, dtype, label, own);
  return new Map(
    [...layouts].map(([name, layout]) => {
      const rows =
        layout.rows === null ? null : (layout.panels === null && parts.get(name)) || of(layout.rows, name, shared);
      const panels =
        layout.panels === null
          ? null
          : (parts.get(name) ?? of(layout.panels, `${name}.panels`, rows === null ? shared : null));
      return [
        name,
        Array.from({ length: slots }, (_, slot) => ({ rows: rows?.[slot] ?? null, panels: panels?.[slot] ?? null })),
      ];
    }),
  );
}

/** The layouts that a slot of a parameter has. */
function layoutsOf(arena: ParameterArena, name: string): { rows: Shape | null; panels: Shape | null } {
  const { tensor, panels } = plainOf(arena, name);
  return { rows: panels === null || !arena.isLinear(name) ? tensor.shape : null, panels: panels?.shape ?? null };
}

function plainOf(arena: ParameterArena, name: string): Parameter & { readonly kind: "tensor" } {
  const parameter = arena.get(name);
  if (parameter.kind !== "tensor") throw new Error("SlotWeights: the arena holds plain tensors");
  return parameter;
}
