// The conclusions of all claims, on runs whose answer is known.
import * as assert from "uvu/assert";
import { gridCells } from "../../../../landscape/grid.ts";
import { cellSums, promptMaps } from "../../../../landscape/statistics/cell-sums.ts";
import type { Claim, ClaimedSlice } from "../../../../landscape/statistics/claims/claim.ts";
import { claimsOf, writeClaims } from "../../../../landscape/statistics/claims/claims.ts";
import { changeOf, slopeOf } from "../../../../landscape/statistics/claims/paired.ts";
import { pairsOfT3 } from "../../../../landscape/statistics/claims/pairs-part.ts";
import { PUBLISHED_R } from "../../../../landscape/statistics/claims/published.ts";
import { difference, rAtBudget } from "../../../../landscape/statistics/estimands.ts";
import { jackknife } from "../../../../landscape/statistics/intervals.ts";
import { simulationRandom } from "../../../../landscape/statistics/random.ts";
import { lineStatistics } from "../../../../landscape/statistics/rays/line-statistics.ts";
import { linesOfT3 } from "../../../../landscape/statistics/rays/lines-part.ts";
import { summariseSums } from "../../../../landscape/statistics/summary.ts";
import { assertClose, describe } from "../../../support.ts";
import { records } from "../../synthetic-cells.ts";
import { lineFiles, raysOfWorld } from "../rays/synthetic-rays.ts";

const grid = { points: 5, radius: 0.05 };
const cells = gridCells(grid);
const options = { grid, seed: 1, simulations: 0, nullDraws: 10 };

interface Shape {
  prompts?: number;
  /** Of the reward in KL: −1 a hill over KL's bowl, 0 noise alone, 1 a valley. */
  slope: number;
  /** KL is an ellipse, so that rings of equal distance hold different KL. */
  squeeze?: number;
  measured?: number;
}

const dataOf = (step: number, { prompts = 24, slope, squeeze = 3, measured = 25 }: Shape) => {
  const random = simulationRandom(step + 1, prompts);
  const bowl = (alpha: number, beta: number): number => (alpha ** 2 + squeeze * beta ** 2) / grid.radius ** 2 / 4;
  const each = (of: (alpha: number, beta: number, p: number) => number) =>
    Array.from({ length: prompts }, (_, p) => Float64Array.from(cells, ({ alpha, beta }) => of(alpha, beta, p)));
  const reward = each((alpha, beta) => 0.5 + 0.4 * slope * bowl(alpha, beta) + 0.05 * random.normal());
  const kl = each((alpha, beta, p) => 0.1 * (1 + (p % 5) / 10) * bowl(alpha, beta) * (1 + 0.01 * random.normal()));
  const { cells: all, reference } = records({ cells, reward, kl, objective: [] }, grid);
  return { cells: all.slice(0, measured), reference };
};

const sliceOf = (step: number, shape: Shape, slice = 0): ClaimedSlice => {
  const { cells: measured, reference } = dataOf(step, shape);
  const sums = measured.map((cell) => cellSums(cell, reference));
  return { step, slice, ...summariseSums(sums, reference, options) };
};

const claimsAt = (
  shapes: readonly (readonly [step: number, shape: Shape])[],
  isStudyLike = false,
): Map<string, Claim> => {
  const evaluations = shapes.map(([step]) => ({ step, reward: 0.5, reach: 0.1 }));
  const slices = shapes.map(([step, shape]) => sliceOf(step, shape));
  return new Map(claimsOf(slices, { evaluations, isStudyLike }).map((claim) => [claim.name, claim]));
};
const of = (claims: Map<string, Claim>, name: string): Claim => {
  const claim = claims.get(name);
  assert.ok(claim !== undefined, name);
  return claim as Claim;
};

