// The exported maps hold the numbers of points.csv in each format, with gaps where nothing is measured. The .npz is parsed
// here by its own reader; its members are compared with what NumPy 2.4.6 writes.
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import * as assert from "uvu/assert";
import { readSlice } from "../../../landscape/files/cells.ts";
import { sliceFolder, slicePaths } from "../../../landscape/files/layout.ts";
import { npzBytes } from "../../../landscape/files/npz.ts";
import { exportRun } from "../../../landscape/report/export.ts";
import { formatMap, mapJson, mapOnGrid } from "../../../landscape/report/map-formats.ts";
import { pointOf, readPoints, writePoints } from "../../../landscape/statistics/points.ts";
import { describe } from "../../support.ts";
import { syntheticPlace, writeSyntheticRun } from "../synthetic-run.ts";

/** np.save of np.array([[1.5, np.nan], [-0.0, 1e300], [3, 4]]), np.array([True, False, True]) and np.array(20). */
const NUMPY = {
  map: "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAD4PwAAAAAAAPh/AAAAAAAAAICcdQCIPOQ3fgAAAAAAAAhAAAAAAAAAEEA=",
  flags:
    "k05VTVBZAQB2AHsnZGVzY3InOiAnfGIxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAE=",
  step: "k05VTVBZAQB2AHsnZGVzY3InOiAnPGk4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoUAAAAAAAAAA==",
};

interface Member {
  type: string;
  shape: string;
  values: number[];
  bytes: Buffer;
}

/** The arrays of an .npz file, found through the zip's directory. */
function readNpz(bytes: Buffer): Map<string, Member> {
  const found = new Map<string, Member>();
  let at = bytes.readUInt32LE(bytes.length - 6);
  for (let k = bytes.readUInt16LE(bytes.length - 12); k > 0; k--) {
    assert.is(bytes.readUInt32LE(at), 0x02014b50);
    const length = bytes.readUInt16LE(at + 28);
    const size = bytes.readUInt32LE(at + 24);
    const name = bytes.toString("utf8", at + 46, at + 46 + length);
    const start = bytes.readUInt32LE(at + 42);
    const from = start + 30 + bytes.readUInt16LE(start + 26) + bytes.readUInt16LE(start + 28);
    const member = bytes.subarray(from, from + size);
    assert.is(crc32(member), bytes.readUInt32LE(at + 16));
    const body = 10 + member.readUInt16LE(8);
    const [, type, shape] = /'descr': '([^']*)'.*'shape': \(([^)]*)\)/.exec(member.toString("latin1", 10, body)) ?? [];
    const width = type === "|b1" ? 1 : 8;
    const values = Array.from({ length: (size - body) / width }, (_, n) => {
      const place = body + width * n;
      if (type === "|b1") return member[place];
      return type === "<i8" ? Number(member.readBigInt64LE(place)) : member.readDoubleLE(place);
    });
    found.set(name, { type, shape, values, bytes: member });
    at += 46 + length;
  }
  return found;
}

/** The arrays of a .vtp file. */
function readVtp(text: string): Map<string, number[]> {
  const arrays = text.matchAll(/<DataArray type="(\w+)" Name="([^"]+)"[^>]* format="binary">([^<]*)</g);
  return new Map(
    [...arrays].map(([, type, name, content]) => {
      const bytes = Buffer.from(content, "base64");
      assert.is(bytes.readUInt32LE(), bytes.length - 4);
      const read = (k: number): number =>
        type === "Float64" ? bytes.readDoubleLE(4 + 8 * k) : Number(bytes.readBigInt64LE(4 + 8 * k));
      return [name, Array.from({ length: (bytes.length - 4) / 8 }, (_, k) => read(k))];
    }),
  );
}

async function messageOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "no error",
    (thrown: Error) => thrown.message,
  );
}

