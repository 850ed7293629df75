import * as assert from "uvu/assert";
import type { CellRecord } from "../../../landscape/files/cells.ts";
import type { Grid } from "../../../landscape/grid.ts";
import { summaryText } from "../../../landscape/report/table.ts";
import { promptMaps } from "../../../landscape/statistics/cell-sums.ts";
import { ofMeanMaps, rAtBudget } from "../../../landscape/statistics/estimands.ts";
import { jackknife } from "../../../landscape/statistics/intervals.ts";
import { pointOf } from "../../../landscape/statistics/points.ts";
import { meanMap } from "../../../landscape/statistics/prompt-maps.ts";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import { pearson, spearman } from "../../../landscape/statistics/statistics.ts";
import { SUMMARY_SCHEMA_VERSION, summarise } from "../../../landscape/statistics/summary.ts";
import { assertClose, describe, throwsMessage } from "../../support.ts";
import { records } from "../synthetic-cells.ts";
import { drawMaps, type Field } from "../synthetic-maps.ts";

const grid = { points: 7, radius: 0.05 };

const study = (field: Field, prompts = 64, on: Grid = grid) => {
  const random = simulationRandom(1);
  const maps = drawMaps({ grid: on, prompts, referencePrompts: prompts / 2, field, signal: 0.5, random });
  return { maps, ...records(maps, on) };
};

