// The table that a study ends with: what it shows, and that everything in it is explained under it.
import * as assert from "uvu/assert";
import { summaryText } from "../../../landscape/report/table.ts";
import { intervalName } from "../../../landscape/report/wording.ts";
import type { Estimate } from "../../../landscape/statistics/intervals.ts";
import { reachOfMean } from "../../../rl/index.ts";
import { assertClose, describe } from "../../support.ts";
import { type SyntheticSummary, syntheticSummary } from "../synthetic-summary.ts";

const slice = (step: number, number: number, given: SyntheticSummary = {}) => ({
  step,
  slice: number,
  summary: syntheticSummary(given),
});
const UNDETERMINED: Estimate = { value: null, low: null, high: null, standardError: null };

describe("landscape/report/table", (test) => {
  test("one meaning of ±, and a line for every term", () => {
    const text = summaryText([slice(0, 0)], []);
    assert.match(text, "−0.80 ± 0.10");
    assert.match(text, "±: half the width of the 95% interval (jackknife over prompts).");
    for (const term of ["r(KL, R):", "r∞:", "within ring:", "R(0,0):", "KL edge, KL corner:", "A ≠ 0:", "floor:"])
      assert.is(text.split(term).length, 2, `${term} explained once`);
    assert.is(text.match(/±:/g)?.length, 1);
    assert.not.match(text, "* More than half");
    assert.match(summaryText([slice(0, 0, { floorShare: 0.6 })], []), "60%*");
  });
  test("simulated coverage below 90%, or none, is said with the interval", () => {
    const named = (...coverages: (number | null)[]) =>
      intervalName(coverages.map((coverage) => ({ summary: syntheticSummary({ coverage }) })));
    assert.is(named(0.95, 0.9), "95% interval (jackknife over prompts)");
    assert.is(named(0.95, 0.86), "nominal 95% interval (jackknife over prompts; simulated coverage from 86%)");
    assert.is(named(null), "nominal 95% interval (jackknife over prompts; coverage not simulated)");
  });
  test("an undetermined estimate says what it needs itself, with the number used", () => {
    const determined = {
      r: {
        isDetermined: false,
        rollouts: { used: 64, needed: 97, isLowerBound: false },
        reference: { used: 32, needed: 20, isLowerBound: false },
      },
      rInfinity: {
        isDetermined: false,
        rollouts: { used: 64, needed: 86, isLowerBound: true },
        reference: { used: 32, needed: 20, isLowerBound: false },
      },
      withinRing: {
        isDetermined: false,
        rollouts: { used: 64, needed: 35, isLowerBound: false },
        reference: { used: 32, needed: 40, isLowerBound: false },
      },
    };
    const none = { r: UNDETERMINED, rInfinity: UNDETERMINED, withinRing: UNDETERMINED };
    const text = summaryText([slice(5, 1, { ...none, determined })], []);
    assert.match(text, /^ *5 +1 +\S+ ± \S+ +undetermined +undetermined +undetermined /m);
    assert.match(text, "\nundetermined: the interval would contain every correlation from −1 to 1");
    assert.match(text, "step 5, slice 1, r: needs about 97 prompts (64 used)\n");
    assert.match(text, "step 5, slice 1, r∞: needs at least 86 prompts (64 used)\n");
    assert.match(text, "step 5, slice 1, within ring: needs about 40 reference prompts (32 used)");
    assert.not.match(text, "35 prompts");
  });
  test("a value without an interval says so, and why; the coverage of what is not shown is not named", () => {
    const alone: Estimate = { ...UNDETERMINED, value: -0.9 };
    const summary = { ...syntheticSummary({ rInfinity: alone, coverage: 0.95 }) };
    const prompts = { ...summary.prompts, rollouts: 16, reference: 6 };
    const coverage = summary.coverage && {
      ...summary.coverage,
      rInfinity: { ...summary.coverage.rInfinity, coverage: 0.5 },
    };
    const text = summaryText([{ step: 5, slice: 1, summary: { ...summary, prompts, coverage } }], []);
    assert.match(text, /^ *5 +1 +\S+ ± \S+ +−0.80 ± 0.10 +−0.90 \(no interval\) +−0.30 ± 0.10 /m);
    assert.match(
      text,
      "No interval: r∞ and within ring have one from 8 prompts on, r from 3 on, in the smaller of the two sets",
    );
    assert.match(text, "here it has 6. ");
    assert.match(text, "±: half the width of the 95% interval (jackknife");
    assert.not.match(summaryText([slice(5, 1)], []), /no interval/i);
  });
  test("a slice that is not whole says so", () => {
    const text = summaryText([slice(0, 0), slice(5, 0, { isComplete: false })], []);
    assert.match(text, "Incomplete: Step 5, slice 0: 9 of 49 cells are measured.");
    assert.is(text.match(/Incomplete/g)?.length, 1);
    assert.match(text, /floor +cells\n.* 49 of 49\n.* 9 of 49\n/);
    assert.not.match(summaryText([slice(0, 0)], []), "cells\n");
  });
  test("a mean row from five slices on", () => {
    const rows = (count: number) =>
      summaryText(
        Array.from({ length: count }, (_, k) => slice(5, k)),
        [],
      );
    assert.not.match(rows(4), "mean  ");
    assert.match(rows(5), /\n *5 +mean +−0\.80 ± 0\.00 +−0\.90 ± 0\.00 +−0\.30 ± 0\.00\n/);
    assert.match(rows(5), "mean: over the slices of a checkpoint; its ± is Student's t over slices.");
  });
  test("a trend is written per ten steps", () => {
    const trend = {
      slice: 2,
      steps: [0, 10, 20],
      r: { value: -0.03, low: -0.05, high: -0.01, standardError: 0.01 },
      rInfinity: UNDETERMINED,
    };
    assert.match(
      summaryText([slice(0, 2)], [trend]),
      "Trend over steps 0, 10, 20, slice 2, per 10 steps: r −0.30 ± 0.20, r∞ undetermined",
    );
  });
  test("the half-width of a mean is Student's t times its standard error", () => {
    // t with 255 degrees of freedom at 97.5%: 1.969311 (R: qt(0.975, 255)).
    assertClose("256 episodes", [reachOfMean(0.017, 256) ?? 9], [0.017 * 1.969311], { absolute: 1e-7 });
    assert.is(reachOfMean(0.1, 1), null);
    assert.is(reachOfMean(Number.NaN, 64), null);
  });
});
