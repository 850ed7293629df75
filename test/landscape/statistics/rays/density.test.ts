// Density of improving neighbours: known answers, and how often its interval covers the truth when halves of a ray agree.
import * as assert from "uvu/assert";
import { indicesOf } from "../../../../landscape/files/ray-files.ts";
import { simulationRandom } from "../../../../landscape/statistics/random.ts";
import { densityRows, improvingPoints, type Rewarded, wilson } from "../../../../landscape/statistics/rays/density.ts";
import { densityShown } from "../../../../landscape/statistics/rays/density-table.ts";
import { assertClose, describe } from "../../../support.ts";

const point = (i: number, j: number, reward: readonly number[]): Rewarded => ({
  ...{ i, j, alpha: 0 },
  rollouts: { reward: reward.map((one) => [one]) },
});
const origin = (reward: readonly number[]): Rewarded => point(-1, 0, reward);
const half = (ray: number, index: number, sign: 1 | -1, reward: readonly number[]): Rewarded => {
  const { i, j } = indicesOf({ ray, index, sign });
  return point(i, j, reward);
};

describe("landscape/statistics/rays/density", (test) => {
  test("Wilson's interval: the roots of (p − π)² = z²·π(1 − π)/n by numpy.roots; with fewer units it is wider", () => {
    const ends = (count: number, of: number, units?: number): number[] => {
      const { share } = wilson(count, of, units);
      return [share.low ?? Number.NaN, share.high ?? Number.NaN];
    };
    assertClose("8 of 10", ends(8, 10), [0.4901625, 0.943317], { absolute: 1e-6 });
    assertClose("0 of 10", ends(0, 10), [0, 0.2775328], { absolute: 1e-6 });
    assertClose("16 of 20, 10 rays", ends(16, 20, 10), ends(8, 10), { absolute: 1e-15 });
    assert.is(wilson(0, 0).share.value, null);
  });

  test("better is more than the checkpoint's reward; equal is not; the lead and what fresh prompts leave of it", () => {
    const cells = [
      half(0, 0, 1, [0.5, 0.9]),
      origin([0.5, 0.5]),
      half(0, 0, -1, [0.5, 0.5]),
      half(1, 0, 1, [0.7, 0.5]),
      half(1, 0, -1, [0, 0]),
      half(1, 1, 1, [1, 1]),
    ];
    const better = improvingPoints(cells);
    assert.equal(
      better.map(({ i, j }) => [i, j]),
      [
        [0, 0],
        [1, 0],
        [1, 2],
      ],
    );
    const fresh = [origin([0.2, 0.4, 0]), half(0, 0, 1, [0.2, 0.4, 0.3]), half(1, 0, 1, [0.2, 0.1, 0])];
    const [inner, outer] = densityRows([0.1, 0.2], cells, fresh);
    assert.equal([inner.better.count, inner.better.of, inner.better.share.value], [2, 4, 0.5]);
    assert.equal([inner.fresh?.still.count, inner.fresh?.still.of, inner.fresh?.onBoth?.share.value], [1, 2, 0.25]);
    assertClose(
      "leads",
      [inner.fresh?.selectedGain ?? 0, inner.fresh?.freshGain.value ?? 9],
      [(0.2 + 0.1) / 2, (0.1 - 0.1) / 2],
      { absolute: 1e-12 },
    );
    assert.is(inner.fresh?.freshGain.low, null, "three prompts give no interval");
    assert.equal([outer.better.count, outer.better.of, outer.fresh], [1, 1, null]);
    const shown = densityShown([{ step: 3, density: [inner, outer] }], []);
    assert.equal(shown?.table.rows[0].slice(0, 3), [3, 0.1, "2 of 4"]);
    assert.is(shown?.sentences.length, 0);
    const [alone] = densityRows([0.1], cells, []);
    assert.match(densityShown([{ step: 3, density: [alone] }], [])?.sentences[0] ?? "", "upper estimate");
  });

  test("a flat field: half of the directions win by noise, half of these win again, and the lead is gone", () => {
    const random = simulationRandom(11);
    const rewards = (): number[] => Array.from({ length: 32 }, () => (random.uniform() < 0.4 ? 1 : 0));
    const cells = [origin(new Array<number>(32).fill(0.4))];
    const fresh = [origin(new Array<number>(32).fill(0.4))];
    for (let ray = 0; ray < 400; ray++)
      for (const sign of [1, -1] as const) {
        cells.push(half(ray, 0, sign, rewards()));
        fresh.push(half(ray, 0, sign, rewards()));
      }
    const [{ better, fresh: again }] = densityRows([0.1], cells, fresh);
    assert.ok(Math.abs((better.share.value ?? 0) - 0.5) < 0.07, `${better.share.value}`);
    assert.ok(Math.abs((again?.still.share.value ?? 0) - 0.5) < 0.1, `${again?.still.share.value}`);
    assert.ok((again?.selectedGain ?? 0) > 0.05 && Math.abs(again?.freshGain.value ?? 1) < 0.02);
    assert.ok((again?.freshGain.low ?? 1) < 0 && (again?.freshGain.high ?? 0) > 0);
  });

  test("the interval covers the density in at least 92% of 400 studies of 16 rays, whether halves agree or not", () => {
    for (const agree of [0, 0.5, 1]) {
      let covered = 0;
      const studies = 400;
      for (let study = 0; study < studies; study++) {
        const random = simulationRandom(5000 + study);
        const truth = 0.3;
        let count = 0;
        for (let ray = 0; ray < 16; ray++) {
          const first = random.uniform() < truth;
          const second = random.uniform() < agree ? first : random.uniform() < truth;
          count += (first ? 1 : 0) + (second ? 1 : 0);
        }
        const { share } = wilson(count, 32, 16);
        covered += (share.low ?? 1) <= truth && truth <= (share.high ?? 0) ? 1 : 0;
      }
      assert.ok(covered / studies >= 0.92, `${agree}: ${covered / studies}`);
    }
  });
});
