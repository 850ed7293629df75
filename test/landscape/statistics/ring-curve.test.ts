// Reward and KL by ring: known answers by hand.
import * as assert from "uvu/assert";
import { gridCells } from "../../../landscape/grid.ts";
import { ringCurve } from "../../../landscape/statistics/ring-curve.ts";
import { assertClose, describe } from "../../support.ts";

describe("landscape/statistics/ring-curve", (test) => {
  const cells = gridCells({ points: 3, radius: 1 });
  /** A map with one value at the centre and one at its eight neighbours (√2 rounds to 1). */
  const map = (centre: number, around: number) =>
    Float64Array.from(cells, ({ squaredSteps }) => (squaredSteps === 0 ? centre : around));

  test("means over cells, then prompts, and Student's interval over the prompts' means", () => {
    const curve = ringCurve({
      cells,
      reward: [map(1, 0.5), map(0.5, 0.1)],
      kl: [map(0, 0.2), map(0, 0.4)],
      objective: [],
    });
    assert.equal(
      curve.map(({ ring, cells }) => [ring, cells]),
      [
        [0, 1],
        [1, 8],
      ],
    );
    assertClose(
      "reward",
      curve.map(({ reward }) => reward),
      [0.75, 0.3],
      { absolute: 1e-12 },
    );
    assertClose(
      "KL",
      curve.map(({ klToken }) => klToken),
      [0, 0.3],
      { absolute: 1e-12 },
    );
    // Two prompts: half their difference is the standard error, and t(0.975, 1) = 12.706205 (tables).
    const reach = curve.map(({ rewardReach }) => rewardReach ?? Number.NaN);
    assertClose("reach", reach, [12.706205 * 0.25, 12.706205 * 0.2], { absolute: 1e-5 });
  });

  test("one prompt has no interval", () => {
    const curve = ringCurve({ cells, reward: [map(1, 0)], kl: [map(0, 1)], objective: [] });
    assert.equal(
      curve.map(({ rewardReach }) => rewardReach),
      [null, null],
    );
  });
});
