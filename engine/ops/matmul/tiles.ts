// The tiles of a matrix product, and the choice between them. All of them sum in the same order (one f32 accumulator, k
// ascending), so the choice affects speed alone and changes no bit of a result.
//
// The speed of a tile differs by factors between adapters: a GPU needs operands in workgroup memory, lavapipe few and
// wide loads, SwiftShader still fewer. This file contains the rule for each adapter; `preferTiles` replaces it by a
// choice that was measured on the machine (ops/matmul/tune.ts).
import type { Backend } from "../../backends/backend.ts";
import type { Constants } from "../../kernel.ts";

/**
 * The name of the summation order of every product, for provenance; a tile that summed differently would need another
 * name.
 */
export const sumOrder = "one f32 accumulator, k ascending";

export const tileNames = ["register", "broadcast", "vector", "thin", "column", "quad", "workgroup"] as const;
export type TileName = (typeof tileNames)[number];
export type Product = "forward" | "input" | "weight";
export type OperandType = "f32" | "f16";

/** A tile with the constants of one of its forms. */
export interface TileForm {
  readonly tile: TileName;
  readonly constants: Readonly<Record<string, number>>;
}

export interface Tile {
  /** The part of a kernel's name that stands for the tile. */
  readonly name: string;
  readonly file: string;
  /** Further shared files that it needs. */
  readonly parts: readonly string[];
  /** Operands and result are read and written in fours: everything begins and is cut at multiples of four. */
  readonly inFours: boolean;
  /** Types of operands that it can read. */
  readonly operands: readonly OperandType[];
  readonly constants: Constants;
  readonly variants: readonly Constants[];
  /** Extent of one workgroup's tile. */
  readonly rows: (constants: Constants) => number;
  readonly columns: (constants: Constants) => number;
}

export const tiles: Readonly<Record<TileName, Tile>> = {
  register: {
    name: "",
    file: "register-tile",
    parts: [],
    inFours: false,
    operands: ["f32", "f16"],
    constants: { LANES: 64 },
    variants: [],
    rows: () => 32,
    columns: () => 32,
  },
  /** Subgroups of 8. */
  broadcast: {
    name: "Broadcast",
    file: "broadcast-tile",
    parts: [],
    inFours: false,
    operands: ["f32", "f16"],
    constants: { LANES: 8, ROWS: 4 },
    variants: [{ ROWS: 1 }],
    rows: ({ ROWS }) => 8 * Number(ROWS),
    columns: () => 32,
  },
  /** Subgroups of 8. */
  vector: {
    name: "Vector",
    file: "vector-tile",
    parts: ["vector-columns"],
    inFours: true,
    operands: ["f32", "f16"],
    constants: { LANES: 8 },
    variants: [],
    rows: () => 32,
    columns: () => 32,
  },
  /** Few rows; not for the weight's gradient, whose rows are a layer's inputs. */
  thin: {
    name: "Thin",
    file: "thin-tile",
    parts: [],
    inFours: true,
    operands: ["f32", "f16"],
    constants: { LANES: 8, ROWS: 1 },
    variants: [{ ROWS: 4 }, { LANES: 32 }, { LANES: 32, ROWS: 4 }],
    rows: ({ ROWS }) => Number(ROWS),
    columns: ({ LANES }) => 4 * Number(LANES),
  },
  /** Subgroups of 8, few rows; not for the weight's gradient either. */
  column: {
    name: "Column",
    file: "column-tile",
    parts: [],
    inFours: true,
    operands: ["f32", "f16"],
    constants: { LANES: 8, ROWS: 1 },
    variants: [{ ROWS: 4 }, { ROWS: 8 }, { ROWS: 16 }],
    rows: ({ ROWS }) => Number(ROWS),
    columns: () => 32,
  },
  /** Subgroups of 4. */
  quad: {
    name: "Quad",
    file: "quad-tile",
    parts: [],
    inFours: false,
    operands: ["f32"],
    constants: { LANES: 4 },
    variants: [],
    rows: () => 16,
    columns: () => 16,
  },
  workgroup: {
    name: "Workgroup",
    file: "workgroup-tile",
    parts: [],
    inFours: true,
    operands: ["f32", "f16"],
    constants: { LANES: 128 },
    variants: [],
    rows: () => 64,
    columns: () => 64,
  },
};

/** Classes of row counts: products with up to 1, 4, 8 or 16 rows, and all above, use one tile per class. */
export const rowClasses = [1, 4, 8, 16, Number.POSITIVE_INFINITY] as const;

/**
 * The class that a choice decides for: product, operands and rows. If an operand is not in fours, the adapter's rule
 * decides.
 */
export function shapeClass(product: Product, operands: OperandType, rows: number): string {
  const index = rowClasses.findIndex((most) => rows <= most);
  return `${product} ${operands} ${["1 row", "2-4 rows", "5-8 rows", "9-16 rows", "17 rows or more"][index]}`;
}

/** One tile per shape class that it names. */
export type TileChoice = Readonly<Record<string, TileForm>>;

const choices = new WeakMap<Backend, TileChoice>();

/** Makes a backend's products use these tiles instead of the adapter's rule. */
export function preferTiles(backend: Backend, choice: TileChoice): void {
  choices.set(backend, choice);
}

/** The choice of `preferTiles`; empty if the adapter's rule decides. */
export function preferredTiles(backend: Backend): TileChoice {
  return choices.get(backend) ?? {};
}

/** @param rows  extent of the result along the tile's rows */
export function chooseTile(
  backend: Backend,
  product: Product,
  operands: OperandType,
  rows: number,
  inFours: boolean,
): TileForm {
  const preferred = choices.get(backend)?.[shapeClass(product, operands, rows)];
  if (preferred !== undefined && (inFours || !tiles[preferred.tile].inFours)) return preferred;
  return ownTile(backend.style, product, operands, rows, inFours);
}

function ownTile(
  style: Backend["style"],
  product: Product,
  operands: OperandType,
  rows: number,
  inFours: boolean,
): TileForm {
  const isThin = inFours && product !== "weight" && rows <= 4;
  const isFew = inFours && product !== "weight" && rows <= 16;
  const thin = (LANES: number): TileForm => ({ tile: "thin", constants: { LANES, ROWS: rows === 1 ? 1 : 4 } });
  switch (style) {
    case "lavapipe":
      if (isFew) return { tile: "column", constants: { ROWS: [1, 4, 8, 16].find((most) => rows <= most) ?? 16 } };
      if (inFours && rows > 8) return { tile: "vector", constants: {} };
      return { tile: "broadcast", constants: { ROWS: rows <= 16 ? 1 : 4 } };
    case "swiftshader":
      if (isThin && rows === 1) return thin(8);
      return { tile: operands === "f32" ? "quad" : "register", constants: {} };
    case "gpu":
      if (isThin) return thin(32);
      return { tile: inFours ? "workgroup" : "register", constants: {} };
    case "plain":
      return { tile: "register", constants: {} };
    default:
      return style satisfies never;
  }
}
