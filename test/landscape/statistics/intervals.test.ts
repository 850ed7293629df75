// When a noise-free correlation counts as determined, and what an undetermined one is said to need.
import * as assert from "uvu/assert";
import { difference, type Estimand, rAtBudget, rInfinity } from "../../../landscape/statistics/estimands.ts";
import {
  CORRELATION_CHANGES,
  type Estimate,
  jackknife,
  jackknifeCorrelation,
} from "../../../landscape/statistics/intervals.ts";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import { determination, type Signal } from "../../../landscape/statistics/signal.ts";
import { describe } from "../../support.ts";
import { drawMaps } from "../synthetic-maps.ts";

const UNDETERMINED = { value: null, low: null, high: null, standardError: null };

/** An estimand whose jackknife over four prompts is `value` ± `reach`. */
function withReach(value: number, reach: number): Estimand {
  // Deviations ±d of four values: standard error d · √3, Student's t at 97.5% with 3 degrees of freedom 3.182446305284263.
  const d = reach / (3.182446305284263 * Math.sqrt(3));
  return { prompts: 4, at: (deleted) => (deleted < 0 ? value : value + (deleted % 2 === 0 ? d : -d)) };
}

describe("landscape/statistics/intervals", (test) => {
  test("four prompts: an interval of millions is undetermined, whatever its value", () => {
    let wide = 0;
    for (let seed = 0; seed < 400; seed++) {
      const random = simulationRandom(seed, 4);
      const maps = drawMaps({
        grid: { points: 7, radius: 0.05 },
        prompts: 4,
        field: "slope",
        signal: 0.1,
        random,
      });
      const plain = jackknife(rInfinity(maps));
      const estimate = jackknifeCorrelation(rInfinity(maps));
      if (plain.low === null || plain.high === null) assert.equal(estimate, UNDETERMINED);
      else if (plain.low <= -1 && plain.high >= 1) assert.equal(estimate, UNDETERMINED);
      else assert.equal(estimate, { ...UNDETERMINED, value: plain.value }, "a value of four prompts stands alone");
      if (plain.standardError !== null && plain.standardError > 100) wide++;
    }
    assert.ok(wide > 0, "the draws hold such an interval");
  });
  test("the boundary: an interval that leaves out one correlation is kept, one that holds all is not", () => {
    assert.is(jackknifeCorrelation(withReach(0, 0.999)).value, 0);
    assert.equal(jackknifeCorrelation(withReach(0, 1.001)), UNDETERMINED);
    assert.is(jackknifeCorrelation(withReach(-0.94, 1.9)).value, -0.94, "−2.84 to 0.96 leaves out 1");
    assert.equal(jackknifeCorrelation(withReach(-0.94, 1.95)), UNDETERMINED);
    assert.is(jackknifeCorrelation(withReach(-1.67, 1.81)).value, -1.67, "beyond −1 is kept as it is");
  });
  test("a value without an interval is undetermined", () => {
    assert.equal(jackknifeCorrelation({ prompts: 4, at: (p) => (p === 2 ? null : 0.5) }), UNDETERMINED);
  });
  test("r∞ has an interval from eight prompts in the smaller set on, r from three; a change as the r∞ that it is made of", () => {
    const maps = (prompts: number, referencePrompts: number) =>
      drawMaps({
        ...{ grid: { points: 7, radius: 0.05 }, prompts, referencePrompts, field: "hill", signal: 0.8 },
        random: simulationRandom(3, prompts),
      });
    const isShown = ({ value, low, high, standardError }: Estimate): boolean => {
      assert.ok(value !== null, "determined");
      const ends = [low, high, standardError].map((end) => end !== null);
      assert.is(new Set(ends).size, 1);
      return ends[0];
    };
    for (const [prompts, reference] of [
      [8, 8],
      [64, 8],
      [8, 64],
    ] as const)
      for (const kind of [rInfinity, rAtBudget])
        assert.ok(isShown(jackknifeCorrelation(kind(maps(prompts, reference)))));
    for (const [prompts, reference] of [
      [7, 7],
      [64, 7],
      [7, 64],
    ] as const) {
      const few = maps(prompts, reference);
      assert.not(isShown(jackknifeCorrelation(rInfinity(few))));
      assert.ok(isShown(jackknifeCorrelation(rAtBudget(few))));
      const plain = jackknife(rInfinity(few));
      assert.is(jackknifeCorrelation(rInfinity(few)).value, plain.value);
      const other = rInfinity(maps(64, 64));
      const change = difference({ ...other, prompts: rInfinity(few).prompts }, rInfinity(few));
      assert.not(isShown(jackknifeCorrelation(change, CORRELATION_CHANGES)));
    }
    assert.ok(isShown(jackknifeCorrelation(rAtBudget(maps(64, 3)))));
    assert.not(isShown(jackknifeCorrelation(rAtBudget(maps(64, 2)))));
  });
  test("a change of a correlation can be 2 at most", () => {
    assert.is(jackknifeCorrelation(withReach(-0.5, 1.8), CORRELATION_CHANGES).value, -0.5);
    assert.equal(jackknifeCorrelation(withReach(-0.5, 2.6), CORRELATION_CHANGES), UNDETERMINED);
  });
});

describe("landscape/statistics/signal: what an estimate needs", (test) => {
  const signal = (promptsNeeded: number | null, isLowerBound = false): Signal => ({
    value: isLowerBound ? -1 : 1,
    standardError: 1,
    promptsNeeded,
    isLowerBound,
  });
  test("each set's own number, with the number used and whether it is a bound", () => {
    const found = determination(false, { prompts: 64, signal: signal(86, true) }, { prompts: 32, signal: signal(35) });
    assert.equal(found, {
      isDetermined: false,
      rollouts: { used: 64, needed: 86, isLowerBound: true },
      reference: { used: 32, needed: 35, isLowerBound: false },
    });
  });
  test("an undetermined estimate never asks for fewer prompts than it had", () => {
    const found = determination(false, { prompts: 64, signal: signal(35) }, { prompts: 32, signal: signal(20) });
    assert.equal(found.rollouts, { used: 64, needed: 65, isLowerBound: true });
    assert.equal(found.reference, { used: 32, needed: 33, isLowerBound: true });
    const kept = determination(true, { prompts: 64, signal: signal(35) }, { prompts: 32, signal: signal(20) });
    assert.is(kept.rollouts.needed, 35);
  });
});
