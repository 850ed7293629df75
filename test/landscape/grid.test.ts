import * as assert from "uvu/assert";
import { axis, axisLevels, type Grid, gridCells, landmarks, ringIndex, workOrder } from "../../landscape/grid.ts";
import { assertKnown, describe, readFixture, throwsMessage } from "../support.ts";

interface Axes {
  alpha: number[];
  beta: number[];
  squaredRadius: number[][];
  axes: { points: number; radius: number; values: number[] }[];
}

describe("landscape/grid", (test) => {
  const fixture = readFixture<Axes>("statistics.json");

  test("axes equal the known ones bit for bit", () => {
    for (const { points, radius, values } of fixture.axes) {
      const got = axis({ points, radius });
      assertKnown("statistics.json", "axes", "host", got, values, {}, `${points} points, ±${radius}`);
      got.forEach((value, k) => {
        assert.ok(Object.is(value, values[k]), `${points} points, ±${radius}, point ${k}: ${value}, ${values[k]}`);
      });
    }
  });
  test("alpha comes from i, beta from j; squaredSteps is the squared radius", () => {
    const { alpha, beta, squaredRadius } = fixture;
    const grid = { points: alpha.length, radius: -alpha[0] };
    const cells = gridCells(grid);
    const half = (grid.points - 1) / 2;
    for (const cell of cells) {
      assert.is(cell.alpha, alpha[cell.i]);
      assert.is(cell.beta, beta[cell.j]);
      assert.ok(Math.abs(cell.squaredSteps - squaredRadius[cell.i][cell.j] * half * half) < 1e-9 * half * half);
    }
    assert.equal(
      cells.map(({ i, j }) => i * grid.points + j),
      Array.from({ length: grid.points ** 2 }, (_, k) => k),
    );
  });
  test("radius classes are whole on odd grids, and mirrored cells share theirs", () => {
    for (const points of [1, 2, 5, 6, 7]) {
      const cells = gridCells({ points, radius: 1 });
      for (const { i, j, squaredSteps } of cells) {
        assert.is(squaredSteps % 1, points % 2 === 1 ? 0 : 0.5);
        for (const [a, b] of [
          [j, i],
          [points - 1 - i, j],
        ])
          assert.is(cells[a * points + b].squaredSteps, squaredSteps);
      }
    }
  });
  test("the work order visits each cell once, centre first", () => {
    for (const points of [1, 2, 3, 6, 7, 21]) {
      const order = workOrder({ points, radius: 0.05 });
      assert.is(new Set(order.map(({ i, j }) => i * points + j)).size, points ** 2);
      assert.is(order[0].squaredSteps, points % 2 === 1 ? 0 : 0.5);
    }
  });
  test("coarse before fine: with every level the measured cells are a full sub-grid", () => {
    const points = 21;
    const levels = axisLevels(points);
    assert.is(levels[10], 0);
    assert.is(levels[0], 1);
    assert.is(levels[20], 1);
    const order = workOrder({ points, radius: 0.05 });
    for (let level = 0; level <= Math.max(...levels); level++) {
      const side = levels.filter((of) => of <= level).length;
      const done = order.slice(0, side * side);
      assert.ok(done.every(({ i, j }) => levels[i] <= level && levels[j] <= level));
    }
    const size = (level: number) => levels.filter((of) => of <= level).length;
    assert.equal([0, 1, 2].map(size), [1, 3, 5]);
  });
  test("within a level inner cells come before outer ones", () => {
    const levels = axisLevels(9);
    const order = workOrder({ points: 9, radius: 1 });
    const level = (k: number) => Math.max(levels[order[k].i], levels[order[k].j]);
    for (let k = 1; k < order.length; k++)
      if (level(k) === level(k - 1)) assert.ok(order[k].squaredSteps >= order[k - 1].squaredSteps);
      else assert.ok(level(k) > level(k - 1));
  });
  test("finer and wider grids nest, bit for bit", () => {
    for (const { points, radius } of fixture.axes.filter((of) => of.points > 1)) {
      for (const fine of [
        { points: 2 * points - 1, radius },
        { points: 2 * points - 1, radius: 2 * radius },
        { points: 4 * points - 3, radius },
      ]) {
        if (points % 2 === 0 && fine.radius !== radius) continue; // the middles of an even axis fall between points
        const finer = new Set(axis(fine));
        for (const value of axis({ points, radius }))
          assert.ok(finer.has(value), `${value} of ${points} in ${fine.points}`);
      }
    }
  });
  test("landmarks", () => {
    const at = (grid: Grid) => landmarks(grid, gridCells(grid));
    const places = (cells: { i: number; j: number }[]) => cells.map(({ i, j }) => `${i}${j}`);
    assert.equal(places(at({ points: 5, radius: 1 }).midEdges), ["02", "20", "24", "42"]);
    assert.equal(places(at({ points: 5, radius: 1 }).corners), ["00", "04", "40", "44"]);
    assert.equal(places(at({ points: 4, radius: 1 }).midEdges), []);
  });
  test("rings round the distance", () =>
    assert.equal(
      gridCells({ points: 5, radius: 1 }).slice(0, 5).map(ringIndex),
      [3, 2, 2, 2, 3], // √8, √5, 2, √5, √8
    ));
  test("refuses what is no grid", async () => {
    await throwsMessage(() => axis({ points: 0, radius: 1 }), "landscape.points", "at least 1", "got 0");
    await throwsMessage(() => axis({ points: 2.5, radius: 1 }), "got 2.5");
    await throwsMessage(() => axis({ points: 3, radius: 0 }), "landscape.radius", "got 0");
    await throwsMessage(() => axis({ points: 3, radius: Number.POSITIVE_INFINITY }), "got Infinity");
    assert.equal(axis({ points: 1, radius: 1 }), [0]);
  });
});
