// Statistics of rays on fields with known answers, and how often their intervals cover the truth.
import * as assert from "uvu/assert";
import { simulationRandom } from "../../../../landscape/statistics/random.ts";
import { meanCurve, type RayEstimate } from "../../../../landscape/statistics/rays/ray-field.ts";
import {
  fixedKlStatistics,
  radiusStatistics,
  rewardsAtKl,
} from "../../../../landscape/statistics/rays/ray-statistics.ts";
import { assertClose, describe } from "../../../support.ts";
import { raysOfWorld } from "./synthetic-rays.ts";

const radii = [0.02, 0.04, 0.08, 0.16];
const shape = { rays: 8, prompts: 10, radii };

describe("landscape/statistics/rays/ray-statistics", (test) => {
  test("reward that falls on a line to half at 0.06, KL of 5 r²: r50, KL there, the share kept", () => {
    const field = raysOfWorld({ ...shape, reward: (r) => 0.8 - (0.4 * Math.abs(r)) / 0.06, kl: (r) => 5 * r * r });
    const { r50, klAtR50, kept, originReward, rows } = radiusStatistics(field);
    assertClose("r50 and KL", [r50.value ?? 0, klAtR50.value ?? 0], [0.06, 5 * 0.06 ** 2], { absolute: 1e-12 });
    // The mean over radii to 0.16 of R/R(0) on a straight line is its value in the middle.
    assertClose("kept", [kept.value ?? 0], [1 - (0.5 * 0.08) / 0.06], { absolute: 1e-12 });
    assertClose("R(0)", [originReward.value ?? 0], [0.8], { absolute: 1e-12 });
    assertClose(
      "KL",
      rows.map(({ kl }) => kl.value ?? 0),
      radii.map((r) => 5 * r * r),
      { absolute: 1e-12 },
    );
    // Rays that are all alike show no spread, and nothing certain may be concluded from that.
    assert.is(r50.overRays.low, null);
    assert.is(rows[0].r.value, null);
  });

  test("what is never reached, or undefined at reward 0, is null and no number", () => {
    const flat = radiusStatistics(raysOfWorld({ ...shape, reward: () => 0.5, kl: (r) => r * r }));
    assert.equal([flat.r50.value, flat.klAtR50.value, flat.kept.value], [null, null, 1]);
    const none = radiusStatistics(raysOfWorld({ ...shape, reward: () => 0, kl: (r) => r * r }));
    assert.equal([none.r50.value, none.kept.value], [null, null]);
  });

  test("at one radius r is that of KL and reward over rays, whatever the distance does", () => {
    const steep = (ray: number): number => 1 + ray / 8;
    const field = (sign: number) =>
      raysOfWorld({
        ...shape,
        // Bent a little: a correlation of exactly 1 has no spread, and so no interval.
        reward: (r, ray) => 0.9 - 5 * r * r * (sign < 0 ? steep(ray) ** 1.5 : 3 - steep(ray) ** 1.5),
        kl: (r, ray) => 5 * r * r * steep(ray),
      });
    for (const sign of [-1, 1])
      for (const { r } of radiusStatistics(field(sign)).rows)
        assertClose("r", [r.value ?? 0], [sign], { absolute: 0.01 });
  });

  test("at equal KL: a ray with a gap is left out there with both halves; KL50 is between two targets", () => {
    const targets = [0.01, 0.04, 0.16];
    // Reward falls on a line in √KL, to half at √KL = 0.3; ray 3 has no point at the largest KL on one half.
    const field = raysOfWorld({
      ...shape,
      radii: targets,
      reward: (kl, ray) => (ray === 3 ? 1 : 0.8 - (0.4 * Math.sqrt(Math.abs(kl))) / 0.3),
      kl: (kl, ray) => (ray === 3 && kl === -0.16 ? -1 : Math.abs(kl)),
    });
    assert.equal(
      meanCurve(field).map(({ rays }) => rays),
      [8, 8, 7],
    );
    const scales = targets.map((kl) => [Math.sqrt(kl), 3 * Math.sqrt(kl)]);
    const { rows, kl50 } = fixedKlStatistics(field, scales);
    assert.equal(
      rows.map(({ rays, of }) => `${rays} of ${of}`),
      ["8 of 8", "8 of 8", "7 of 8"],
    );
    assertClose(
      "scale",
      rows.map(({ scale }) => scale ?? 0),
      [0.2, 0.4, 0.8],
      { absolute: 1e-12 },
    );
    assertClose("reward at the largest", [rows[2].reward.value ?? 0], [0.8 - 0.16 / 0.3], { absolute: 1e-12 });
    assert.ok((kl50.value ?? 0) > 0.04 && (kl50.value ?? 0) < 0.16);
    const same = raysOfWorld({ ...shape, reward: (r) => 0.8 - 4 * Math.abs(r), kl: (r) => 25 * r * r });
    assertClose(
      "reward where √KL is 0.25",
      rewardsAtKl(same, 0.0625).map((one) => one ?? 9),
      new Array<number>(8).fill(0.6),
      {
        absolute: 1e-12,
      },
    );
    assert.equal(rewardsAtKl(same, 2), new Array<null>(8).fill(null));
  });

  test("intervals over 16 rays cover the mean over all rays, and r50, in 88 to 99% of 150 studies", () => {
    const covered = { reward: 0, r50: 0, kept: 0 };
    const studies = 150;
    const holds = ({ overRays: { low, high } }: RayEstimate, truth: number): number =>
      low !== null && high !== null && low <= truth && truth <= high ? 1 : 0;
    for (let study = 0; study < studies; study++) {
      const random = simulationRandom(study);
      // Each ray falls in its own way around the mean line; both halves share it.
      const slopes = Array.from({ length: 16 }, () => (0.4 / 0.06) * (1 + 0.3 * random.normal()));
      const field = raysOfWorld({
        ...shape,
        ...{ rays: 16, prompts: 2 },
        reward: (r, ray) => 0.8 - slopes[ray] * Math.abs(r),
        kl: (r) => 5 * r * r,
      });
      const { rows, r50, kept } = radiusStatistics(field);
      covered.reward += holds(rows[2].reward, 0.8 - (0.4 * 0.08) / 0.06);
      covered.r50 += holds(r50, 0.06);
      covered.kept += holds(kept, 1 - (0.5 * 0.08) / 0.06);
    }
    for (const [name, count] of Object.entries(covered)) {
      const share = count / studies;
      assert.ok(share >= 0.88 && share <= 0.99, `${name}: ${share}`);
    }
  });

  test("an interval over prompts covers what other prompts give along the same rays", () => {
    let covered = 0;
    const studies = 200;
    for (let study = 0; study < studies; study++) {
      const random = simulationRandom(1000 + study);
      const field = raysOfWorld({
        ...{ rays: 6, prompts: 32, radii: [0.02, 0.06] },
        reward: (r) => 0.8 - (0.4 * Math.abs(r)) / 0.06,
        kl: (r) => 5 * r * r,
        draw: (mean) => (random.uniform() < mean ? 1 : 0),
      });
      const { overPrompts } = radiusStatistics(field).rows[1].reward;
      covered += (overPrompts.low ?? 1) <= 0.4 && 0.4 <= (overPrompts.high ?? 0) ? 1 : 0;
    }
    assert.ok(covered / studies >= 0.88, `${covered / studies}`);
  });
});
