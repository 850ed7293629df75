// A report that takes statistics from the files of an earlier one has the same numbers; and it never takes them when
// anything that they were made from is different.

import { deepStrictEqual } from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { referencePath, sliceFolder, slicePaths } from "../../../landscape/files/layout.ts";
import { keptStatistics, type StatisticsSource } from "../../../landscape/statistics/kept-statistics.ts";
import { readSummarisedSlice, summariseSlice } from "../../../landscape/statistics/summarise-slice.ts";
import { describe } from "../../support.ts";
import { syntheticPlace, syntheticSettings, writeSyntheticRun } from "../synthetic-run.ts";

describe("landscape/statistics/kept-statistics", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-kept-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const settings = syntheticSettings();
  const { points, radius, seed, simulations } = settings.landscape;
  const sourceIn = (folder: string): StatisticsSource => ({
    folder,
    place: syntheticPlace,
    grid: { points, radius },
    seed: 1000 * seed + syntheticPlace.slice,
    simulations,
    along: null,
  });
  const whole = join(place, "whole");
  writeSyntheticRun(whole, 8);
  const made = summariseSlice(whole, syntheticPlace, settings, assert.unreachable);
  let copies = 0;
  const copy = (): string => {
    const folder = join(place, String(copies++));
    cpSync(whole, folder, { recursive: true });
    return folder;
  };
  const pathsIn = (folder: string) => slicePaths(sliceFolder(folder, syntheticPlace));

  test("the numbers, from the cells and from the files", () => {
    const kept = keptStatistics(sourceIn(whole));
    deepStrictEqual(kept, made);
    assert.is(kept?.maps.cells.length, 8);
    deepStrictEqual(readSummarisedSlice(whole, syntheticPlace, settings, assert.unreachable), made);
    const { promptMaps } = pathsIn(copy());
    rmSync(promptMaps);
    assert.is(keptStatistics(sourceIn(join(place, "0"))), null);
    deepStrictEqual(readSummarisedSlice(join(place, "0"), syntheticPlace, settings, assert.unreachable), {
      ...made,
      folder: sliceFolder(join(place, "0"), syntheticPlace),
    });
  });

  test("another seed, grid, number of simulations or length of a direction: made again", () => {
    const source = sourceIn(whole);
    for (const other of [
      { seed: source.seed + 1 },
      { simulations: simulations + 1 },
      { grid: { points, radius: 2 * radius } },
      { along: { delta: 1, eta: 2, cosine: 0, centre: { alpha: 0, beta: 0 } } },
    ])
      assert.is(keptStatistics({ ...source, ...other }), null);
  });

  test("one byte of any file changed, a cell less or a cell cut: made again", () => {
    const { cells, points, summary, promptMaps } = pathsIn("");
    for (const [path, from, to] of [
      [points, "2", "3"],
      [summary, "2", "3"],
      [promptMaps, '"seed":1', '"seed":2'],
      [promptMaps, '"winsorised":[{"ring":null,"cells":7', '"winsorised":[{"ring":null,"cells":6'],
      [promptMaps, "{", ""],
      [referencePath("", syntheticPlace.step), "20", "21"],
      [cells, /\{[^\n]*\n$/, ""],
      [cells, /.{9}\n$/, ""],
    ] as const) {
      const folder = copy();
      const file = join(folder, path);
      const text = readFileSync(file, "utf8");
      const changed = text.replace(from, to);
      assert.not.equal(changed, text);
      writeFileSync(file, changed);
      assert.is(keptStatistics(sourceIn(folder)), null, `${path}: ${from}`);
    }
  });
});
