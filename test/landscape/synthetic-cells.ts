// Records of a sweep whose per-prompt maps are given.
import type { CellRecord, ReferenceSet } from "../../landscape/files/cells.ts";
import { type Grid, workOrder } from "../../landscape/grid.ts";
import type { PromptMaps } from "../../landscape/statistics/prompt-maps.ts";

const TOKENS = 20;

/**
 * Records, in the order of work, whose per-prompt maps are these: one rollout per prompt, two reference completions.
 * @param surrogate  per token, of completion g of prompt p at entry `at` of the maps; the reward unless given
 */
export function records(
  maps: PromptMaps,
  on: Grid,
  surrogate = (p: number, _g: number, at: number): number => maps.reward[p][at],
): { cells: CellRecord[]; reference: ReferenceSet } {
  const cells = workOrder(on).map(({ i, j, alpha, beta }): CellRecord => {
    const at = i * on.points + j;
    const rollouts = (value: number) => maps.reward.map(() => [value]);
    const scored = (value: (p: number, g: number) => number) => maps.kl.map((_, p) => [value(p, 0), value(p, 1)]);
    return {
      ...{ i, j, alpha, beta },
      rollouts: {
        reward: maps.reward.map((map) => [map[at]]),
        tokens: rollouts(TOKENS),
        entropy: rollouts(3),
        truncated: rollouts(0),
        formatFailed: rollouts(0),
      },
      reference: {
        kl: scored((p) => TOKENS * maps.kl[p][at]),
        k1: scored(() => 0),
        k3: scored(() => 0),
        objective: scored((p, g) => TOKENS * surrogate(p, g, at)),
        entropy: scored(() => 3),
      },
    };
  });
  const reference: ReferenceSet = {
    tokens: maps.kl.map(() => [TOKENS, TOKENS]),
    reward: maps.kl.map(() => [0, 1]),
    advantage: maps.kl.map((_, p) => (p % 4 === 0 ? [0, 0] : [-1, 1])),
  };
  return { cells, reference };
}
