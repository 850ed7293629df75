import * as assert from "uvu/assert";
import { normalisations, ratioStatistics, tokenWeights } from "../../rl/token-weights.ts";
import { assertClose, describe, throwsMessage } from "../support.ts";

describe("rl/token-weights", (test) => {
  test("rollouts and groups without tokens weigh nothing and are counted", async () => {
    // Group 7 has 3 + 1 tokens, group 9 none.
    const rollouts = [
      { tokens: 3, group: 7 },
      { tokens: 1, group: 7 },
      { tokens: 0, group: 9 },
      { tokens: 0, group: 9 },
    ];
    const expected = {
      "group-token": [1 / 8, 1 / 8, 0, 0],
      "batch-token": [1 / 4, 1 / 4, 0, 0],
      sequence: [1 / 12, 1 / 4, 0, 0],
      "rollout-sum": [1 / 4, 1 / 4, 0, 0],
      constant: [1 / 40, 1 / 40, 0, 0],
    };
    for (const kind of normalisations)
      assertClose(kind, tokenWeights(kind, rollouts, 10), expected[kind], { relative: 1e-15 });
    await throwsMessage(() => tokenWeights("constant", rollouts), "maxNewTokens");
  });
  test("a batch without tokens weighs nothing", () => {
    for (const kind of normalisations) assert.equal([...tokenWeights(kind, [{ tokens: 0, group: 0 }], 10)], [0]);
    for (const kind of normalisations) assert.equal([...tokenWeights(kind, [], 10)], []);
  });
  test("shares of ratios go by each rollout's own advantage", async () => {
    const bounds = { clipLow: 0.2, clipHigh: 0.2, ratioLow: 0.125, ratioHigh: 8, ratioCap: 1.2 };
    const rollouts = [
      { tokens: 2, advantage: 1 },
      { tokens: 0, advantage: 5 },
      { tokens: 3, advantage: -1 },
      { tokens: 3, advantage: 0 },
    ];
    assert.equal(ratioStatistics([0.5, 1.5, 0.5, 1.5, 1, 0.1, 9, 0.4], rollouts, bounds), {
      clippedLow: 1 / 8,
      clippedHigh: 1 / 8,
      outside: 7 / 8,
      droppedLow: 1 / 8,
      droppedHigh: 1 / 8,
      capped: 1 / 8,
      clippedLowMin: 0,
      clippedHighMax: 1 / 2,
      ratioMean: 14.5 / 8,
      ratioMin: 0.1,
      ratioMax: 9,
    });
    assert.equal(ratioStatistics([], [{ tokens: 0, advantage: 1 }], bounds), {
      clippedLow: 0,
      clippedHigh: 0,
      outside: 0,
      droppedLow: 0,
      droppedHigh: 0,
      capped: 0,
      clippedLowMin: 0,
      clippedHighMax: 0,
      ratioMean: 0,
      ratioMin: 0,
      ratioMax: 0,
    });
    await throwsMessage(() => ratioStatistics([1], rollouts, bounds), "one ratio per token, 8, got 1");
  });
});
