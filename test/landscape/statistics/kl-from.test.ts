// Correlations with KL from another checkpoint, on maps whose answer is known.
import * as assert from "node:assert/strict";
import type { KlFromRecord } from "../../../landscape/files/kl-from-files.ts";
import { gridCells } from "../../../landscape/grid.ts";
import { rAtBudget } from "../../../landscape/statistics/estimands.ts";
import { type KlFromMap, klFromTable, mapsFrom } from "../../../landscape/statistics/kl-from.ts";
import { NONE, type PromptMaps } from "../../../landscape/statistics/prompt-maps.ts";
import { assertClose, describe } from "../../support.ts";

const cells = gridCells({ points: 3, radius: 0.1 });
const reward = [0, 1].map((p) => Float64Array.from(cells, ({ alpha, beta }) => 1 - (1 + p) * (alpha + 2 * beta)));
const own: PromptMaps = { cells, reward, kl: [], objective: [] };
/** KL of two completions per prompt whose sum is 3 · (0.2 + alpha) for prompt 0 and 5 · (0.2 + alpha) for prompt 1. */
const record = ({ i, j, alpha, beta }: (typeof cells)[number]): KlFromRecord => ({
  ...{ i, j, alpha, beta },
  kl: [
    [1 * (0.2 + alpha), 2 * (0.2 + alpha)],
    [4 * (0.2 + alpha), 1 * (0.2 + alpha)],
  ],
});
const reference = {
  tokens: [
    [3, 5],
    [6, 2],
  ],
  reward: [],
  advantage: [],
};

describe("landscape/statistics/kl-from", (test) => {
  test("KL of a prompt is its sum ÷ the mean tokens of a prompt, at the reward's cells whatever the order of the file", () => {
    const maps = mapsFrom(own, { cells: cells.map(record).reverse(), reference });
    if (maps === null) throw new Error("expected maps");
    const expected = (factor: number) => cells.map(({ alpha }) => (factor * (0.2 + alpha)) / 8);
    assertClose("prompt 0", maps.kl[0], expected(3), { absolute: 1e-15 });
    assertClose("prompt 1", maps.kl[1], expected(5), { absolute: 1e-15 });
    // R falls along alpha + 2·beta, KL grows along alpha: the cosine of the two is −1/√5.
    assertClose("r", [rAtBudget(maps).at(NONE) ?? 0], [-1 / Math.sqrt(5)], { absolute: 1e-12 });
    assert.equal(mapsFrom(own, { cells: cells.map(record).slice(1), reference }), null);
  });

  test("the table has the mean over five slices, and none over four", () => {
    const known = (value: number) => ({ value, low: value - 0.1, high: value + 0.1, standardError: 0.05 });
    const map = (slice: number): KlFromMap => ({
      ...{ step: 5, slice, from: 0, isOwn: false, cells: [], klAtCentre: 0.3 },
      ...{ r: known(-0.1 * slice), rInfinity: known(-0.5), withinRing: known(0) },
    });
    const rowsOf = (slices: number) => klFromTable(Array.from({ length: slices }, (_, slice) => map(slice))).rows;
    assert.equal(rowsOf(4).length, 4);
    const mean = rowsOf(5)[5];
    assert.deepEqual(mean.slice(0, 4), [5, 0, "mean", null]);
    const [, , , , r] = mean;
    if (r === null || typeof r !== "object") throw new Error("expected an estimate");
    // Values 0, −0.1 … −0.4: mean −0.2, standard error √(0.025/5), t of 4 degrees of freedom 2.7764.
    assertClose("mean of r", [r.value ?? 0, r.low ?? 0], [-0.2, -0.2 - 2.776445 * Math.sqrt(0.005)], {
      absolute: 1e-6,
    });
  });
});
