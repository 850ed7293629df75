// A slice's map in the formats of other programs: NumPy's .npz, ParaView's .vtp, and JSON. docs/formats.md describes them.
import { type NamedArray, npzBytes } from "../files/npz.ts";
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
  readonly measured: Float64Array;
  readonly quantities: ReadonlyMap<string, Float64Array>;
}

export const mapFormats = ["npz", "vtp", "json"] as const;
export type MapFormat = (typeof mapFormats)[number];

/** Puts the rows of points.csv on the grid. */
export function mapOnGrid(place: { step: number; slice: number }, grid: Grid, points: readonly Point[]): ExportedMap {
  const size = grid.points ** 2;
  const measured = new Float64Array(size);
  const quantities = new Map<string, Float64Array>();
  for (const point of points) {
    const at = point.i * grid.points + point.j;
    measured[at] = 1;
    for (const [name, value] of Object.entries(point)) {
      if (["i", "j", "alpha", "beta"].includes(name)) continue;
      const values = quantities.get(name) ?? new Float64Array(size).fill(Number.NaN);
      values[at] = value;
      quantities.set(name, values);
    }
  }
  return { step: place.step, slice: place.slice, grid, axis: axis(grid), measured, quantities };
}

/** The unit of a column of points.csv. */
function unitOf(name: string): string {
  if (/^(kl|k1|k3)_sequence$/.test(name)) return "nats per conversation";
  if (/^(kl|k1|k3)_|entropy$/.test(name)) return "nats per token";
  if (name === "length") return "tokens per rollout";
  if (/^(pass|cover)_at_|^truncated$|^format_failed$/.test(name)) return "share";
  return name.startsWith("reward") ? "reward" : "surrogate";
}

function npz({ axis, grid: { points: n }, quantities, measured }: ExportedMap): Buffer {
  const line = { shape: [n], values: Float64Array.from(axis) };
  const arrays: NamedArray[] = [{ name: "alpha", ...line }, { name: "beta", ...line }];
  for (const [name, values] of [["measured", measured] as const, ...quantities])
    arrays.push({ name, shape: [n, n], values });
  return npzBytes(arrays);
}

function json({ step, slice, axis, grid, quantities, measured }: ExportedMap): string {
  const rows = (values: Float64Array): (number | null)[][] =>
    axis.map((_, i) =>
      [...values.subarray(i * axis.length, (i + 1) * axis.length)].map((value) =>
        Number.isFinite(value) ? value : null,
      ),
    );
  const named = [...quantities].map(([name, values]) => [name, { unit: unitOf(name), values: rows(values) }]);
  const arrays = Object.fromEntries(named);
  const isMeasured = rows(measured).map((row) => row.map((value) => value === 1));
  const head = { schemaVersion: 1, step, slice, radius: grid.radius, alpha: axis, beta: axis, measured: isMeasured };
  return `${JSON.stringify({ ...head, arrays })}\n`;
}

function vtp({ axis, quantities, measured }: ExportedMap): string {
  const n = axis.length;
  const kept = [...measured.keys()].filter((at) => measured[at] === 1);
  const number = new Map(kept.map((at, k) => [at, k]));
  const reward = quantities.get("reward") ?? new Float64Array(n * n);
  const corners: number[][] = [];
  for (let i = 0; i + 1 < n; i++)
    for (let j = 0; j + 1 < n; j++) {
      const places = [i * n + j, (i + 1) * n + j, (i + 1) * n + j + 1, i * n + j + 1];
      const found = places.flatMap((at) => number.get(at) ?? []);
      if (found.length === 4) corners.push(found);
    }
  const array = (name: string, values: readonly number[], type = "Float64", parts = 1): string => {
    const text = values.map((value) => (Number.isNaN(value) ? "nan" : String(value))).join(" ");
    return `<DataArray type="${type}" Name="${name}" NumberOfComponents="${parts}" format="ascii">${text}</DataArray>`;
  };
  const at = kept.flatMap((k) => [axis[Math.floor(k / n)], axis[k % n], reward[k]]);
  const data = [...quantities].map(([name, values]) =>
    array(
      name,
      kept.map((k) => values[k]),
    ),
  );
  const ends = corners.map((_, k) => 4 * (k + 1));
  return [
    '<?xml version="1.0"?>',
    '<VTKFile type="PolyData" version="0.1" byte_order="LittleEndian">',
    `<PolyData><Piece NumberOfPoints="${kept.length}" NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" NumberOfPolys="${corners.length}">`,
    '<PointData Scalars="reward">',
    ...data,
    "</PointData>",
    `<Points>${array("points", at, "Float64", 3)}</Points>`,
    `<Polys>${array("connectivity", corners.flat(), "Int64")}${array("offsets", ends, "Int64")}</Polys>`,
    "</Piece></PolyData></VTKFile>",
    "",
  ].join("\n");
}

/** The content of the file in a format. */
export function formatMap(map: ExportedMap, format: MapFormat): string | Buffer {
  return { npz, vtp, json }[format](map);
}
