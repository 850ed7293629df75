import * as assert from "uvu/assert";
import type { CellRecord, ReferenceSet } from "../../../../landscape/files/cells.ts";
import { gridCells } from "../../../../landscape/grid.ts";
import { cellSums, promptMaps } from "../../../../landscape/statistics/cell-sums.ts";
import { squareOf, surrogateEvidence, winsorisedMaps } from "../../../../landscape/statistics/claims/surrogate.ts";
import { meanMap } from "../../../../landscape/statistics/prompt-maps.ts";
import { simulationRandom } from "../../../../landscape/statistics/random.ts";
import { quantile } from "../../../../landscape/statistics/statistics.ts";
import { assertClose, describe } from "../../../support.ts";
import { records } from "../../synthetic-cells.ts";

const grid = { points: 7, radius: 0.05 };
const cells = gridCells(grid);
const CENTRE = 24;

const sumsOf = (of: readonly CellRecord[], reference: ReferenceSet) => of.map((cell) => cellSums(cell, reference));
const evidenceOf = (of: readonly CellRecord[], reference: ReferenceSet) =>
  surrogateEvidence(sumsOf(of, reference), reference, promptMaps(of, reference, grid));

/** Reward a hill, J a multiple of it, both with a level and noise of each prompt. */
function world(prompts: number, noise: number, seed = 1) {
  const random = simulationRandom(seed, prompts);
  const hill = (of: number) =>
    Float64Array.from(cells, ({ alpha, beta }) => {
      const [a, b] = [alpha / grid.radius, beta / grid.radius];
      return of * (0.8 - 0.3 * (a * a + b * b) + 0.2 * a) + noise * random.normal();
    });
  const levels = Array.from({ length: prompts }, (_, p) => 1 + (p % 3) / 5);
  const maps = { cells, reward: levels.map(hill), kl: levels.map(() => hill(1)), objective: [] };
  return records(maps, grid);
}

describe("landscape/statistics/claims/surrogate", (test) => {
  test("J that is R itself: r and R² are 1 over all cells and in every ring", () => {
    const { cells: measured, reference } = world(16, 0);
    const evidence = evidenceOf(measured, reference);
    for (const { ring, r, rSquared } of evidence?.raw ?? []) {
      assertClose(`ring ${ring}`, [r.value ?? 9, rSquared.value ?? 9], [1, 1], { absolute: 1e-9 });
    }
    assert.equal(
      evidence?.raw.map(({ ring }) => ring),
      [null, 1, 2, 3, 4],
    );
  });

  test("one ratio that dominates J ruins the raw r, and not the winsorised one", () => {
    const { cells: measured, reference } = world(32, 0.02);
    // At one cell of the rim, one completion's surrogate is a thousand times larger.
    const spoilt = measured.map((cell) =>
      cell.i === 0 && cell.j === 0
        ? {
            ...cell,
            reference: {
              ...cell.reference,
              objective: cell.reference.objective.map((of, p) => (p === 5 ? [of[0] + 20_000, of[1]] : of)),
            },
          }
        : cell,
    );
    const evidence = evidenceOf(spoilt, reference);
    const [raw, winsorised] = [evidence?.raw[0], evidence?.winsorised[0]];
    assert.ok((raw?.r.value ?? -1) < 0.2, `raw ${raw?.r.value}`);
    assert.ok((winsorised?.r.low ?? 0) > 0.9, `winsorised ${JSON.stringify(winsorised?.r)}`);
    assert.ok(raw?.r.low === null || (raw?.r.low ?? 1) < 0, "a prompt that dominates makes a wide interval");
  });

  test("winsorised contributions are cut to their quantiles, cell by cell", () => {
    const { cells: measured, reference } = world(8, 0.3);
    const maps = promptMaps(measured, reference, grid);
    const found = winsorisedMaps(sumsOf(measured, reference), reference, maps, CENTRE);
    const [origin] = measured;
    const corner = measured.find(({ i, j }) => i === 6 && j === 0) ?? origin;
    const contributions = reference.tokens.flatMap((tokens, p) =>
      tokens.map((_, g) => (corner.reference.objective[p][g] - origin.reference.objective[p][g]) / 40),
    );
    const [low, high] = [quantile(contributions, 0.025), quantile(contributions, 0.975)];
    const expected = reference.tokens.map((tokens, p) =>
      tokens.reduce((sum, _, g) => sum + Math.min(high, Math.max(low, contributions[2 * p + g])), 0),
    );
    assertClose(
      "corner",
      found.map((map) => map[6 * 7]),
      expected,
      { absolute: 1e-12 },
    );
    assertClose("centre", [meanMap(found)[CENTRE]], [0], { absolute: 1e-15 });
  });

  test("the square of an interval: from 0 if it contains 0, at most 1, and null stays null", () => {
    const estimate = (value: number, reach: number) => ({
      value,
      low: value - reach,
      high: value + reach,
      standardError: reach,
    });
    const ends = (of: ReturnType<typeof squareOf>) => [of.value ?? 9, of.low ?? 9, of.high ?? 9];
    assertClose("above", ends(squareOf(estimate(0.6, 0.1))), [0.36, 0.25, 0.49], { absolute: 1e-12 });
    assertClose("below", ends(squareOf(estimate(-0.6, 0.1))), [0.36, 0.25, 0.49], { absolute: 1e-12 });
    assertClose("across", ends(squareOf(estimate(0.1, 0.3))), [0.01, 0, 0.16], { absolute: 1e-12 });
    assertClose("beyond", ends(squareOf(estimate(0.95, 0.1))), [0.9025, 0.7225, 1], { absolute: 1e-12 });
    const none = { low: null, high: null, standardError: null };
    assert.equal(squareOf({ ...none, value: 0.5 }), { ...none, value: 0.25 });
    assert.equal(squareOf({ ...none, value: null }), { ...none, value: null });
  });

  test("seven prompts: values without intervals; no centre, no surrogate", () => {
    const { cells: measured, reference } = world(7, 0.05);
    const evidence = evidenceOf(measured, reference);
    assert.ok(typeof evidence?.raw[0].r.value === "number");
    assert.equal([evidence?.raw[0].r.low, evidence?.winsorised[0].rSquared.low], [null, null]);
    const rim = measured.slice(1);
    assert.is(evidenceOf(rim, reference), null);
  });
});
