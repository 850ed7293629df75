// The noise floor: known answers, and how many further draws its range holds.
import * as assert from "uvu/assert";
import { noiseFloorOf, outsideFloor } from "../../../landscape/statistics/noise-floor.ts";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import { assertClose, describe } from "../../support.ts";

describe("landscape/statistics/noise-floor", (test) => {
  test("mean, standard deviation, their intervals and the range of further draws, of five draws", () => {
    // Student's t of 4 degrees of freedom, 97.5%: 2.776445 (tables). Mean 0.5, s² = 0.1²·(4 + 1 + 0 + 1 + 4)/4 = 0.025.
    const { mean, deviation, range } = noiseFloorOf([0.3, 0.4, 0.5, 0.6, 0.7]);
    const s = Math.sqrt(0.025);
    const t = 2.7764451;
    assertClose("mean", [mean.value ?? 0, mean.low ?? 0], [0.5, 0.5 - (t * s) / Math.sqrt(5)], { absolute: 1e-7 });
    assertClose("deviation", [deviation.value ?? 0], [s], { absolute: 1e-12 });
    assert.ok((deviation.low ?? 1) < s && s < (deviation.high ?? 0));
    const reach = t * s * Math.sqrt(1.2);
    assertClose("range", [range?.low ?? 0, range?.high ?? 0], [0.5 - reach, 0.5 + reach], { absolute: 1e-7 });
    assert.equal(outsideFloor(noiseFloorOf([0.4, 0.6, 0.5]), [0, 0.1, 0.5, 0.5, 1]), { below: 1, above: 1, cells: 5 });
  });

  test("one draw has no range, and nothing is outside of it", () => {
    const floor = noiseFloorOf([0.5]);
    assert.equal([floor.range, floor.deviation.value, floor.mean.low], [null, null, null]);
    assert.equal(outsideFloor(floor, [0, 1]), { below: 0, above: 0, cells: 2 });
  });

  test("95% of further draws lie in the range: 64 prompts with Bernoulli rewards, 20 draws, 400 studies", () => {
    let inside = 0;
    let covered = 0;
    const studies = 400;
    for (let study = 0; study < studies; study++) {
      const random = simulationRandom(study);
      const chances = Array.from({ length: 64 }, () => random.uniform());
      const draw = (): number => chances.filter((chance) => random.uniform() < chance).length / chances.length;
      const { range, deviation } = noiseFloorOf(Array.from({ length: 20 }, draw));
      const truth = Math.sqrt(chances.reduce((sum, p) => sum + p * (1 - p), 0)) / chances.length;
      covered += (deviation.low ?? 1) <= truth && truth <= (deviation.high ?? 0) ? 1 : 0;
      for (let k = 0; k < 5; k++) {
        const further = draw();
        if (range !== null && range.low <= further && further <= range.high) inside++;
      }
    }
    const share = inside / (5 * studies);
    assert.ok(share > 0.935 && share < 0.965, `${share}`);
    assert.ok(covered / studies > 0.88, `the deviation's interval covers it in ${covered / studies}`);
  });
});