describe("landscape/report/export", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-export-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const run = join(place, "run");
  const measured = 7;
  writeSyntheticRun(run, measured);
  const files = readSlice(run, syntheticPlace, assert.unreachable);
  if (files === null) throw new Error("no slice");
  const points = readPoints(writePoints(files.cells.map((cell) => pointOf(cell, files.reference))));
  const all = { steps: [], slices: [] };
  const options = { out: join(place, "out"), ...all };

  test("every format has the numbers of points.csv, and says what is missing", async () => {
    const said: string[] = [];
    const [npz] = await exportRun(run, { ...options, format: "npz" }, (line) => said.push(line));
    const [json] = await exportRun(run, { ...options, format: "json" }, () => {});
    const [vtp] = await exportRun(run, { ...options, format: "vtp" }, () => {});
    assert.match(said.join(), "2 of 9 cells are not measured");
    const arrays = readNpz(readFileSync(npz));
    const parsed = mapJson.strict().parse(JSON.parse(readFileSync(json, "utf8")));
    const surface = readVtp(readFileSync(vtp, "utf8"));
    assert.equal([arrays.get("alpha.npy")?.shape, arrays.get("alpha.npy")?.values], ["3,", [-0.05, 0, 0.05]]);
    assert.equal(arrays.get("step.npy")?.values, [syntheticPlace.step]);
    const onGrid = (value: (k: number) => number): number[] => {
      const grid = new Array<number>(9).fill(Number.NaN);
      points.forEach(({ i, j }, k) => {
        grid[3 * i + j] = value(k);
      });
      return grid;
    };
    const isMeasured = onGrid(() => 1).map((value) => value === 1);
    assert.is(arrays.get("measured.npy")?.type, "|b1");
    assert.equal(arrays.get("measured.npy")?.values, isMeasured.map(Number));
    assert.equal(parsed.measured.flat(), isMeasured);
    const names = Object.keys(points[0]).filter((name) => !["i", "j", "alpha", "beta"].includes(name));
    assert.equal(Object.keys(parsed.arrays), names);
    assert.is(arrays.size, names.length + 6);
    for (const name of names) {
      const expected = onGrid((k) => Reflect.get(points[k], name));
      assert.is(arrays.get(`${name}.npy`)?.shape, "3, 3");
      assert.equal(arrays.get(`${name}.npy`)?.values, expected);
      assert.equal(parsed.arrays[name].values.flat(), JSON.parse(JSON.stringify(expected)));
      assert.equal(
        surface.get(name),
        points.map((point) => Reflect.get(point, name)),
      );
    }
    assert.equal(
      surface.get("points"),
      points.flatMap(({ i, j, reward }) => [i - 1, j - 1, reward]),
    );
  });

  test("known answers: NumPy's bytes, and the squares of a surface with a gap", () => {
    const members = readNpz(
      npzBytes([
        { name: "map", shape: [3, 2], values: Float64Array.of(1.5, Number.NaN, -0, 1e300, 3, 4) },
        { name: "flags", shape: [3], values: Uint8Array.of(1, 0, 1) },
        { name: "step", shape: [], values: BigInt64Array.of(20n) },
      ]),
    );
    const written = (name: string): string => members.get(name)?.bytes.toString("base64") ?? "";
    assert.is(written("map.npy"), NUMPY.map);
    assert.is(written("flags.npy"), NUMPY.flags);
    assert.is(written("step.npy"), NUMPY.step);

    // All cells of 3 × 3 but the corner (2, 2), and a format share that is undefined.
    const eight = Array.from({ length: 8 }, (_, k) => ({
      ...points[0],
      i: Math.floor(k / 3),
      j: k % 3,
      reward: k / 8,
      format_failed: Number.NaN,
    }));
    const grid = { points: 3, radius: 0.05 };
    const failed = eight.map((_, k) => (k === 4 ? 2 : 0));
    const map = mapOnGrid({ step: 5, slice: 1 }, grid, eight, failed);
    const text = String(formatMap(map, "vtp"));
    const surface = readVtp(text);
    assert.match(text, 'NumberOfPoints="8" NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" NumberOfPolys="3"');
    assert.equal(surface.get("connectivity"), [0, 3, 4, 1, 1, 4, 5, 2, 3, 6, 7, 4]);
    assert.equal(surface.get("offsets"), [4, 8, 12]);
    assert.equal(surface.get("format_failed"), new Array(8).fill(Number.NaN));
    const parsed = mapJson.parse(JSON.parse(String(formatMap(map, "json"))));
    assert.equal(parsed.failed, [
      [0, 0, 0],
      [0, 2, 0],
      [0, 0, null],
    ]);
    assert.is(parsed.arrays["reward"].values[2][2], null);
    assert.is(parsed.arrays["format_failed"].values[0][0], null);
    // Two cells in a diagonal have no square: both are vertices.
    const diagonal = mapOnGrid({ step: 5, slice: 1 }, grid, [eight[0], eight[4]], [0, 0]);
    assert.match(String(formatMap(diagonal, "vtp")), 'NumberOfVerts="2"');
  });

  test("a damaged end becomes gaps; other damage and mistakes are refused before anything is written", async () => {
    const to = join(place, "none");
    const attempt = (folder: string, given: object = {}) =>
      messageOf(exportRun(folder, { ...all, format: "npz", out: to, ...given }, () => {}));
    const empty = join(place, "empty");
    writeSyntheticRun(empty, 0);
    assert.match(await attempt(join(place, "unknown")), "unknown");
    assert.match(await attempt(empty), "no measured slice to export");
    assert.match(await attempt(run, { steps: [5] }), "steps: ");
    const cells = slicePaths(sliceFolder(run, syntheticPlace)).cells;
    const whole = readFileSync(cells, "utf8");
    const damaged = (name: string, text: string): string => {
      const folder = join(place, name);
      cpSync(run, folder, { recursive: true });
      writeFileSync(slicePaths(sliceFolder(folder, syntheticPlace)).cells, text);
      return folder;
    };
    assert.match(await attempt(damaged("middle", whole.replace('"reward":[[', '"reward":[[1'))), "line 1 is damaged");
    assert.not(existsSync(to));

    const said: string[] = [];
    const cut = damaged("cut", whole.slice(0, -40));
    const [path] = await exportRun(cut, { ...all, format: "npz", out: to }, (line) => said.push(line));
    assert.match(said.join("\n"), "line 7 is damaged");
    assert.match(said.join("\n"), "3 of 9 cells are not measured");
    const reward = readNpz(readFileSync(path)).get("reward.npy")?.values ?? [];
    assert.is(reward.filter(Number.isNaN).length, 3);

    assert.match(await attempt(run), "exists already");
    const own = join(run, "export");
    await exportRun(run, { ...all, format: "vtp", out: own }, () => {});
    await exportRun(run, { ...all, format: "vtp", out: own }, () => {});
    assert.equal(readdirSync(own), ["step-000002-slice-0.vtp"]);
  });
});
