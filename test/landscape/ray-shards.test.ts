// Rays, points at fixed KL, and KL from other checkpoints in shards: each measures its share, and the merged folder has the bytes of
// one machine. What rests on all rays is measured when the merged folder is continued.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { openJournal, readJournal } from "../../engine/host/index.ts";
import { journalledCell } from "../../landscape/files/cells.ts";
import {
  klFromPath,
  lineFolder,
  pairPath,
  rayPaths,
  raysFolder,
  sliceFolder,
  slicePaths,
} from "../../landscape/files/layout.ts";
import { mergeShards } from "../../landscape/files/merge-shards.ts";
import { pairsFrom, readPair } from "../../landscape/files/pair-files.ts";
import { readRayPoints } from "../../landscape/files/ray-files.ts";
import { linePoints, rayPoints, wantedScales } from "../../landscape/files/ray-points.ts";
import { redraw } from "../../landscape/report/report.ts";
import { describe, throwsMessage } from "../support.ts";
import { type Given, smallSweep, sweepIn, trlFolder, warmModel } from "./given-sweep.ts";
import { contents, expectSame } from "./tiny-study.ts";

const signal = new AbortController().signal;

describe("landscape/ray-shards", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-ray-shards-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // The report shows a folder's name, so all have the same.
  const at = (name: string): string => join(place, name, "run");
  const said: string[] = [];
  const merge = async (out: string, parts: readonly string[]): Promise<void> => {
    said.length = 0;
    const say = (line: string): void => void said.push(line);
    await mergeShards(at(out), parts.map(at), { allowMixed: false, say });
    await redraw(at(out), say, signal);
  };
  const checkpoints = [join(place, "checkpoint-0"), join(place, "checkpoint-1")];
  const flags: Given = {
    ...{ "landscape.points": 2, "landscape.rays.count": 2, "landscape.rays.radii": [0.05] },
    ...{ "landscape.rays.kl": [0.001], "landscape.klFrom": [0, 1], "landscape.pointsAtOnce": 2 },
  };

  test("shards have every ray point and scale once, whole rays each", () => {
    const { landscape } = smallSweep({ ...flags, "landscape.rays.count": 5, checkpoints });
    for (const count of [1, 2, 3, 7]) {
      const shards = Array.from({ length: count }, (_, index) => `${index}/${count}`);
      const lists: ((shard: string) => readonly object[])[] = [
        (shard) => rayPoints(landscape, shard),
        (shard) => wantedScales(landscape, shard),
        (shard) => linePoints(landscape, shard),
      ];
      const sorted = (all: readonly object[]): string[] => all.map((one) => JSON.stringify(one)).sort();
      for (const list of lists) assert.equal(sorted(shards.flatMap(list)), sorted(list("")));
      assert.equal(
        shards.flatMap((shard) => pairsFrom(7, [1, 7, 9, 12], shard)).sort((a, b) => a - b),
        [1, 9, 12],
      );
      const rays = shards.map((shard) => new Set(wantedScales(landscape, shard).map(({ ray }) => ray)));
      assert.is(
        rays.reduce((sum, { size }) => sum + size, 0),
        5,
      );
    }
  });

  test("merged: the bytes of one machine", async () => {
    for (const [step, folder] of checkpoints.entries()) await trlFolder(folder, 1 + step / 100);
    await sweepIn(at("whole"), checkpoints, flags);
    for (const [index, more] of [{}, { "landscape.refill": "off" }].entries())
      await sweepIn(at(`part-${index}`), checkpoints, { ...flags, ...more, shard: `${index}/2` });
    const own = raysFolder(at("part-1"), 0);
    const { records } = readJournal(slicePaths(own).cells, journalledCell, () => {});
    assert.ok(
      records.length > 0 && records.every(({ i }) => i === 1),
      "the first ray and the checkpoint are in the other shard",
    );
    await merge("merged", ["part-1", "part-0"]);
    assert.equal(
      said.filter((line) => line.startsWith("Incomplete")),
      [],
    );
    expectSame(contents(at("merged")), contents(at("whole")));
    assert.ok(existsSync(klFromPath(sliceFolder(at("merged"), { step: 0, slice: 0 }), 1)));
    assert.ok(existsSync(rayPaths(join(at("merged"), "landscape", "step-000000", "fixed-kl")).scales));
  });

  test("a shard alone: what is missing is said; two that differ are refused", async () => {
    await merge("half", ["part-0"]);
    for (const what of ["slice 0: 2 of 4 cells", "rays: ", "KL from step 1: ", "scales of rays: "])
      assert.ok(
        said.some((line) => line.startsWith("Incomplete") && line.includes(what)),
        `${what}: ${said.join("\n")}`,
      );
    cpSync(at("part-1"), at("wrong"), { recursive: true });
    const { cells } = slicePaths(raysFolder(at("wrong"), 1));
    const { records } = readJournal(cells, journalledCell, () => {});
    rmSync(cells);
    const { journal } = openJournal(cells, journalledCell, () => {});
    for (const record of records) journal.append({ ...record, alpha: record.alpha * 2 });
    journal.close();
    await throwsMessage(() => merge("refused", ["part-0", "part-1", "wrong"]), "step-000001, rays: point (");
    assert.not.ok(existsSync(at("refused")));
    const { rays } = rayPaths(raysFolder(at("wrong"), 0));
    writeFileSync(rays, readFileSync(rays, "utf8").replace("lengths", "lengths "));
    await throwsMessage(() => merge("refused", ["part-1", "wrong"]), "rays.json differ");
  });

  test("what rests on all rays is said to be left, and the merged folder gets it", async () => {
    const more = {
      ...flags,
      "landscape.rays.freshPrompts": 2,
      "landscape.klFrom": [],
      "landscape.rays.kl": [],
      "landscape.noiseFloor": 2,
    };
    const whole = await sweepIn(at("fresh"), [warmModel], more);
    assert.not.match(whole, "A shard leaves");
    for (const index of [0, 1]) {
      const told = await sweepIn(at(`fresh-${index}`), [warmModel], { ...more, shard: `${index}/2` });
      assert.match(told, "A shard leaves to the merged folder: the noise floor, rays on fresh prompts");
    }
    await merge("fresh-merged", ["fresh-0", "fresh-1"]);
    await sweepIn(at("fresh-merged"), [warmModel], more);
    expectSame(contents(at("fresh-merged")), contents(at("fresh")));
  });

  test("lines and pairs: merged, the bytes of one machine; two shards that differ are refused", async () => {
    const more: Given = {
      ...{ "landscape.points": 2, "landscape.pairs": true, "landscape.line.stepsAhead": [1] },
      "landscape.line.positions": [0.5, 1],
    };
    await sweepIn(at("lines"), checkpoints, more);
    const names = [0, 1, 2].map((index) => `lines-${index}`);
    for (const [index, name] of names.entries()) await sweepIn(at(name), checkpoints, { ...more, shard: `${index}/3` });
    // Three points and two pairs: each of the first two shards has one of the pairs, the last one has none.
    assert.equal(
      names.map((name) => [readPair(at(name), 0, 1) !== null, readPair(at(name), 1, 0) !== null]),
      [
        [true, false],
        [false, true],
        [false, false],
      ],
    );
    assert.equal(
      names.map((name) => readRayPoints(at(name), lineFolder(at(name), 0, 1), 0, assert.unreachable)?.cells.length),
      [1, 1, 1],
    );
    await merge("lines-merged", names);
    assert.equal(said, []);
    expectSame(contents(at("lines-merged")), contents(at("lines")));
    await merge("lines-part", names.slice(1));
    assert.match(said.join("\n"), /line to step-000001: 1 of 3 points are in no shard/);
    assert.match(said.join("\n"), /step-000000, pairs: 1 of 1 are in no shard/);
    const path = pairPath(at("lines-1"), 1, 0);
    cpSync(at("lines-1"), at("lines-wrong"), { recursive: true });
    writeFileSync(pairPath(at("lines-wrong"), 1, 0), readFileSync(path, "utf8").replace(/\d/, "$&1"));
    await throwsMessage(() => merge("refused", ["lines-1", "lines-wrong"]), "they have other numbers");
  });
});
