// The bodies of products: a kernel exists once per tile and type of operands, and for matrix units once per way in which
// operands lie in memory. Products of rows with weights in panels (one weight; three; gate and up) have the same bodies, so
// what they make of a finished sum (bias, residual, SwiGLU) is written once for all tiles.
import type { Backend } from "../../backends/backend.ts";
import { ShapeError } from "../../errors.ts";
import type { Constants } from "../../kernel.ts";
import type { Tensor } from "../../tensor.ts";
import { knownForms, type MatrixForm, ownForm, tileColumns, tileRows } from "./matrix-tiles.ts";
import {
  chooseTile,
  type OperandType,
  type Product,
  preferredTiles,
  shapeClass,
  type Tile,
  type TileName,
  tileNames,
  tiles,
} from "./tiles.ts";

/** The parts of a kernel that depend on tile and operand type: shared files, constants, extent. */
export function bodyOf(tile: Tile, operands: OperandType) {
  const { inFours, file, parts, constants, variants } = tile;
  const fours = inFours ? "-fours" : "";
  const words = { f32: ["f32", "vec4f"], f16: ["u32", "vec2u"] } as const;
  return {
    uses: ["product", `operands-${operands}${fours}`, `sums${fours}`, file, ...parts],
    constants: {
      ...constants,
      Operand: words[operands][inFours ? 1 : 0],
      Result: inFours ? "vec4f" : "f32",
      RESULT_WIDTH: inFours ? 4 : 1,
    },
    variants,
  };
}

export function kernelName(product: string, { name }: Tile, operands: OperandType): string {
  return `multiply${product}${name}${operands === "f16" ? "Half" : ""}`;
}

/** The parts of a kernel on matrix units that depend on how operands lie in memory. */
export function matrixBodyOf(inEights: boolean, inFours = false) {
  const operands = inEights ? "matrix-operands-eights" : "matrix-operands";
  return {
    uses: ["matrix-units", "product", "matrix-tile", operands, inFours ? "matrix-sums-fours" : "matrix-sums"],
    constants: { ...knownForms[0], Operand: inEights ? "vec4u" : "u32" },
    variants: knownForms.slice(1),
  };
}

export const matrixName = (product: string, inEights: boolean): string =>
  `multiply${product}${inEights ? "Eights" : "Halves"}Matrix`;

/** The body of a product of rows with a weight in panels. */
export interface RowsBody {
  readonly nameOf: (product: string) => string;
  readonly uses: readonly string[];
  readonly constants: Constants;
  readonly variants: readonly Constants[];
  /** Extent of one workgroup's tile. */
  readonly rows: (constants: Constants) => number;
  readonly columns: (constants: Constants) => number;
}

function tileBody(tile: Tile, operands: OperandType): RowsBody {
  const { uses, ...body } = bodyOf(tile, operands);
  return {
    ...body,
    nameOf: (product) => kernelName(product, tile, operands),
    uses: [...uses, "entry"],
    rows: tile.rows,
    columns: tile.columns,
  };
}

function matrixBody(inEights: boolean, inFours: boolean): RowsBody {
  const { uses, constants, variants } = matrixBodyOf(inEights, inFours);
  return {
    nameOf: (product) => matrixName(product, inEights),
    uses: [...uses, "matrix-entry"],
    constants: { ...constants, Result: inFours ? "vec4f" : "f32", RESULT_WIDTH: inFours ? 4 : 1 },
    variants,
    rows: tileRows,
    columns: tileColumns,
  };
}

/** The kernels of one product of rows. */
export interface RowKernels<K> {
  readonly f32: ReadonlyMap<TileName, K>;
  readonly f16: ReadonlyMap<TileName, K>;
  readonly eights: K;
  readonly halves: K;
}

/**
 * One kernel per body.
 * @param inFours  what is stored are fours: on matrix units, and with `onlyFours` by all tiles
 */
export function rowKernels<K>(
  make: (body: RowsBody) => K,
  { inFours = false, onlyFours = false }: { inFours?: boolean; onlyFours?: boolean } = {},
): RowKernels<K> {
  const ones = onlyFours ? tileNames.filter((name) => !tiles[name].inFours) : [];
  const of = (operands: OperandType, without: readonly TileName[]): ReadonlyMap<TileName, K> =>
    forTiles((tile) => make(tileBody(tile, operands)), operands, without);
  return {
    f32: of("f32", onlyFours ? tileNames : []),
    f16: of("f16", ones),
    eights: make(matrixBody(true, inFours)),
    halves: make(matrixBody(false, inFours)),
  };
}