describe("landscape/statistics/claims", (test) => {
  const early = claimsAt([
    [0, { slope: 0 }],
    [5, { slope: -1 }],
    [20, { slope: -1 }],
  ]);

  test("T1: a hill over an ellipse of KL is shown, within rings too; a valley contradicts; noise decides nothing", () => {
    const hill = of(early, "t1");
    assert.is(hill.verdict, "shown");
    assert.match(
      hill.concluded,
      "Reward falls as KL grows in both maps of trained checkpoints (interval of r below 0)",
    );
    assert.match(hill.concluded, "within rings of equal distance it falls in 2 and rises in 0 of them");
    const valley = of(claimsAt([[5, { slope: 1 }]]), "t1");
    assert.is(valley.verdict, "contradicted");
    assert.match(valley.concluded, "in 0 of 1 maps of trained checkpoints (interval of r below 0), and rises in 1");
    const noise = of(claimsAt([[5, { slope: 0 }]]), "t1");
    assert.is(noise.verdict, "undecided");
    assert.match(noise.concluded, "Whether reward falls as KL grows cannot be decided at this budget; ");
  });

  test("T1: maps of the radius alone leave the question beyond distance open", () => {
    const round = of(claimsAt([[5, { slope: -1, squeeze: 1 }]]), "t1");
    assert.is(round.verdict, "shown");
    assert.match(
      round.concluded,
      "whether it does so beyond what the distance explains cannot be decided at this budget",
    );
  });

  test("T2: a fall between step 0 and 5 is dated; one that comes later, or never, is not", () => {
    const dated = of(early, "t2");
    assert.is(dated.verdict, "shown");
    assert.match(dated.concluded, "r has fallen below its value at step 0 by step 5 in 1 of 1 slices");
    assert.match(dated.concluded, "whether it changes after step 10 cannot be decided at this budget");
    const late = of(
      claimsAt([
        [0, { slope: 0.01 }],
        [5, { slope: 0.01 }],
        [20, { slope: -1 }],
      ]),
      "t2",
    );
    assert.is(late.verdict, "undecided");
    assert.match(late.concluded, "; after step 10 it falls further in 1");
    const rising = of(
      claimsAt([
        [0, { slope: -1 }],
        [5, { slope: 1 }],
      ]),
      "t2",
    );
    assert.is(rising.verdict, "contradicted");
    assert.match(rising.concluded, "r has risen by step 5");
    const single = of(claimsAt([[0, { slope: -1 }]]), "t2");
    assert.match(single.concluded, "There is no slice with complete maps at step 0 and at a step from 1 to 10");
    assert.is(single.tables.length, 1, "no changes, the levels alone");
  });

  test("changes and slopes from small tables are those of whole maps", () => {
    const [first, second] = [0, 5].map((step) => ({ step, shape: { slope: -0.2 - step / 50 } }));
    const slices = [first, second].map(({ step, shape }) => sliceOf(step, shape));
    const [a, b] = [first, second].map(({ step, shape }) => {
      const { cells: measured, reference } = dataOf(step, shape);
      return rAtBudget(promptMaps(measured, reference, grid));
    });
    const direct = jackknife(difference(b, a));
    assert.equal(changeOf(slices[1], slices[0], "r"), direct);
    const slope = slopeOf(slices, "r");
    assertClose("slope", [slope.value ?? 9, slope.high ?? 9], [(direct.value ?? 9) / 5, (direct.high ?? 9) / 5], {
      absolute: 1e-12,
    });
  });

  test("T3 and the surrogate: what lies at higher KL, and J that is the reward", () => {
    const t3 = of(early, "t3");
    assert.match(t3.limits.join(" "), "only pass@1");
    assert.match(
      t3.limits.join(" "),
      "Not measured in this run: lines between checkpoints (landscape.line), KL between all pairs",
    );
    // All rewards lie below 1, so no rollout succeeds anywhere, and no interval can be had.
    assert.is(t3.verdict, "undecided");
    const surrogate = of(early, "surrogate");
    assert.match(surrogate.concluded, "with the winsorised J");
    assert.ok(surrogate.tables[0].rows.length === 3);
    assert.is(early.has("first-difference"), false, "the cells have no places");
  });

  test("T3 with lines: more reward than the checkpoint and than random rays at equal KL contradicts it, less is for it", () => {
    const random = simulationRandom(77);
    // Random rays lose reward as KL grows, each in its own way.
    const falls = Array.from({ length: 8 }, () => 2 + 0.3 * random.normal());
    const rays = raysOfWorld({
      ...{ rays: 8, prompts: 24, radii: [0.1, 0.2, 0.3], kl: (r) => r * r },
      reward: (r, ray) => 0.5 - falls[ray] * r * r,
      draw: (mean) => mean + 0.02 * random.normal(),
    });
    const t3Of = (stepsAhead: number, gain: number): Claim => {
      const files = lineFiles({
        ...{ prompts: 24, positions: [0.5, 1, 2], kl: (position) => 0.03 * position ** 2 },
        reward: (position) => 0.5 + gain * position,
        draw: (mean) => mean + 0.02 * random.normal(),
      });
      const line = lineStatistics(5, stepsAhead, files, rays);
      assert.ok(line !== null);
      const explorationParts = linesOfT3([{ lines: line === null ? [] : [line] }]);
      const slices = [sliceOf(5, { slope: -1 })];
      const claims = claimsOf(slices, { evaluations: [], isStudyLike: false, explorationParts });
      return of(new Map(claims.map((claim) => [claim.name, claim])), "t3");
    };
    const better = t3Of(10, 0.2);
    assert.is(better.verdict, "contradicted");
    assert.match(better.concluded, "At both points it is above both, over other rays too");
    assert.match(better.refutedBy ?? "", "a point on the way to another checkpoint");
    assert.not.match(better.limits.join(), "lines between checkpoints");
    assert.is(t3Of(10, -0.4).verdict, "shown in part");
    // Above the rays at equal KL alone: the way keeps the reward that random directions lose, and gains none.
    const level = t3Of(10, 0);
    assert.is(level.verdict, "undecided");
    assert.match(level.concluded, "above the mean of random rays at equal KL at both points");
    assert.is(t3Of(-10, 0.2).verdict, "undecided", "the way back to an earlier checkpoint decides nothing");
  });

  test("KL and reward between pairs of checkpoints are a part of T3 that describes", () => {
    const about = (value: number) => ({ value, low: value - 0.01, high: value + 0.01, standardError: 0.005 });
    const pair = (from: number, to: number, kl: number, gain: number | null) => ({
      ...{ from, to, kl: about(kl), gain: gain === null ? null : about(gain) },
    });
    const [part] = pairsOfT3([
      pair(0, 5, 0.02, 0.1),
      pair(5, 0, 0.03, -0.1),
      pair(0, 9, 0.2, null),
      pair(5, 9, 0.1, 0),
    ]);
    assert.is(part.evidence, null);
    assert.match(
      part.concluded,
      "at most 0.20 (step 0 to 9); the later one has more reward in 1 of 3 pairs and less in 0",
    );
    assert.equal(part.tables[0].rows, [
      [0, null, 0.02, 0.2],
      [5, 0.03, null, 0.1],
      [9, null, null, null],
    ]);
    assert.is(part.panels[0].series[0].points.length, 2);
    assert.equal(pairsOfT3([]), []);
  });

  test("published correlations stand beside a run with the study's settings, and no other", () => {
    const shapes = [
      [0, { slope: 0 }],
      [10, { slope: -1 }],
    ] as const;
    const [plain, like] = [false, true].map((isStudyLike) => of(claimsAt(shapes, isStudyLike), "t1"));
    const published = (claim: Claim) => claim.plot?.panels[0].series.filter(({ kind }) => kind === "published") ?? [];
    assert.equal(published(plain), []);
    assert.not.match(JSON.stringify(plain), "ublished");
    const [series] = published(like);
    assert.equal(
      series.points.map(({ x, value, low }) => [x, value, low]),
      [...PUBLISHED_R].filter(([step]) => step <= 10).map(([step, r]) => [step, r, null]),
    );
    assert.equal(
      [PUBLISHED_R.get(0), PUBLISHED_R.get(10), PUBLISHED_R.get(150), PUBLISHED_R.size],
      [0.096, -0.869, -0.803, 25],
    );
    assert.is(like.tables[0].rows[1][3], -0.869);
    assert.match(like.plot?.notes.join(" ") ?? "", "published r");
  });

  test("four prompts and missing cells: values without intervals, said in words", () => {
    const few = claimsAt([
      [0, { slope: -1, prompts: 4 }],
      [5, { slope: -1, prompts: 4 }],
    ]);
    for (const name of ["t1", "t2", "t3", "surrogate"])
      assert.match(
        of(few, name).limits.join(" "),
        "There are 4 prompts in the smaller of the two sets. Below 8 no interval",
      );
    assert.is(of(few, "t2").verdict, "undecided");
    const changes = of(few, "t2").tables[0].rows[0].slice(2);
    for (const cell of changes) assert.ok(cell === null || (typeof cell === "object" && cell.low === null));
    const partial = claimsAt([
      [0, { slope: 0 }],
      [5, { slope: -1, measured: 9 }],
    ]);
    assert.match(of(partial, "t2").limits.join(" "), "Maps with missing cells (step 5, slice 0) take no part");
    assert.is(of(partial, "t2").verdict, "undecided");
    assert.equal(claimsOf([], { evaluations: [], isStudyLike: false }), []);
  });

  test("claims.json: the same bytes each time, without a number that JSON cannot hold", () => {
    const text = writeClaims([...early.values()]);
    assert.not.match(text, /NaN|Infinity/);
    assert.is(JSON.parse(text).schemaVersion, 1);
    assert.is(text, writeClaims([...early.values()]));
    const walk = (value: unknown): void => {
      if (typeof value === "number") assert.ok(Number.isFinite(value));
      else if (value !== null && typeof value === "object") Object.values(value).forEach(walk);
    };
    walk([...early.values()]);
  });
});
