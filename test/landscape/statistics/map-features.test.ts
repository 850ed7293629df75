import * as assert from "uvu/assert";
import { groupBy } from "../../../engine/host/index.ts";
import { type GridCell, gridCells } from "../../../landscape/grid.ts";
import { parity, peakOf, ringMeans, surrogateFits, tenthsOverlap } from "../../../landscape/statistics/map-features.ts";
import { meanMap } from "../../../landscape/statistics/prompt-maps.ts";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import { coverAt, floorShare, passAtK } from "../../../rl/statistics/pass-at-k.ts";
import { assertClose, describe } from "../../support.ts";
import { drawMaps, fields } from "../synthetic-maps.ts";

const grid = { points: 7, radius: 0.05 };
const cells = gridCells(grid);
/** A field of (a, b) in units of the radius. */
const map = (of: (a: number, b: number) => number, on: readonly GridCell[] = cells) =>
  Float64Array.from(on, ({ alpha, beta }) => of(alpha / grid.radius, beta / grid.radius));

describe("landscape/statistics/map-features", (test) => {
  test("a hill is even, a slope odd, their sum in between", () => {
    const shares = (of: Float64Array) => {
      const { even, odd, evenFreeOfNoise } = parity(cells, [of, of, of]);
      return [even ?? 9, odd ?? 9, evenFreeOfNoise ?? 9];
    };
    assertClose("hill", shares(map((a, b) => 1 - a * a - b * b)), [1, 0, 1], { absolute: 1e-12 });
    assertClose("slope", shares(map((a, b) => 2 * a - b)), [0, 1, 0], { absolute: 1e-12 });
    // Over −1, −2/3 … 1: Var a = 4/9, Var a² = mean a⁴ − (4/9)² = 28/81 · … taken from the axis itself.
    const axis = [-3, -2, -1, 0, 1, 2, 3].map((k) => k / 3);
    const moment = (power: number) => axis.reduce((sum, a) => sum + a ** power, 0) / 7;
    const even = moment(4) - moment(2) ** 2;
    const share = even / (even + moment(2));
    assertClose("both", shares(map((a) => a + a * a)), [share, 1 - share, share], { absolute: 1e-12 });
  });
  test("the even share free of noise is the truth's, the plain one is not", () => {
    const random = simulationRandom(2);
    const maps = drawMaps({
      grid,
      prompts: 400,
      referencePrompts: 1,
      field: "slope",
      signal: 0.1,
      random,
      shared: 0,
      smooth: 0,
    });
    const { even, evenFreeOfNoise } = parity(cells, maps.reward);
    assert.ok((even ?? 0) > 0.1, `even ${even}`); // half of the noise
    assert.ok(Math.abs(evenFreeOfNoise ?? 9) < 0.05, `free ${evenFreeOfNoise}`);
  });
  test("cells without a mirror image are left out of parity; flat maps have none", () => {
    const some = cells.filter(({ i, j }) => !(i === 0 && j < 3));
    const slope = map((a) => a, some);
    assertClose("odd", [parity(some, [slope, slope]).odd ?? 0], [1], { absolute: 1e-12 });
    assert.is(parity(cells, [map(() => 0.3)]).even, null);
  });
  test("the peak's region holds the truly best cell in 95%, and shrinks with prompts", () => {
    const sizes = [32, 512].map((prompts) => {
      const random = simulationRandom(3, prompts);
      let held = 0;
      let size = 0;
      for (let draw = 0; draw < 60; draw++) {
        const peak = peakOf(drawMaps({ grid, prompts, referencePrompts: 1, field: "hill", signal: 0.4, random }));
        if (peak?.includesCentre) held++;
        size += (peak?.region.length ?? 0) / 60;
      }
      assert.ok(held >= 57, `${held} of 60 at ${prompts} prompts`);
      return size;
    });
    assert.ok(sizes[1] < sizes[0] / 2, sizes.join());
  });
  test("a peak without noise is its own region", () => {
    const reward = [0, 1, 2].map((level) => map((a, b) => level - (a - 1 / 3) ** 2 - b * b));
    const peak = peakOf({ cells, reward, kl: [], objective: [] });
    assert.equal(
      peak?.region.map(({ i, j }) => [i, j]),
      [[4, 3]],
    );
    assert.is(peak?.includesCentre, false);
    assert.is(peak?.reward, Math.max(...meanMap(reward)));
    assert.is(peakOf({ cells, reward: reward.slice(0, 1), kl: [], objective: [] })?.region.length, cells.length);
  });
  test("overlap of tenths: full for a hill on a bowl, nothing more than the radius explains", () => {
    const bowl = map((a, b) => a * a + b * b);
    const hill = tenthsOverlap(
      cells,
      bowl.map((value) => -value),
      bowl,
    );
    // A tenth of 49 is 5 cells: the centre and its four neighbours.
    assertClose("hill", [hill.size, hill.share, hill.expected], [5, 1, 1], { absolute: 1e-12 });
    // A hill off the centre keeps 2 of the 5: (3, 3) and (4, 3) of the plus around (4, 3).
    const off = tenthsOverlap(
      cells,
      map((a, b) => -((a - 1 / 3) ** 2) - b * b),
      bowl,
    );
    assert.is(off.size, 5);
    assertClose("off centre", [off.share], [2 / 5], { absolute: 1e-12 });
    // Radius classes: centre 1 of 1, first ring 1 (the peak) of 4, times 4 of 4 in KL's tenth: (1 + 1) / 5; the rest
    // lies outside.
    assertClose("expected", [off.expected], [2 / 5], { absolute: 1e-12 });
  });
  test("expected overlap is the mean over deals within radius classes", () => {
    const random = simulationRandom(4);
    const reward = map((a, b) => fields.mixture(a, b, 1) + 0.2 * random.normal());
    const kl = map((a, b) => a * a + b * b + 0.3 * a);
    const { expected } = tenthsOverlap(cells, reward, kl);
    const classes = groupBy(cells.keys(), (k) => cells[k].squaredSteps);
    const deals = 4000;
    let total = 0;
    for (let deal = 0; deal < deals; deal++) {
      const dealt = reward.slice();
      for (const members of classes.values())
        for (let k = members.length - 1; k > 0; k--) {
          const other = random.integer(k + 1);
          [dealt[members[k]], dealt[members[other]]] = [dealt[members[other]], dealt[members[k]]];
        }
      total += tenthsOverlap(cells, dealt, kl).share;
    }
    // A share of five cells deviates by at most ½; 4000 deals know the mean to 0.008: three of those.
    assertClose("expected", [expected], [total / deals], { absolute: 0.024 });
  });
  test("ties for the last place share it", () => {
    const kl = map((a, b) => a * a + b * b);
    const { share, expected } = tenthsOverlap(
      cells,
      map(() => 0.5),
      kl,
    );
    assertClose("flat reward", [share, expected], [5 / 49, 5 / 49], { absolute: 1e-12 });
  });
  test("ring means", () => {
    const rings = ringMeans(
      cells,
      cells.map(({ squaredSteps }) => squaredSteps),
    );
    assert.equal(
      rings.map(({ ring, cells: count }) => [ring, count]),
      [
        [0, 1],
        [1, 8],
        [2, 12],
        [3, 16],
        [4, 12],
      ],
    );
    // Ring 1: four cells at 1, four at 2; ring 4: eight at 13, four at 18.
    assertClose("means", [rings[0].mean, rings[1].mean, rings[4].mean], [0, 1.5, 176 / 12], { absolute: 1e-12 });
  });
  test("a surrogate proportional to the reward explains all of it; one that turns away less with distance", () => {
    const reward = map((a, b) => 0.5 + a - b);
    const exact = surrogateFits(
      cells,
      reward.map((value) => 3 * value + 7),
      reward,
    );
    for (const fit of exact ?? [])
      assertClose(`ring ${fit.ring}`, [fit.r ?? 9, fit.rSquared ?? 9], [1, 1], { absolute: 1e-12 });
    assert.equal(
      exact?.map(({ ring, cells: count }) => [ring, count]),
      [
        [null, 48],
        [1, 8],
        [2, 12],
        [3, 16],
        [4, 12],
      ],
    );
    const turning = surrogateFits(
      cells,
      map((a) => a),
      map((a, b) => a - 2 * (a * a + b * b)),
    );
    const [inner, , , outer] = (turning ?? []).slice(1).map(({ rSquared }) => rSquared ?? 9);
    assert.ok(inner > outer && outer >= 0, `${inner}, ${outer}`);
    assert.is(
      surrogateFits(
        cells.slice(0, 3),
        map(() => 1),
        map(() => 1),
      ),
      null,
    );
    assert.is(
      surrogateFits(
        cells,
        map(() => 1),
        reward,
      )?.[0].rSquared,
      null,
    );
  });
});