describe("landscape/statistics/summary", (test) => {
  test("a hill: r negative beyond what smooth fields give, peak near the centre, everything there", () => {
    const { maps, cells, reference } = study("hill");
    const summary = summarise(cells, reference, { grid, seed: 1 });
    assert.equal(summary.grid, { ...grid, cells: 49, total: 49, isComplete: true });
    assert.equal(summary.prompts, { rollouts: 64, rolloutsPerPrompt: 1, reference: 32, referencePerPrompt: 2 });
    const expected = pearson(meanMap(maps.kl), meanMap(maps.reward)) ?? Number.NaN;
    assertClose("r", [summary.r.value ?? 9], [expected], { absolute: 1e-12 });
    assert.ok((summary.rInfinity.high ?? 1) < -0.5 && (summary.smoothNull?.low ?? -1) > (summary.r.value ?? 0));
    assert.ok(summary.determined.rInfinity.isDetermined && (summary.determined.rInfinity.rollouts.needed ?? 99) < 64);
    assert.ok(summary.peak?.includesCentre && (summary.parity.even ?? 0) > 0.8);
    assert.equal(summary.advantages, { groups: 32, nonZero: 24 });
    assert.is(summary.coverage?.simulations, 200);
    assert.ok((summary.coverage?.r.coverage ?? 0) > 0.85);
    assert.is(
      summary.floor.share,
      maps.reward.flatMap((map) => [...map]).filter((value) => value === 0).length / (64 * 49),
    );
  });
  test("origin, landmarks and rings are those of the points", () => {
    const { maps, cells, reference } = study("mixture");
    const summary = summarise(cells, reference, { grid, seed: 1, simulations: 0, nullDraws: 50 });
    const kl = (i: number, j: number) =>
      pointOf(cells.find((cell) => cell.i === i && cell.j === j) ?? cells[0], reference).kl_token;
    assertClose(
      "mid-edges, corners",
      [summary.klAtMidEdges ?? 9, summary.klAtCorners ?? 9],
      [(kl(0, 3) + kl(3, 0) + kl(3, 6) + kl(6, 3)) / 4, (kl(0, 0) + kl(0, 6) + kl(6, 0) + kl(6, 6)) / 4],
      { absolute: 1e-12 },
    );
    assert.equal(summary.origin, pointOf(cells[0], reference));
    assertClose("R(0, 0)", [summary.originReward?.value ?? 9], [meanMap(maps.reward)[24]], { absolute: 1e-12 });
    assertClose("inner KL", [summary.rings.kl[0].mean], [0], { absolute: 1e-15 });
    assert.is(summary.coverage, null);
    assert.is(summary.surrogate?.raw[0].cells, 48);
  });
  test("the same bytes whatever the order of the cells, and readable as JSON", () => {
    const { cells, reference } = study("slope");
    const write = (of: CellRecord[]) => JSON.stringify(summarise(of, reference, { grid, seed: 3, simulations: 20 }));
    const text = write(cells);
    assert.is(write([...cells].reverse()), text);
    assert.is(JSON.parse(text).schemaVersion, SUMMARY_SCHEMA_VERSION);
    const walk = (value: unknown, path: string) => {
      if (typeof value === "number") assert.ok(Number.isFinite(value), `${path} is ${value}: JSON cannot hold it`);
      else if (value !== null && typeof value === "object")
        for (const [key, inner] of Object.entries(value)) walk(inner, `${path}.${key}`);
      else assert.ok(value === null || typeof value === "boolean" || typeof value === "string", path);
    };
    walk(summarise(cells, reference, { grid, seed: 3, simulations: 20 }), "summary");
  });
  test("four prompts: a correlation whose interval holds every correlation is undetermined, r too", () => {
    let held = 0;
    let kept = 0;
    for (let seed = 0; seed < 40; seed++) {
      const random = simulationRandom(seed, 4);
      const maps = drawMaps({ grid, prompts: 4, field: "slope", signal: 0, shared: 0, smooth: 0.9, random });
      const { cells, reference } = records(maps, grid);
      const summary = summarise(cells, reference, { grid, seed: 1, simulations: 0, nullDraws: 10 });
      const measured = promptMaps(cells, reference, grid);
      for (const [name, estimand] of [
        ["r", rAtBudget(measured)],
        ["spearman", ofMeanMaps(measured, spearman)],
      ] as const) {
        const plain = jackknife(estimand);
        const holdsAll = (plain.low ?? -1) <= -1 && (plain.high ?? 1) >= 1;
        if (holdsAll) held++;
        else kept++;
        const undetermined = { value: null, low: null, high: null, standardError: null };
        assert.equal(summary[name], holdsAll ? undetermined : plain, `${name}, seed ${seed}`);
      }
      const { r } = summary.determined;
      assert.is(r.isDetermined, summary.r.value !== null);
      if (summary.r.value !== null) continue;
      const needsMore = [r.rollouts, r.reference].some(({ used, needed }) => needed === null || needed > used);
      assert.ok(needsMore, JSON.stringify(r));
      assert.match(summaryText([{ step: 0, slice: 0, summary }], []), /^ *0 +0 +0\.\d\d( ± \d\.\d\d)? +undetermined /m);
    }
    assert.ok(held > 5 && kept > 5, `${held} undetermined, ${kept} determined`);
  });
  test("a partial map has a summary; what is not there is null", () => {
    const { cells, reference } = study("hill");
    for (const count of [1, 2, 9, 20]) {
      const summary = summarise(cells.slice(0, count), reference, { grid, seed: 1, simulations: 10, nullDraws: 20 });
      assert.is(summary.grid.isComplete, false);
      if (count === 1) assert.equal([summary.r.value, summary.smoothNull, summary.klAtCorners], [null, null, null]);
      if (count === 9) assert.ok(summary.klAtCorners !== null && summary.klAtMidEdges !== null);
    }
    const rim = summarise(cells.slice(1), reference, { grid, seed: 1, simulations: 0, nullDraws: 20 });
    assert.equal([rim.origin, rim.originReward, rim.surrogate], [null, null, null]);
  });
  test("an even grid, two prompts and rewards of nothing but 0 do not break it", () => {
    const even = { points: 4, radius: 0.1 };
    const small = study("hill", 2, even);
    const none = study("hill", 8, even);
    const zero = none.cells.map((cell) => ({
      ...cell,
      rollouts: { ...cell.rollouts, reward: cell.rollouts.reward.map(() => [0]) },
    }));
    assert.is(summarise(small.cells, small.reference, { grid: even, seed: 1 }).klAtMidEdges, null);
    const flat = summarise(zero, none.reference, { grid: even, seed: 1 });
    assert.equal([flat.r.value, flat.rInfinity.value, flat.coverage, flat.smoothNull], [null, null, null, null]);
    assert.equal(flat.floor, { share: 1, isFlagged: true });
    const { isDetermined, rollouts } = flat.determined.rInfinity;
    assert.equal([isDetermined, rollouts], [false, { used: 8, needed: null, isLowerBound: true }]);
  });
  test("the partial correlations take the squared distance that they are given", () => {
    const { cells, reference } = study("mixture");
    const at = (options: { squaredDistance?: (cell: { alpha: number }) => number }) =>
      summarise(cells, reference, { grid, seed: 1, simulations: 0, nullDraws: 10, ...options }).partialPearson.value;
    assert.not.equal(at({}), at({ squaredDistance: ({ alpha }) => (alpha - 0.02) ** 2 }));
  });
  test("refuses no cells", () =>
    throwsMessage(
      () => summarise([], { tokens: [[1]], reward: [[1]], advantage: [[0]] }, { grid, seed: 1 }),
      "at least one measured cell",
    ));
});
