import * as assert from "uvu/assert";
import { rAtBudget } from "../../../landscape/statistics/estimands.ts";
import type { Estimate } from "../../../landscape/statistics/intervals.ts";
import { meansOverSlices, trendsOf } from "../../../landscape/statistics/over-checkpoints.ts";
import { NONE } from "../../../landscape/statistics/prompt-maps.ts";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import { assertClose, describe } from "../../support.ts";
import { drawMaps } from "../synthetic-maps.ts";
import { syntheticSummary } from "../synthetic-summary.ts";

const estimate = (value: number | null): Estimate =>
  value === null
    ? { value, low: null, high: null, standardError: null }
    : { value, low: value - 0.2, high: value + 0.2, standardError: 0.1 };

describe("landscape/statistics/over-checkpoints", (test) => {
  const slices = (values: readonly (number | null)[], step = 20) =>
    values.map((value, slice) => ({
      step,
      slice,
      summary: syntheticSummary({ r: estimate(-0.5), rInfinity: estimate(value) }),
    }));

  test("five slices have a mean with Student's interval, four have none", () => {
    assert.equal(meansOverSlices(slices([-0.5, -0.6, -0.7, -0.8])), []);
    const [mean] = meansOverSlices(slices([-0.5, -0.6, -0.7, -0.8, -0.9]));
    // −0.7 ± t(4 degrees) · √0.025 / √5
    const reach = 2.7764451052 * Math.sqrt(0.025 / 5);
    assertClose("mean", [mean.rInfinity.value ?? 9], [-0.7], { absolute: 1e-12 });
    assertClose("ends", [mean.rInfinity.low ?? 9, mean.rInfinity.high ?? 9], [-0.7 - reach, -0.7 + reach], {
      absolute: 1e-9,
    });
    assert.equal([mean.step, mean.slices, mean.rInfinity.slices], [20, 5, 5]);
  });
  test("undetermined slices are no evidence: four of five make no interval", () => {
    const [mean] = meansOverSlices(slices([-0.5, -0.6, null, -0.8, -0.9]));
    assert.equal([mean.slices, mean.rInfinity.slices, mean.rInfinity.low], [5, 4, null]);
    assert.is(mean.r.slices, 5);
  });
  test("checkpoints are kept apart, by step", () => {
    const both = [...slices([1, 2, 3, 4, 5], 20), ...slices([1, 2, 3, 4, 5], 5)];
    assert.equal(
      meansOverSlices(both).map(({ step }) => step),
      [5, 20],
    );
  });

  const maps = [0, 1, 2].map((seed) =>
    drawMaps({
      grid: { points: 5, radius: 0.05 },
      prompts: 48,
      referencePrompts: 48,
      field: "hill",
      signal: 0.3 + 0.2 * seed,
      random: simulationRandom(seed, 3),
    }),
  );
  const swept = (rInfinity: number | null = -0.5, isComplete = true, r: number | null = -0.5) =>
    maps.map((of, k) => ({
      step: 10 * k,
      slice: 0,
      maps: of,
      summary: syntheticSummary({
        r: estimate(r),
        rInfinity: estimate(rInfinity),
        isComplete: k === 1 ? isComplete : true,
      }),
    }));

  test("the trend of three checkpoints at 0, 10, 20 is half the end's difference per 10 steps", () => {
    const [trend] = trendsOf(swept());
    const [first, , last] = maps.map((of) => rAtBudget(of).at(NONE) ?? Number.NaN);
    assertClose("slope of r", [trend.r.value ?? 9], [(last - first) / 20], { absolute: 1e-12 });
    assert.equal(trend.steps, [0, 10, 20]);
    assert.ok(trend.r.low !== null && trend.r.high !== null && trend.r.low < trend.r.high);
  });
  test("one checkpoint has no trend, an incomplete map takes no part, an undetermined r or r∞ leaves its trend undetermined", () => {
    assert.equal(trendsOf(swept().slice(0, 1)), []);
    assert.equal(trendsOf(swept(-0.5, false))[0].steps, [0, 20]);
    const [trend] = trendsOf(swept(null));
    assert.is(trend.rInfinity.value, null);
    assert.ok(trend.r.value !== null);
    const [other] = trendsOf(swept(-0.5, true, null));
    assert.equal([other.r.value, other.rInfinity.value !== null], [null, true]);
  });
});
