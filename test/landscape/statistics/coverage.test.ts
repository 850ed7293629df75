import * as assert from "uvu/assert";
import { gridCells } from "../../../landscape/grid.ts";
import { simulateCoverage } from "../../../landscape/statistics/coverage.ts";
import { rInfinity } from "../../../landscape/statistics/estimands.ts";
import { jackknife } from "../../../landscape/statistics/intervals.ts";
import { centredInRings } from "../../../landscape/statistics/prompt-maps.ts";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import { assertClose, describe } from "../../support.ts";
import { drawMaps, trueCorrelation, type World } from "../synthetic-maps.ts";

const grid = { points: 7, radius: 0.05 };
const world = (over: Partial<World> = {}): World => ({
  grid,
  prompts: 64,
  referencePrompts: 32,
  field: "mixture",
  signal: 0.4,
  random: simulationRandom(1),
  ...over,
});

describe("landscape/statistics/coverage", (test) => {
  test("the fitted truth is near the world's, and coverage near 95%", () => {
    // Large, so that the fit knows the world: 300 prompts leave C_RR about 10% uncertain.
    const of = world({ prompts: 300, referencePrompts: 300, random: simulationRandom(2) });
    const found = simulateCoverage(drawMaps(of), { seed: 1, simulations: 60 });
    assert.ok(found !== null);
    assertClose("r∞", [found?.rInfinity.truth ?? 9], [trueCorrelation(of) ?? 8], { absolute: 0.12 });
    const rings = trueCorrelation(of, centredInRings(gridCells(grid)));
    assertClose("within ring", [found?.withinRing.truth ?? 9], [rings ?? 8], { absolute: 0.12 });
    // 60 draws know 95% to 2.8%.
    assert.ok((found?.rInfinity.coverage ?? 0) >= 0.85, JSON.stringify(found));
    assert.is(found?.rInfinity.intervalName, "95% interval");
  });
  for (const rewards of ["bernoulli", "partial"] as const)
    test(`the noise fitted to ${rewards} rewards is the noise that made them`, () => {
      const shares = { shared: 0.4, smooth: 0.3 };
      const drawn = drawMaps(
        world({ rewards, prompts: 1500, referencePrompts: 3, ...shares, random: simulationRandom(3) }),
      );
      const noise = simulateCoverage(drawn, { seed: 1, simulations: 1 })?.noise;
      // 1500 prompts know a correlation to about 0.03; constant and smooth part trade against each other on 7 × 7
      // cells.
      assertClose("constant + smooth", [(noise?.constant ?? 0) + (noise?.smooth ?? 0)], [0.7], { absolute: 0.08 });
      assertClose("white", [noise?.white ?? 9], [0.3], { absolute: 0.08 });
      if (rewards === "bernoulli") assertClose("constant", [noise?.constant ?? 9], [0.4], { absolute: 0.15 });
    });
  test("simulated coverage foretells what happens: real studies of the same world", () => {
    const random = simulationRandom(4);
    const of = world({ prompts: 32, referencePrompts: 32, signal: 0.2, random });
    const truth = trueCorrelation(of) ?? Number.NaN;
    let covered = 0;
    let determined = 0;
    const studies = 300;
    for (let study = 0; study < studies; study++) {
      const { low, high } = jackknife(rInfinity(drawMaps(of)));
      if (low === null || high === null) continue;
      determined++;
      if (low <= truth && truth <= high) covered++;
    }
    // One study of 32 prompts knows its own noise roughly: the median of a few stands for it.
    const fits = Array.from({ length: 7 }, (_, seed) => simulateCoverage(drawMaps(of), { seed, simulations: 60 }));
    const coverages = fits.flatMap((fit) => (fit?.rInfinity.coverage == null ? [] : [fit.rInfinity.coverage])).sort();
    const median = coverages[coverages.length >> 1];
    assertClose(`coverage (${determined} of ${studies} determined)`, [median], [covered / determined], {
      absolute: 0.08,
    });
  });
  test("prompts that hang on few outliers: coverage falls and the name says so", () => {
    // KL of one prompt in sixteen is a hundred times the others': the mean map is that prompt's, and so is r.
    const maps = drawMaps(
      world({ prompts: 16, referencePrompts: 16, signal: 0.9, field: "hill", random: simulationRandom(5) }),
    );
    const kl = maps.kl.map((map, p) =>
      p === 7 ? map.map((value, k) => 100 * value * (1 + 0.9 * Math.sign(maps.cells[k].beta))) : map,
    );
    const found = simulateCoverage({ ...maps, kl }, { seed: 3 });
    assert.ok((found?.r.coverage ?? 1) < 0.9, JSON.stringify(found?.r));
    assert.is(found?.r.intervalName, `interval, simulated coverage ${Math.round(100 * (found?.r.coverage ?? 0))}%`);
  });
  test("nothing to simulate: noise alone with C_RR ≤ 0, constant rewards, two prompts", () => {
    const maps = drawMaps(world());
    const map = maps.reward[0];
    const opposite = { ...maps, reward: [map, map.map((value) => 1 - value), map.map(() => 0.5)] };
    assert.is(simulateCoverage(opposite, { seed: 1 }), null);
    assert.is(simulateCoverage({ ...maps, reward: maps.reward.map((of) => of.map(() => 1)) }, { seed: 1 }), null);
    assert.is(simulateCoverage({ ...maps, reward: maps.reward.slice(0, 2) }, { seed: 1 }), null);
  });
  test("withholding intervals that hold every correlation does not raise the coverage of those that are shown", () => {
    const found = simulateCoverage(drawMaps(world({ prompts: 8, referencePrompts: 8, signal: 0.4 })), { seed: 1 });
    // Four prompts without a signal, whose noise is rough: r itself is undetermined in an eighth of such studies.
    const four = { field: "slope", prompts: 4, referencePrompts: 4, signal: 0, shared: 0, smooth: 0.9 } as const;
    const rough = simulateCoverage(drawMaps(world({ ...four, random: simulationRandom(5) })), { seed: 1 });
    for (const interval of [rough?.r, found?.rInfinity, found?.withinRing]) {
      assert.ok(interval !== undefined && interval.coverage !== null && interval.coverageOfAll !== null);
      assert.ok((interval?.coverageOfAll ?? 0) >= (interval?.coverage ?? 1), JSON.stringify(interval));
      assert.ok((interval?.undetermined ?? 0) > 0);
    }
  });
  test("seeded", () => {
    const maps = drawMaps(world());
    const run = (seed: number) => simulateCoverage(maps, { seed, simulations: 20 });
    assert.equal(run(1), run(1));
    assert.not.equal(run(1)?.r, run(2)?.r);
  });
});
