import * as assert from "uvu/assert";
import type { CellRecord } from "../../../../landscape/files/cells.ts";
import { gridCells } from "../../../../landscape/grid.ts";
import { cellSums, promptMaps } from "../../../../landscape/statistics/cell-sums.ts";
import { differencesOf, ringDifferences } from "../../../../landscape/statistics/claims/first-differences.ts";
import { pointOf, readPoints, writePoints } from "../../../../landscape/statistics/points.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { records } from "../../synthetic-cells.ts";

const grid = { points: 3, radius: 0.05 };
const cells = gridCells(grid);
const flat = (prompts: number) => Array.from({ length: prompts }, () => new Float64Array(cells.length).fill(0.1));

/** Ten prompts with one rollout. At distance 1 half of them differ, at distance √2 all; prompt p at token p. */
function world() {
  const { cells: plain, reference } = records({ cells, reward: flat(10), kl: flat(10), objective: [] }, grid);
  const measured = plain.map((cell): CellRecord => {
    const distance = Math.abs(cell.i - 1) + Math.abs(cell.j - 1);
    const place = (p: number): number => (distance === 0 || (distance === 1 && p < 5) ? -1 : 2 * p);
    return { ...cell, firstDifference: Array.from({ length: 10 }, (_, p) => [place(p)]) };
  });
  return { measured, reference, maps: promptMaps(measured, reference, grid) };
}

describe("landscape/statistics/claims/first-differences", (test) => {
  const { measured, reference, maps } = world();
  const [centre] = measured;
  const sumsOf = (of: readonly CellRecord[]) => of.map((cell) => cellSums(cell, reference));

  test("of a cell: share that never differs, mean place, and the tenth of the checkpoint's conversation", () => {
    assert.equal(differencesOf(centre, reference)?.never, 1);
    assert.ok(Number.isNaN(differencesOf(centre, reference)?.meanPlace));
    const edge = measured.find(({ i, j }) => i === 0 && j === 1) ?? centre;
    // Prompts 5 to 9 at tokens 10, 12, 14, 16, 18 of 20: tenths 6 to 10.
    assert.equal(differencesOf(edge, reference), {
      never: 0.5,
      meanPlace: 14,
      parts: [0, 0, 0, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.1],
    });
    const beyond = { ...edge, firstDifference: [[40]] };
    assert.is(differencesOf(beyond, reference)?.parts[9], 1, "a place behind the end counts in the last tenth");
  });

  test("by ring: pooled over its cells, with intervals over prompts", () => {
    const rings = ringDifferences(sumsOf(measured), maps) ?? [];
    assert.equal(
      rings.map(({ ring, cells: count }) => [ring, count]),
      [
        [null, 8],
        [1, 8],
      ],
    );
    // Edges (4 cells): 0.5; corners (4 cells, also ring 1): 0. Places: 5 · (10 + … + 18) / 5 and 0 + … + 18.
    assertClose("never", [rings[0].never.value ?? 9], [0.25], { absolute: 1e-12 });
    assertClose("place", [rings[0].meanPlace.value ?? 9], [(70 + 90) / 15], { absolute: 1e-12 });
    assert.ok(rings[0].never.low !== null && (rings[0].never.low ?? 1) < 0.25);
    assertClose("histogram", [rings[0].parts.reduce((a, b) => a + b) + 0.25], [1], { absolute: 1e-12 });
    const [first, ...others] = measured;
    const { firstDifference: _, ...old } = others[0];
    assert.is(ringDifferences(sumsOf([first, old, ...others.slice(1)]), maps), null, "one cell of an earlier version");
  });

  test("points.csv has the columns if the cells have the places, and reads them back", () => {
    const points = measured.map((cell) => pointOf(cell, reference));
    const text = writePoints(points);
    const header = text.split("\n")[0];
    assert.match(header, "differs_never,differs_at,differs_in_tenth_1,");
    assert.is(writePoints(readPoints(text)), text);
    const { firstDifference: _, ...old } = centre;
    assert.not.match(writePoints([pointOf(old, reference)]), "differs_");
    throwsMessage(() => pointOf({ ...centre, firstDifference: [[1, 2]] }, reference), "firstDifference");
  });
});
