// Worst-case rays beside random rays: at equal radius and at equal KL, on a field with known answers.
import * as assert from "uvu/assert";
import { indicesOf } from "../../../../landscape/files/ray-files.ts";
import { worstStatistics } from "../../../../landscape/statistics/rays/worst-statistics.ts";
import { worstShown } from "../../../../landscape/statistics/rays/worst-table.ts";
import { assertClose, describe } from "../../../support.ts";
import { lineFiles, raysOfWorld } from "./synthetic-rays.ts";

describe("landscape/statistics/rays/worst-statistics", (test) => {
  test("four times the KL of random rays, and the reward that this KL has on them: worse at equal radius, the same at equal KL", () => {
    const radii = [0.1, 0.2];
    // The random rays differ a little, and prompts too, so that there are intervals.
    const steep = (ray: number): number => 2 + (ray - 3.5) / 50;
    const rays = raysOfWorld({
      ...{ rays: 8, prompts: 10, radii, kl: (r) => r * r },
      reward: (r, ray) => 0.5 - steep(ray) * r * r,
    });
    const files = lineFiles({
      ...{ prompts: 10, positions: [-0.2, -0.1, 0.1, 0.2], kl: (r) => 4 * r * r },
      reward: (r) => 0.5 - 8 * r * r,
    });
    const cells = files.cells.map((cell) =>
      cell.i < 0
        ? cell
        : {
            ...cell,
            ...indicesOf({ ray: 0, index: radii.indexOf(Math.abs(cell.alpha)), sign: cell.alpha < 0 ? -1 : 1 }),
          },
    );
    const found = worstStatistics("kl", [3, 8], { ...files, cells }, rays);
    assert.equal(
      found.points.map(({ radius }) => radius),
      [-0.2, -0.1, 0.1, 0.2],
    );
    for (const { radius, kl, reward, atRadius, atKl } of found.points) {
      const r = Math.abs(radius);
      assertClose("KL and reward", [kl, reward.value ?? 9], [4 * r * r, 0.5 - 8 * r * r], { absolute: 1e-12 });
      assertClose(
        "at equal radius",
        [atRadius?.kl.mean ?? 9, atRadius?.reward.mean ?? 9, atRadius?.reward.excess.value ?? 9],
        [r * r, 0.5 - 2 * r * r, -6 * r * r],
        { absolute: 1e-12 },
      );
      assert.is(atRadius?.reward.shareBelow, 0);
      assert.ok((atRadius?.reward.excessOverRays.high ?? 1) < 0, "all rays have more reward");
      if (r === 0.2) assert.is(atKl, null, "no random ray reaches this KL");
      else assertClose("at equal KL", [atKl?.excess.value ?? 9], [0], { absolute: 1e-12 });
    }
    const shown = worstShown([
      { step: 1, worst: [] },
      { step: 3, worst: [found] },
    ]);
    assert.equal(
      shown?.table.rows.map((row) => row.slice(0, 3)),
      [
        [3, "steepest KL, opposite half", 0.2],
        [3, "steepest KL, opposite half", 0.1],
        [3, "steepest KL", 0.1],
        [3, "steepest KL", 0.2],
      ],
    );
    assert.is(shown?.plot.panels.length, 3);
    assert.is(worstShown([{ step: 1, worst: [] }]), null);
  });
});
