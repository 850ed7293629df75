// Which rollouts of a step the updates learn from: dropped groups, redraws, and answers that were cut off.
import { equal, is, ok } from "uvu/assert";
import { EpisodeList, type Rollout } from "../../rl/index.ts";
import type { RolloutRequest } from "../../rl/rollout.ts";
import { type BatchSettings, drawGroups, stepBatch } from "../../rl/step-batch.ts";
import { normalisations, tokenWeights } from "../../rl/token-weights.ts";
import { describe } from "../support.ts";
import { rollout } from "./measured-step.ts";

const usual: BatchSettings = {
  promptsPerStep: 3,
  rolloutsPerPrompt: 2,
  maxNewTokens: 16,
  advantage: "dr_grpo",
  advantageEpsilon: 1e-8,
  normalisation: "batch-token",
  equalGroups: "keep",
  maxRedraws: 0,
  maskTruncated: false,
};

/** Nine prompts, then the same again. */
const episodes = new EpisodeList(
  {
    name: "nine",
    episodes: () =>
      Array.from({ length: 9 }, (_, index) => ({
        ...{ index, prompt: `prompt ${index}`, turns: 1 },
        nextUserTurn: () => null,
        score: () => ({ reward: 0, parts: { turnScores: [0], formatFailed: [false] } }),
      })),
  },
  1,
);

/** A sampler whose rollouts of the named prompts have equal rewards; it keeps what it was asked for. */
function sampler(isEqual: (prompt: number) => boolean): {
  asked: RolloutRequest[][];
  rollOutAll: (requests: readonly RolloutRequest[]) => Promise<Rollout[]>;
} {
  const asked: RolloutRequest[][] = [];
  return {
    asked,
    rollOutAll: async (requests) => {
      asked.push([...requests]);
      return requests.map(({ episode, rollout: number }) =>
        rollout(isEqual(episode.index) ? 0.5 : number / 2, { episode: episode.index, rollout: number }),
      );
    },
  };
}

const prompts = (asked: readonly (readonly RolloutRequest[])[]): number[][] =>
  asked.map((requests) => requests.filter(({ rollout: number }) => number === 0).map(({ episode }) => episode.index));