describe("landscape/statistics/pass-at-k", (test) => {
  test("pass@k is the share of k-subsets with a success", () => {
    const rewards = [1, 0.4, 0, 1, 0.7, 0];
    for (const threshold of [1, 0.5])
      for (let k = 1; k <= rewards.length; k++) {
        let subsets = 0;
        let passed = 0;
        for (let bits = 0; bits < 2 ** rewards.length; bits++) {
          const chosen = rewards.filter((_, g) => (bits >> g) & 1);
          if (chosen.length !== k) continue;
          subsets++;
          if (chosen.some((reward) => reward >= threshold)) passed++;
        }
        assertClose(`k = ${k}`, [passAtK(rewards, threshold, k) ?? 9], [passed / subsets], { absolute: 1e-12 });
      }
    assert.is(passAtK(rewards, 1, 7), null);
    assert.is(passAtK([0, 0], 1, 2), 0);
  });
  test("cover at τ counts prompts whose rate is at least τ", () => {
    const rewards = [
      [1, 1, 0, 0],
      [0.5, 0.5, 0.5, 0],
      [0, 0, 0, 0],
    ];
    assertClose("τ = ½", [coverAt(rewards, 1, 0.5), coverAt(rewards, 0.5, 0.5)], [1 / 3, 2 / 3], { absolute: 1e-15 });
    assertClose("τ = ¾", [coverAt(rewards, 1, 0.75), coverAt(rewards, 0.5, 0.75)], [0, 1 / 3], { absolute: 1e-15 });
  });
  test("floor share is flagged above one half, not at it", () => {
    assert.equal(floorShare([[[0, 1]], [[0], [0.1]]]), { share: 0.5, isFlagged: false });
    assert.equal(floorShare([[[0, 0, 1]]]), { share: 2 / 3, isFlagged: true });
  });
});
