// A slice's map in the formats of other programs: NumPy's .npz, ParaView's .vtp, and JSON. docs/formats.md describes them.
import { z } from "zod";
import { bytesOf, type NamedArray, npzBytes } from "../files/npz.ts";
import { axis, type Grid } from "../grid.ts";
import type { Point } from "../statistics/points.ts";

/** A quantity at every grid point, [alpha][beta] in row-major order; NaN where it is not measured or undefined. */
export interface ExportedMap {
  readonly step: number;
  readonly slice: number;
  readonly grid: Grid;
  /** Both axes have these values. */
  readonly axis: readonly number[];
  /** 1 where the cell is measured, else 0. */
  readonly measured: Uint8Array;
  /** Rollouts that the environment failed on; their reward counts as 0. */
  readonly failed: Float64Array;
  /** By the column of points.csv. */
  readonly quantities: ReadonlyMap<string, Float64Array>;
}

export const mapFormats = ["npz", "vtp", "json"] as const;
export type MapFormat = (typeof mapFormats)[number];

const PLACE = ["i", "j", "alpha", "beta"];

/** Puts the rows of points.csv on the grid. @param failed  the number of failed rollouts of each row */
export function mapOnGrid(
  place: { step: number; slice: number },
  grid: Grid,
  points: readonly Point[],
  failed: readonly number[],
): ExportedMap {
  const size = grid.points ** 2;
  const measured = new Uint8Array(size);
  const failures = new Float64Array(size).fill(Number.NaN);
  const quantities = new Map<string, Float64Array>();
  points.forEach((point, row) => {
    const at = point.i * grid.points + point.j;
    measured[at] = 1;
    failures[at] = failed[row];
    for (const [name, value] of Object.entries(point)) {
      if (PLACE.includes(name)) continue;
      const values = quantities.get(name) ?? new Float64Array(size).fill(Number.NaN);
      values[at] = value;
      quantities.set(name, values);
    }
  });
  const { step, slice } = place;
  return { step, slice, grid, axis: axis(grid), measured, failed: failures, quantities };
}

/** The unit of a column of points.csv. */
function unitOf(name: string): string {
  if (/^(kl|k1|k3)_sequence$/.test(name)) return "nats per conversation";
  if (/^(kl|k1|k3)_|entropy$/.test(name)) return "nats per token";
  if (name === "length") return "tokens per rollout";
  if (/^(pass|cover)_at_|^truncated$|^format_failed$/.test(name)) return "share";
  return name.startsWith("reward") ? "reward" : "surrogate";
}

const gridOf = <T extends z.ZodType>(value: T) => z.array(z.array(value));

/** An exported map as JSON. Grids are [alpha][beta]; null: not measured, or undefined. */
export const mapJson = z.object({
  schemaVersion: z.literal(1),
  step: z.int(),
  slice: z.int(),
  radius: z.number(),
  /** The axes. */
  alpha: z.array(z.number()),
  beta: z.array(z.number()),
  measured: gridOf(z.boolean()),
  /** Rollouts that the environment failed on. */
  failed: gridOf(z.int().nullable()),
  /** By the column of points.csv. */
  arrays: z.record(z.string(), z.object({ unit: z.string(), values: gridOf(z.number().nullable()) })),
});

function json({ step, slice, axis, grid, quantities, measured, failed }: ExportedMap): string {
  const alpha = [...axis];
  const rows = <T>(value: (at: number) => T): T[][] =>
    alpha.map((_, i) => alpha.map((_, j) => value(i * alpha.length + j)));
  const numbers = (values: Float64Array) => rows((at) => (Number.isFinite(values[at]) ? values[at] : null));
  const content: z.infer<typeof mapJson> = {
    schemaVersion: 1,
    step,
    slice,
    radius: grid.radius,
    alpha,
    beta: alpha,
    measured: rows((at) => measured[at] === 1),
    failed: numbers(failed),
    arrays: Object.fromEntries(
      [...quantities].map(([name, values]) => [name, { unit: unitOf(name), values: numbers(values) }]),
    ),
  };
  return `${JSON.stringify(content)}\n`;
}