/**
 * The kernel of a product of rows, with its constants: on matrix units if the adapter has them for these operands.
 * @param x        [T, C]
 * @param panels   of the weight
 * @param inFours  whether everything begins and is cut at multiples of four
 * @throws Error if these kernels lack the tile: see `tryRowKernel`
 */
export function chooseRowKernel<K>(
  kernels: RowKernels<K>,
  what: string,
  x: Tensor,
  panels: Tensor,
  inFours: boolean,
): { readonly kernel: K; readonly constants: Constants } {
  const chosen = tryRowKernel(kernels, what, x, panels, inFours);
  if (chosen === null) throw new Error(`${what}: no kernel for these operands`);
  return chosen;
}

/** As `chooseRowKernel`; null if these kernels lack the tile. */
export function tryRowKernel<K>(
  kernels: RowKernels<K>,
  what: string,
  x: Tensor,
  panels: Tensor,
  inFours: boolean,
): { readonly kernel: K; readonly constants: Constants } | null {
  const operands = operandType(what, x, panels);
  const form = matrixFormFor(x.backend, "forward", operands, x.rows);
  if (form !== null)
    return { kernel: areInEights([x.rowSize], [x, panels]) ? kernels.eights : kernels.halves, constants: form };
  const { tile, constants } = chooseTile(x.backend, "forward", operands, x.rows, inFours);
  const kernel = kernels[operands].get(tile);
  return kernel === undefined ? null : { kernel, constants };
}

/** One kernel per tile that suits these operands. */
export function forTiles<K>(
  make: (tile: Tile, operands: OperandType) => K,
  operands: OperandType,
  without: readonly TileName[] = [],
): ReadonlyMap<TileName, K> {
  const suiting = tileNames.filter((name) => tiles[name].operands.includes(operands) && !without.includes(name));
  return new Map(suiting.map((name) => [name, make(tiles[name], operands)]));
}

export function kernelOf<K>(kernels: ReadonlyMap<TileName, K>, tile: TileName): K {
  const found = kernels.get(tile);
  if (found === undefined) throw new Error(`matmul: tile "${tile}" does not suit this product`);
  return found;
}

/** The form of a product on matrix units; null if it takes another tile, because of types, adapter or a plan. */
export function matrixFormFor(
  backend: Backend,
  product: Product,
  operands: OperandType,
  rows: number,
): MatrixForm | null {
  const isPlanned = preferredTiles(backend)[shapeClass(product, operands, rows)] !== undefined;
  return operands === "f16" && !isPlanned ? ownForm(backend) : null;
}

/** The type of both operands. f64 exists on the plain backend only, whose kernels are the same for all types. */
export function operandType(what: string, left: Tensor, right: Tensor): OperandType {
  if (left.dtype !== right.dtype)
    throw new ShapeError(`${what}: expected operands of one type, got ${left.dtype} and ${right.dtype}.`);
  return left.dtype === "f16" ? "f16" : "f32";
}

/** Whether rows of these widths can be read in fours, and cells cut along `cut` begin at multiples of four. */
export function areInFours(
  widths: readonly number[],
  tensors: readonly Tensor[],
  cut: readonly Tensor[] = [],
): boolean {
  for (const width of widths) if (width % 4 !== 0) return false;
  for (const { segments } of tensors) for (const { base } of segments) if (base % 4 !== 0) return false;
  return cut.every(({ segments }) => segments.slice(0, -1).every(({ rows }) => rows % 4 === 0));
}

/** Whether halves in rows of these widths can be read in eights, and cells cut along `cut` begin at multiples of eight. */
export function areInEights(
  widths: readonly number[],
  halves: readonly Tensor[],
  cut: readonly Tensor[] = [],
): boolean {
  return (
    widths.every((width) => width % 8 === 0) &&
    halves.every(({ segments }) => segments.every(({ base }) => base % 8 === 0)) &&
    cut.every(({ segments }) => segments.slice(0, -1).every(({ rows }) => rows % 8 === 0))
  );
}