describe("rl/step-batch", (test) => {
  test("without redraws one round draws the step's prompts, whatever their rewards", async () => {
    for (const equalGroups of ["keep", "drop"] as const) {
      const { asked, rollOutAll } = sampler(() => true);
      const groups = await drawGroups(episodes, 3, { ...usual, equalGroups }, rollOutAll);
      equal(prompts(asked), [[3, 4, 5]]);
      is(groups.length, 3);
    }
  });

  test("redraws take the next prompts, as many as are missing, until the batch is full or the rounds are used up", async () => {
    const full = sampler((prompt) => [0, 2, 3].includes(prompt));
    const settings: BatchSettings = { ...usual, equalGroups: "drop", maxRedraws: 5 };
    const groups = await drawGroups(episodes, 0, settings, full.rollOutAll);
    equal(prompts(full.asked), [[0, 1, 2], [3, 4], [5]]);
    is(stepBatch(groups, settings).dropped, 3);
    is(stepBatch(groups, settings).examples.length, 6);
    const limited = sampler((prompt) => prompt !== 4);
    const some = await drawGroups(episodes, 0, { ...settings, maxRedraws: 2 }, limited.rollOutAll);
    equal(prompts(limited.asked), [
      [0, 1, 2],
      [3, 4, 5],
      [6, 7],
    ]);
    equal(
      stepBatch(some, settings).examples.map(({ episode }) => episode),
      [4, 4],
    );
    equal(stepBatch(some, settings).used.map(Number), [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]);
  });

  test("a prompt that a redraw meets again gets other noise", async () => {
    const { asked, rollOutAll } = sampler(() => true);
    await drawGroups(episodes, 0, { ...usual, equalGroups: "drop", maxRedraws: 5 }, rollOutAll);
    const all = asked.flat();
    is(all.length, 6 * 3 * 2);
    is(
      new Set(all.map(({ episode, rollout: number, copy }) => `${episode.prompt} ${number} ${copy}`)).size,
      all.length,
    );
    ok(new Set(all.map(({ episode }) => episode.prompt)).size < 18);
  });

  const groups = [
    [rollout(1, { tokens: 4 }), rollout(0, { tokens: 6 })],
    [rollout(0.5, { tokens: 5 }), rollout(0.5, { tokens: 7 })],
    [rollout(0, { tokens: 3, isTruncated: true }), rollout(0.5, { tokens: 1 })],
  ];

  test("dropped groups count nowhere", () => {
    for (const normalisation of normalisations) {
      const batch = stepBatch(groups, { ...usual, normalisation, equalGroups: "drop" });
      equal(batch.used, [true, true, false, false, true, true]);
      equal(batch.advantages, [0.5, -0.5, 0, 0, -0.25, 0.25]);
      const sizes = [4, 6, 3, 1].map((tokens, i) => ({ tokens, group: Math.floor(i / 2) }));
      equal(
        batch.examples.map(({ tokenWeight }) => tokenWeight),
        [...tokenWeights(normalisation, sizes, 16)],
      );
    }
    // The deviation of the batch is that of what is learnt from, n − 1 of four rewards.
    const { advantages } = stepBatch(groups, { ...usual, advantage: "batch", equalGroups: "drop" });
    const deviation = Math.sqrt((0.625 ** 2 + 0.375 ** 2 + 0.375 ** 2 + 0.125 ** 2) / 3) + 1e-8;
    ok(Math.abs(advantages[0] - 0.5 / deviation) < 1e-12);
  });

  test("rollouts that were cut off lose their tokens, and keep their place among the rollouts and in their group's mean", () => {
    for (const normalisation of normalisations) {
      const batch = stepBatch(groups, { ...usual, normalisation, maskTruncated: true });
      equal(batch.used, [true, true, true, true, false, true]);
      equal(batch.advantages, [0.5, -0.5, 0, 0, -0.25, 0.25]);
      const sizes = [4, 6, 5, 7, 0, 1].map((tokens, i) => ({ tokens, group: Math.floor(i / 2) }));
      equal(
        batch.examples.map(({ tokenWeight }) => tokenWeight),
        [...tokenWeights(normalisation, sizes, 16)].filter((_, i) => i !== 4),
      );
    }
  });

  test("a batch of which nothing is left", () => {
    const batch = stepBatch([groups[1]], { ...usual, equalGroups: "drop" });
    equal([batch.examples.length, batch.dropped], [0, 1]);
    equal(batch.advantages, [0, 0]);
  });

  test("a rollout whose environment failed counts nowhere: its group is the others", () => {
    const failed = rollout(0, { failure: "the scorer ended" });
    const [a, b, c, d] = [rollout(1), rollout(0), rollout(0.25), rollout(0.75)];
    for (const advantage of ["grpo", "dr_grpo", "leave_one_out", "batch"] as const)
      for (const normalisation of normalisations) {
        const settings = { ...usual, rolloutsPerPrompt: 3, advantage, normalisation };
        const drawn = stepBatch(
          [
            [a, failed, b],
            [failed, c, d],
          ],
          settings,
        );
        const without = stepBatch(
          [
            [a, b],
            [c, d],
          ],
          { ...settings, rolloutsPerPrompt: 2 },
        );
        equal(drawn.examples, without.examples, `${advantage}, ${normalisation}`);
        equal(drawn.used, [true, false, true, false, true, true]);
        equal([drawn.advantages[1], drawn.advantages[3]], [0, 0]);
      }
    const alone = stepBatch([[a, failed, failed]], { ...usual, rolloutsPerPrompt: 3 });
    equal(alone.advantages.map(Math.abs), [0, 0, 0], "nothing to compare with");
    is(stepBatch([[a, failed]], { ...usual, equalGroups: "drop" }).dropped, 1);
    is(stepBatch([[failed, failed]], { ...usual, equalGroups: "keep" }).examples.length, 0);
  });
});
