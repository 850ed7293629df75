import * as assert from "uvu/assert";
import type { CellRecord, ReferenceSet } from "../../../../landscape/files/cells.ts";
import { gridCells } from "../../../../landscape/grid.ts";
import { cellSums, promptMaps } from "../../../../landscape/statistics/cell-sums.ts";
import { KL_BOUNDS, type KlBin, klBins } from "../../../../landscape/statistics/claims/kl-bins.ts";
import { passAtK } from "../../../../rl/statistics/pass-at-k.ts";
import { assertClose, describe } from "../../../support.ts";
import { records } from "../../synthetic-cells.ts";

const grid = { points: 5, radius: 0.05 };
const PROMPTS = 10;

const binsOf = (cells: readonly CellRecord[], reference: ReferenceSet): KlBin[] =>
  klBins(
    cells.map((cell) => cellSums(cell, reference)),
    promptMaps(cells, reference, grid),
  );

/** KL 0.021 per squared grid step; far cells solve prompt p with (p mod 5) of 4 rollouts, the centre one fewer. */
function world(prompts = PROMPTS) {
  const cells = gridCells(grid);
  const kl = Array.from({ length: prompts }, () => Float64Array.from(cells, (cell) => 0.021 * cell.squaredSteps));
  const { cells: plain, reference } = records({ cells, reward: kl, kl, objective: [] }, grid);
  const successes = (isCentre: boolean, p: number): number => Math.max(0, (p % 5) - (isCentre ? 1 : 0));
  const measured = plain.map((cell): CellRecord => {
    const isCentre = cell.i === 2 && cell.j === 2;
    const of = (value: (p: number, g: number) => number) =>
      Array.from({ length: prompts }, (_, p) => [0, 1, 2, 3].map((g) => value(p, g)));
    return {
      ...cell,
      rollouts: {
        reward: of((p, g) => (g < successes(isCentre, p) ? 1 : 0.25)),
        tokens: of((p) => 10 + p),
        entropy: of((p) => (isCentre ? 1 : 2) * (10 + p)),
        truncated: of(() => 0),
      },
    };
  });
  return { measured, reference, bins: binsOf(measured, reference), successes };
}

const quantity = ({ quantities }: KlBin, name: string) => quantities.find((of) => of.name === name);

describe("landscape/statistics/claims/kl-bins", (test) => {
  const { bins, successes } = world();
  const rest = bins.slice(1);

  test("the checkpoint, then every other cell once, between its bounds", () => {
    assert.equal([bins[0].from, bins[0].to, bins[0].cells, bins[0].kl], [null, null, 1, 0]);
    assert.is(
      rest.reduce((sum, { cells }) => sum + cells, 0),
      24,
    );
    // Squared steps 1, 2, 4, 5, 8: KL 0.021, 0.042, 0.084, 0.105, 0.168, of 4, 4, 4, 8 and 4 cells.
    assert.equal(
      rest.map(({ from, to, cells }) => [from, to, cells]),
      [
        [0.01, 0.03, 4],
        [0.03, 0.1, 8],
        [0.1, 0.3, 12],
      ],
    );
    for (const { from, to, kl } of rest) assert.ok((from ?? 1) <= kl && kl < (to ?? 9));
    assert.ok(KL_BOUNDS.every((bound, k) => k === 0 || bound > KL_BOUNDS[k - 1]));
  });

  test("pass@k and Cover@τ are those of the rewards, and changes are paired with the checkpoint's", () => {
    const prompts = Array.from({ length: PROMPTS }, (_, p) => p);
    const mean = (of: (p: number) => number): number => prompts.reduce((sum, p) => sum + of(p), 0) / PROMPTS;
    const rewards = (isCentre: boolean, p: number): number[] =>
      [0, 1, 2, 3].map((g) => (g < successes(isCentre, p) ? 1 : 0.25));
    for (const k of [1, 4]) {
      const pass = (isCentre: boolean): number => mean((p) => passAtK(rewards(isCentre, p), 1, k) ?? 9);
      const name = `pass_at_${k}_reward_1`;
      assertClose(`checkpoint, ${name}`, [quantity(bins[0], name)?.here.value ?? 9], [pass(true)], { absolute: 1e-12 });
      assert.is(quantity(bins[0], name)?.change, null);
      for (const bin of rest) {
        assertClose(name, [quantity(bin, name)?.here.value ?? 9], [pass(false)], { absolute: 1e-12 });
        const change = quantity(bin, name)?.change;
        assertClose(`change of ${name}`, [change?.value ?? 9], [pass(false) - pass(true)], { absolute: 1e-12 });
      }
    }
    const covered = (isCentre: boolean): number => mean((p) => (successes(isCentre, p) >= 2 ? 1 : 0));
    for (const bin of rest)
      assertClose("cover", [quantity(bin, "cover_at_0.5_reward_1")?.here.value ?? 9], [covered(false)], {
        absolute: 1e-12,
      });
    // The easiest prompts gain as much as the others, so the paired interval is narrower than that of the level.
    const { here, change } = quantity(rest[0], "pass_at_1_reward_1") ?? {};
    assert.ok((change?.standardError ?? 9) < (here?.standardError ?? 0) / 2);
    assert.ok((change?.low ?? -1) > 0);
  });

  test("entropy is pooled over tokens; its change has no spread here, and so no interval", () => {
    assertClose("checkpoint", [quantity(bins[0], "entropy")?.here.value ?? 9], [1], { absolute: 1e-12 });
    const change = quantity(rest[0], "entropy")?.change;
    assertClose("change", [change?.value ?? 9], [1], { absolute: 1e-12 });
    assert.ok(change?.low === null || Math.abs((change?.low ?? 9) - 1) < 1e-9);
  });

  test("without the centre no changes; seven prompts no intervals", () => {
    const { measured: few, reference } = world(7);
    const rim = few.slice(1);
    const found = binsOf(rim, reference);
    assert.ok(found.length > 0 && found.every(({ from }) => from !== null));
    for (const { quantities } of found)
      for (const { here, change } of quantities) assert.equal([here.low, change], [null, null]);
  });
});
