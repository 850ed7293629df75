import * as assert from "uvu/assert";
import { gridCells } from "../../../landscape/grid.ts";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import { fieldSampler, fitSmooth, lagMeans, smoothNull } from "../../../landscape/statistics/random-fields.ts";
import { mean, quantile } from "../../../landscape/statistics/statistics.ts";
import { assertClose, describe } from "../../support.ts";

describe("landscape/statistics/random-fields", (test) => {
  test("fields have unit variance and the correlation asked for", () => {
    const points = 6;
    for (const length of [0.7, 2, 9]) {
      const sample = fieldSampler(points, length, simulationRandom(1));
      const draws = 4000;
      const fields = Array.from({ length: draws }, sample);
      const product = (a: number, b: number) => mean(fields.map((field) => field[a] * field[b]));
      const at = (i: number, j: number) => i * points + j;
      const expected = (di: number, dj: number) => Math.exp(-(di * di + dj * dj) / (2 * length * length));
      // A product of unit normals deviates by at most √2; 4000 of them by 0.022: four of those.
      assertClose(
        `length ${length}`,
        [
          product(at(2, 3), at(2, 3)),
          product(at(2, 3), at(3, 3)),
          product(at(1, 1), at(1, 2)),
          product(at(0, 0), at(3, 4)),
        ],
        [1, expected(1, 0), expected(0, 1), expected(3, 4)],
        { absolute: 0.09 },
      );
    }
  });
  test("a very long length is still a field", () => {
    const field = fieldSampler(41, 80, simulationRandom(2))();
    assert.ok(field.every(Number.isFinite));
  });
  test("lag means gather pairs by distance, up to half the width", () => {
    const cells = gridCells({ points: 5, radius: 1 });
    const lags = lagMeans(cells, (a, b) => Math.abs(cells[a].i - cells[b].i));
    assert.equal(
      lags.map(({ squaredDistance, pairs }) => [squaredDistance, pairs]),
      [
        [1, 40],
        [2, 32],
        [4, 30],
      ],
    );
    assertClose(
      "means",
      lags.map((lag) => lag.mean),
      [0.5, 1, 1],
      { absolute: 1e-15 },
    );
  });
  test("the fit finds the length that made the means", () => {
    const cells = gridCells({ points: 11, radius: 1 });
    for (const length of [1, 2.5, 6]) {
      const lags = lagMeans(
        cells,
        (a, b) =>
          0.2 + 0.7 * Math.exp(-((cells[a].i - cells[b].i) ** 2 + (cells[a].j - cells[b].j) ** 2) / (2 * length ** 2)),
      );
      const fit = fitSmooth(lags, cells);
      // The scan goes in 80 steps from ½ to 20: 4.7% each.
      assertClose(`length ${length}`, [fit?.length ?? 0], [length], { relative: 0.047 });
      assertClose("at distance 0", [(fit?.base ?? 0) + (fit?.amplitude ?? 0)], [0.9], { absolute: 0.03 });
    }
    assert.is(fitSmooth([], cells), null);
  });
  test("maps unrelated to KL are called strong at the rate that the null says, and the length comes out", () => {
    const cases = [
      { points: 7, length: 1.5, smooth: 0.7 },
      { points: 11, length: 2, smooth: 1 },
      { points: 11, length: 4, smooth: 0.8 },
    ];
    for (const { points, length, smooth } of cases) {
      const cells = gridCells({ points, radius: 0.05 });
      const random = simulationRandom(3);
      const sample = fieldSampler(points, length, random);
      const kl = Float64Array.from(cells, ({ alpha, beta }) => alpha ** 2 + beta ** 2 + 0.01 * alpha);
      const studies = 120;
      const nulls = Array.from({ length: studies }, (_, seed) => {
        const reward = sample().map((value) => Math.sqrt(smooth) * value + Math.sqrt(1 - smooth) * random.normal());
        return smoothNull(cells, kl, reward, { seed, draws: 200 });
      });
      const lengths = nulls.map((of) => of?.length ?? Number.NaN);
      assertClose(`median length at ${points} points`, [quantile(lengths, 0.5)], [length], { relative: 0.15 });
      const strong = nulls.filter((of) => (of?.shareAsStrong ?? 0) < 0.05).length / studies;
      // 5% ± 2% by 120 studies: no more than three of those above. White cells would be called strong in half of the
      // studies.
      assert.ok(strong <= 0.11, `${strong} called strong`);
    }
  });
  test("a hill on a bowl is strong, printed with its length in alpha", () => {
    const cells = gridCells({ points: 9, radius: 0.05 });
    const random = simulationRandom(4);
    const kl = Float64Array.from(cells, ({ alpha, beta }) => alpha ** 2 + beta ** 2);
    const found = smoothNull(
      cells,
      kl,
      kl.map((value) => 0.8 * Math.exp(-value / 0.002) + 0.01 * random.normal()),
      { seed: 1 },
    );
    assert.ok(found !== null && found.shareAsStrong < 0.01, JSON.stringify(found));
    assertClose("length", [found?.lengthInAlpha ?? 0], [(found?.length ?? 0) * 0.0125], { relative: 1e-12 });
    assert.equal(smoothNull(cells, kl, kl, { seed: 2, draws: 50 }), smoothNull(cells, kl, kl, { seed: 2, draws: 50 }));
    assert.is(
      smoothNull(
        cells,
        kl,
        kl.map(() => 1),
        { seed: 1 },
      ),
      null,
    );
  });
});
