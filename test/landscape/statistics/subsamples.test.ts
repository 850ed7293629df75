import * as assert from "uvu/assert";
import { estimandOf, leaveOneOut, promptInterval, ratioOfSums } from "../../../landscape/statistics/leave-one-out.ts";
import { NONE } from "../../../landscape/statistics/prompt-maps.ts";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import {
  combineSubsampled,
  subsampled,
  subsampleInterval,
  subsamplePlan,
} from "../../../landscape/statistics/subsamples.ts";
import { studentQuantile } from "../../../rl/statistics/distributions.ts";
import { assertClose, describe, throwsMessage } from "../../support.ts";

describe("landscape/statistics/subsamples", (test) => {
  test("half or a quarter of the prompts is deleted, in both parts of the list, the same at every call", () => {
    const { prompts, shared, kept } = subsamplePlan(24, 8);
    assert.equal([prompts, shared, kept.length], [24, 8, 2]);
    for (const [k, [inShared, inRest]] of [
      [4, 8],
      [6, 12],
    ].entries())
      for (const marks of kept[k]) {
        assert.is(
          marks.slice(0, 8).reduce((a, b) => a + b),
          inShared,
        );
        assert.is(
          marks.slice(8).reduce((a, b) => a + b),
          inRest,
        );
      }
    assert.ok(new Set(kept[0].map(String)).size > 90, "the draws differ");
    assert.equal(subsamplePlan(24, 8), subsamplePlan(24, 8));
    assert.equal(subsamplePlan(8, 24).shared, 8);
  });

  test("for a mean, the interval is about Student's; the variance of draws is that of theory", () => {
    const random = simulationRandom(5);
    const values = Array.from({ length: 40 }, () => random.normal());
    const meanOf = (kept: Uint8Array): number => {
      const in_ = values.filter((_, p) => kept[p] === 1);
      return in_.reduce((a, b) => a + b, 0) / in_.length;
    };
    const [one] = subsampled(subsamplePlan(40, 40), 0, (kept) => [meanOf(kept)]);
    const { value, high, standardError } = subsampleInterval(one);
    const mean = values.reduce((a, b) => a + b, 0) / 40;
    const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 39 / 40);
    assertClose("mean", [value ?? 9], [mean], { absolute: 1e-12 });
    // 100 draws know a standard deviation to 1 / √200 = 7%: the larger of two lies within −7% and three of those.
    assert.ok(Math.abs((standardError ?? 9) / deviation - 1) < 0.2, `${standardError} against ${deviation}`);
    assertClose("reach", [(high ?? 9) - mean], [studentQuantile(0.975, 39) * (standardError ?? 9)], {
      absolute: 1e-12,
    });
  });

  test("differences are paired draw by draw: of the same statistic it is exactly 0, without spread", () => {
    const values = Array.from({ length: 16 }, (_, p) => (p % 5) / 3);
    const statistic = (kept: Uint8Array): number[] => [values.reduce((sum, x, p) => sum + x * kept[p], 0)];
    const [one] = subsampled(subsamplePlan(16, 16), 0, statistic);
    const [other] = subsampled(subsamplePlan(16, 16), 0, statistic);
    assert.equal(subsampleInterval(combineSubsampled([one, other], [1, -1])), {
      value: 0,
      low: 0,
      high: 0,
      standardError: 0,
    });
    const [fewer] = subsampled(subsamplePlan(12, 12), 0, (kept) => [kept[0]]);
    throwsMessage(() => combineSubsampled([one, fewer], [1, -1]), "expected the same prompts everywhere, got 16");
  });

  test("an interval reaches half a step at least; seven prompts have none", () => {
    const [constant] = subsampled(subsamplePlan(8, 8), 0.2, () => [0.4]);
    assertClose("ends", [subsampleInterval(constant).low ?? 9, subsampleInterval(constant).high ?? 9], [0.3, 0.5], {
      absolute: 1e-12,
    });
    const [few] = subsampled(subsamplePlan(64, 7), 0.2, () => [0.4]);
    assert.equal(subsampleInterval(few), { value: 0.4, low: null, high: null, standardError: null });
  });
});

describe("landscape/statistics/leave-one-out", (test) => {
  test("a table is its estimand", () => {
    const ratio = ratioOfSums([1, 2, 3], [2, 2, 4]);
    const table = leaveOneOut(ratio);
    assert.equal(table, { value: 6 / 8, without: [5 / 6, 4 / 6, 3 / 4] });
    const back = estimandOf(table);
    assert.equal([back.prompts, back.at(NONE), back.at(1)], [3, 6 / 8, 4 / 6]);
    assert.is(ratioOfSums([0, 1], [0, 2]).at(1), null);
  });
  test("eight prompts have an interval, seven and prompts without spread have none", () => {
    const ones = (n: number): number[] => new Array<number>(n).fill(1);
    const values = [0, 1, 0, 0, 1, 1, 0, 1];
    assert.ok(promptInterval(ratioOfSums(values, ones(8))).low !== null);
    const value = { low: null, high: null, standardError: null };
    assert.equal(promptInterval(ratioOfSums(values.slice(1), ones(7))), { ...value, value: 4 / 7 });
    assert.equal(promptInterval(ratioOfSums(values, ones(8)), 7), { ...value, value: 0.5 });
    // No success in 20 prompts is no proof that there is none.
    assert.equal(promptInterval(ratioOfSums(new Float64Array(20), ones(20))), { ...value, value: 0 });
  });
});