function npz({ step, slice, axis, quantities, measured, failed }: ExportedMap): Buffer {
  const n = axis.length;
  const one = (name: string, value: number): NamedArray => ({
    name,
    shape: [],
    values: BigInt64Array.of(BigInt(value)),
  });
  const line = (name: string): NamedArray => ({ name, shape: [n], values: Float64Array.from(axis) });
  const map = (name: string, values: NamedArray["values"]): NamedArray => ({ name, shape: [n, n], values });
  return npzBytes([
    one("step", step),
    one("slice", slice),
    line("alpha"),
    line("beta"),
    map("measured", measured),
    map("failed", failed),
    ...[...quantities].map(([name, values]) => map(name, values)),
  ]);
}

/**
 * A surface over the plane (alpha ÷ radius, beta ÷ radius), as high as the reward: VTK PolyData in XML. Its points are
 * the measured cells, its squares have four measured corners, and a point of no square is a vertex of its own. Arrays
 * are base64 with their length in bytes before them, because some readers do not accept "nan" as text.
 */
function vtp({ axis, grid, quantities, measured, failed }: ExportedMap): string {
  const n = axis.length;
  const kept = [...measured.keys()].filter((at) => measured[at] === 1);
  const number = new Map(kept.map((at, k) => [at, k]));
  const squares: number[][] = [];
  for (let i = 0; i + 1 < n; i++)
    for (let j = 0; j + 1 < n; j++) {
      const places = [i * n + j, (i + 1) * n + j, (i + 1) * n + j + 1, i * n + j + 1];
      const found = places.flatMap((at) => number.get(at) ?? []);
      if (found.length === 4) squares.push(found);
    }
  const inSquares = new Set(squares.flat());
  const alone = [...kept.keys()].filter((k) => !inSquares.has(k));
  const array = (name: string, values: Float64Array | BigInt64Array, parts = 1): string => {
    const type = values instanceof Float64Array ? "Float64" : "Int64";
    const length = Buffer.alloc(4);
    length.writeUInt32LE(values.byteLength);
    const content = Buffer.concat([length, bytesOf(values)]).toString("base64");
    return `<DataArray type="${type}" Name="${name}" NumberOfComponents="${parts}" format="binary">${content}</DataArray>`;
  };
  const of = (values: ArrayLike<number>) => Float64Array.from(kept, (at) => values[at]);
  const reward = quantities.get("reward") ?? failed;
  const places = kept.flatMap((at) => [axis[Math.floor(at / n)] / grid.radius, axis[at % n] / grid.radius, reward[at]]);
  const alpha = Float64Array.from(kept, (at) => axis[Math.floor(at / n)]);
  const beta = Float64Array.from(kept, (at) => axis[at % n]);
  const cells = (tag: string, lists: readonly number[][]): string => {
    const ends = lists.map((_, k) => lists.slice(0, k + 1).reduce((sum, list) => sum + list.length, 0));
    const whole = (values: readonly number[]) => BigInt64Array.from(values, BigInt);
    return `<${tag}>${array("connectivity", whole(lists.flat()))}${array("offsets", whole(ends))}</${tag}>`;
  };
  return [
    '<?xml version="1.0"?>',
    '<VTKFile type="PolyData" version="0.1" byte_order="LittleEndian">',
    `<PolyData><Piece NumberOfPoints="${kept.length}" NumberOfVerts="${alone.length}" NumberOfLines="0" NumberOfStrips="0" NumberOfPolys="${squares.length}">`,
    '<PointData Scalars="reward">',
    array("alpha", alpha),
    array("beta", beta),
    array("failed", of(failed)),
    ...[...quantities].map(([name, values]) => array(name, of(values))),
    "</PointData>",
    `<Points>${array("points", Float64Array.from(places), 3)}</Points>`,
    cells(
      "Verts",
      alone.map((k) => [k]),
    ),
    cells("Polys", squares),
    "</Piece></PolyData></VTKFile>",
    "",
  ].join("\n");
}

/** The content of the file in a format. */
export function formatMap(map: ExportedMap, format: MapFormat): string | Buffer {
  return { npz, vtp, json }[format](map);
}
