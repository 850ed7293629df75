import * as assert from "uvu/assert";
import { groupBy } from "../../../../engine/host/index.ts";
import { type GridCell, gridCells } from "../../../../landscape/grid.ts";
import { overlapSummary } from "../../../../landscape/statistics/claims/evidence.ts";
import { overlapEvidence } from "../../../../landscape/statistics/claims/overlap.ts";
import { simulationRandom } from "../../../../landscape/statistics/random.ts";
import { assertClose, describe } from "../../../support.ts";

const radius = 0.05;
/** Maps of 16 prompts that are one map times a level of each prompt. */
const mapsOf = (
  cells: readonly GridCell[],
  kl: (a: number, b: number) => number,
  reward: (a: number, b: number) => number,
  prompts = 16,
) => {
  const map = (of: typeof kl, level: number) =>
    Float64Array.from(cells, ({ alpha, beta }) => level * of(alpha / radius, beta / radius));
  const levels = Array.from({ length: prompts }, (_, p) => 1 + (p % 4) / 10);
  return {
    cells,
    reward: levels.map((level) => map(reward, level)),
    kl: levels.map((level) => map(kl, level)),
    objective: [],
  };
};
const bowl = (a: number, b: number): number => a * a + b * b;
const ellipse = (a: number, b: number): number => a * a + 9 * b * b;

describe("landscape/statistics/claims/overlap", (test) => {
  test("maps that depend on the radius alone: overlap and expectation are the same, excess 0", () => {
    for (const points of [3, 5, 7, 11, 21]) {
      const cells = gridCells({ points, radius });
      for (const reward of [
        (a: number, b: number) => -bowl(a, b),
        (a: number, b: number) => Math.cos(5 * bowl(a, b)),
      ]) {
        const overlap = overlapSummary(overlapEvidence(mapsOf(cells, bowl, reward)));
        assertClose(`${points} points`, [overlap?.excess.value ?? 9], [0], { absolute: 1e-12 });
        assertClose(`${points} points`, [overlap?.share.value ?? 9], [overlap?.expected.value ?? 8], {
          absolute: 1e-12,
        });
      }
    }
  });

  test("R along an ellipse of KL: the overlap is whole, the radius explains less; the interval says so", () => {
    const cells = gridCells({ points: 21, radius });
    const evidence = overlapEvidence(mapsOf(cells, ellipse, (a, b) => -ellipse(a, b)));
    const overlap = overlapSummary(evidence);
    assert.is(overlap?.canDiffer, true);
    assert.is(overlap?.size, 44);
    // By hand: of every radius class, the square of the share that the ellipse's 44 best cells have of it.
    const order = [...cells].sort((x, y) => ellipse(x.alpha, x.beta) - ellipse(y.alpha, y.beta));
    const bar = ellipse(order[43].alpha, order[43].beta);
    const tied = cells.filter((cell) => Math.abs(ellipse(cell.alpha, cell.beta) - bar) < 1e-12).length;
    const inner = cells.filter((cell) => ellipse(cell.alpha, cell.beta) < bar - 1e-12).length;
    const weight = (cell: GridCell): number => {
      const value = ellipse(cell.alpha, cell.beta);
      return value < bar - 1e-12 ? 1 : value > bar + 1e-12 ? 0 : (44 - inner) / tied;
    };
    const classes = groupBy(cells, (cell) => cell.squaredSteps);
    const expected = [...classes.values()].reduce((sum, members) => {
      const inTenth = members.reduce((total, cell) => total + weight(cell), 0);
      return sum + inTenth ** 2 / members.length;
    }, 0);
    // Whole, up to the ties for the last place: those are dealt in each map by itself.
    const places = cells.reduce((sum, cell) => sum + weight(cell) ** 2, 0);
    assertClose("share", [overlap?.share.value ?? 9], [places / 44], { absolute: 1e-9 });
    assert.ok(places > 43);
    assertClose("expected", [overlap?.expected.value ?? 9], [expected / 44], { absolute: 1e-9 });
    assert.ok((overlap?.excess.low ?? -1) > 0.2, JSON.stringify(overlap?.excess));
  });

  test("where KL's tenth is made of whole rings, the overlap can show nothing beyond the radius, and says so", () => {
    const random = simulationRandom(3);
    for (const [points, canDiffer] of [
      [3, false],
      [7, false],
      [5, true],
      [21, true],
    ] as const) {
      const cells = gridCells({ points, radius });
      const maps = mapsOf(cells, bowl, () => random.uniform());
      const overlap = overlapSummary(overlapEvidence(maps));
      // A tenth of 5 × 5 is 3 cells (2.5): the centre and two of the first ring's four.
      assert.is(overlap?.canDiffer, canDiffer, `${points} points`);
      if (canDiffer) continue;
      assertClose(`${points} points`, [overlap?.excess.value ?? 9], [0], { absolute: 1e-12 });
      assert.equal([overlap?.excess.low, overlap?.excess.high], [null, null]);
    }
  });

  test("seven prompts have no interval, one prompt no overlap", () => {
    const cells = gridCells({ points: 5, radius });
    const few = overlapSummary(overlapEvidence(mapsOf(cells, ellipse, (a) => a, 7)));
    assert.equal([few?.share.low, few?.expected.low, few?.excess.low], [null, null, null]);
    assert.ok(few?.share.value !== null);
    assert.is(overlapEvidence(mapsOf(cells, bowl, (a) => a, 1)), null);
  });
});
