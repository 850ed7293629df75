// Each metric by value. Those under TRL's names against TRL's own definitions (trl 1.16, trainer/grpo_trainer.py), and where
// TRL's numbers are at hand (losses.json), against these.
import * as assert from "uvu/assert";
import { standardDeviation } from "../../rl/advantage.ts";
import { summariseRollouts } from "../../rl/evaluation.ts";
import type { Rollout } from "../../rl/rollout.ts";
import { countedTokens, stepMetrics } from "../../rl/step-metrics.ts";
import { assertClose, assertKnown, describe, readFixture } from "../support.ts";
import { outcomeOf, rollout } from "./measured-step.ts";

const settings = {
  clipLow: 0.2,
  clipHigh: 0.28,
  ratioLow: 0.125,
  ratioHigh: 8,
  ratioCap: 0,
  importanceLevel: "token" as const,
  loss: "clipped" as const,
  klCoefficient: 0,
};

/** The metrics of groups of rewards, two tokens each. */
function metricsOf(groups: readonly (readonly number[])[]): Record<string, number> {
  const rollouts = groups.map((group) => group.map((reward) => rollout(reward)));
  const count = groups.flat().length;
  return stepMetrics({
    groups: rollouts,
    advantages: new Array<number>(count).fill(0),
    outcomes: [outcomeOf(2 * count)],
    learningRate: 6e-4,
    settings,
  });
}

interface Losses {
  batches: {
    name: string;
    groups: number[][];
    advantages: number[];
    rewards: number[];
    mask: number[][];
    trainerLogProbs: number[][];
    oldLogProbs: number[][];
    entropy: number[][];
  }[];
  losses: {
    batch: string;
    lossType: string;
    importanceLevel: string;
    ratioTo: string;
    clipLow: number;
    clipHigh: number;
    topEntropyQuantile: number;
    metrics: Record<string, number>;
  }[];
  advantages: {
    name: string;
    groupSize: number;
    rewards: number[];
    fractionRewardZeroDeviation: { group: number };
  }[];
}

describe("rl/step-metrics", (test) => {
  const equal = [
    [8, 0.7248477146219591],
    [3, 0.1],
    [8, 0.4096],
    [16, 0.6561],
    [5, 0.7],
    [1, 0.3],
  ] as const;
  for (const [count, reward] of equal)
    test(`${count} rewards of ${reward} have no spread at all`, () => {
      const rewards = new Array<number>(count).fill(reward);
      assert.is(standardDeviation(rewards, "population"), 0);
      assert.is(standardDeviation(rewards, "sample"), 0);
      const { reward_std, reward_group_std, frac_reward_zero_std } = metricsOf([rewards]);
      assert.equal(
        { reward_std, reward_group_std, frac_reward_zero_std },
        {
          reward_std: 0,
          reward_group_std: 0,
          frac_reward_zero_std: 1,
        },
      );
      assert.is(summariseRollouts(rewards.map((r) => rollout(r))).rewardStandardError, 0);
    });

  test("rewards: reward_std over the whole batch with n − 1 as TRL's, reward_group_std within groups", () => {
    // Python: statistics.stdev of all six; the mean of statistics.pstdev of either group.
    const metrics = metricsOf([
      [0.25, 0.5, 0.75],
      [0.1, 0.1, 0.1],
    ]);
    assertClose("reward", [metrics["reward"]], [0.3], { relative: 1e-15 });
    assertClose("reward_std", [metrics["reward_std"]], [0.27018512172212594], { relative: 1e-15 });
    assertClose("reward_group_std", [metrics["reward_group_std"]], [0.10206207261596575], { relative: 1e-15 });
    assert.is(metrics["frac_reward_zero_std"], 0.5);
  });

  test("rewards that differ by less than TRL's 1e-8 count as equal, by more they do not", () => {
    // Sample deviation of a pair: half the difference times the root of 2.
    assert.is(metricsOf([[1, 1 + 1.4e-8]])["frac_reward_zero_std"], 1);
    assert.is(metricsOf([[1, 1 + 1.5e-8]])["frac_reward_zero_std"], 0);
  });

  test("a step whose updates use no token has no metric over tokens, and says nothing of ratios", () => {
    const measured = (used: boolean) =>
      stepMetrics({
        groups: [[rollout(0), rollout(0.5)]],
        advantages: [0, 0],
        used: [used, used],
        outcomes: [outcomeOf(used ? 4 : 0, { penalty: used ? [0, 0, 0, 0] : [] })],
        learningRate: 6e-4,
        settings: { ...settings, klCoefficient: 0.1 },
      });
    const [all, none] = [measured(true), measured(false)].map((metrics) => Object.keys(metrics));
    const isOfTokens = (name: string): boolean =>
      /^(kl|entropy)$|^(clip_ratio|ratio|sampling|mismatch_kl)\//.test(name);
    assert.equal(
      none,
      all.filter((name) => !isOfTokens(name)),
    );
    assert.is(all.length - none.length, 16);
  });

  test("without a turn in the requested form there is no mean score of such turns", () => {
    assert.not.ok("completions/quality" in metricsOf([[0, 0]]));
    assert.is(metricsOf([[0, 0.5]])["completions/quality"], 0.5);
  });

  test("frac_reward_zero_std is TRL's own for known rewards", () => {
    for (const { name, groupSize, rewards, fractionRewardZeroDeviation } of readFixture<Losses>("losses.json")
      .advantages) {
      const groups = Array.from({ length: rewards.length / groupSize }, (_, g) =>
        rewards.slice(g * groupSize, (g + 1) * groupSize),
      );
      // TRL rounds what it logs to six digits.
      assertKnown(
        "losses.json",
        "frac_reward_zero_std",
        "host",
        [metricsOf(groups)["frac_reward_zero_std"]],
        [fractionRewardZeroDeviation.group],
        { absolute: 5e-7 },
        name,
      );
    }
  });

  test("clip fractions and entropy are TRL's own for known ratios", () => {
    const { batches, losses } = readFixture<Losses>("losses.json");
    const rows = losses.filter(
      ({ lossType, importanceLevel, ratioTo, topEntropyQuantile }) =>
        ["grpo", "bnpo", "dapo", "dr_grpo"].includes(lossType) &&
        importanceLevel === "token" &&
        ratioTo === "old" &&
        topEntropyQuantile === 1,
    );
    assert.ok(rows.length > 0);
    for (const { batch: name, clipLow, clipHigh, metrics: known } of rows) {
      const batch = batches.find((one) => one.name === name);
      if (batch === undefined) throw new Error(`losses.json: no batch ${name}`);
      const { mask } = batch;
      const unmasked = (rows: number[][]): number[] => rows.flatMap((row, s) => row.filter((_, t) => mask[s][t] === 1));
      const old = unmasked(batch.oldLogProbs);
      const logProbs = unmasked(batch.trainerLogProbs);
      const rollouts = mask.map((row, s) =>
        rollout(batch.rewards[s], {
          ids: row.map(() => 0),
          mask: row,
          logProbs: batch.oldLogProbs[s],
          tokens: row.reduce((sum, m) => sum + m, 0),
        }),
      );
      const metrics = stepMetrics({
        groups: batch.groups.map((group) => group.map((s) => rollouts[s])),
        advantages: batch.groups.flat().map((s) => batch.advantages[s]),
        outcomes: [
          outcomeOf(0, {
            logProbs,
            entropy: unmasked(batch.entropy),
            ratio: logProbs.map((logProb, i) => Math.exp(logProb - old[i])),
          }),
        ],
        learningRate: 6e-4,
        settings: { ...settings, clipLow, clipHigh },
      });
      const compare = (ours: string, theirs: string) =>
        assertKnown("losses.json", ours, "host", [metrics[ours]], [known[theirs]], { absolute: 2e-6 }, name);
      compare("clip_ratio/low_mean", "clipFractionLow");
      compare("clip_ratio/high_mean", "clipFractionHigh");
      compare("entropy", "entropyMean");
    }
  });

  test("what an environment does not tell has no metric; reward functions have TRL's names; failures have no reward", () => {
    const told = (rollouts: Rollout[]) =>
      stepMetrics({
        groups: [rollouts],
        ...{ advantages: rollouts.map(() => 0), outcomes: [outcomeOf(2 * rollouts.length)], learningRate: 0, settings },
      });
    const bare = told([
      rollout(1, { parts: {} }),
      rollout(0.5, { parts: {} }),
      rollout(0, { parts: {}, failure: "no" }),
    ]);
    for (const name of ["completions/format_share", "completions/quality"]) assert.not.ok(name in bare, name);
    assert.equal([bare["reward"], bare["completions/failed"]], [0.75, 1]);
    assert.is(bare["reward_std"], Math.sqrt(2 * 0.25 ** 2));
    const formless = told([
      rollout(1, { parts: { turnScores: [0.5] } }),
      rollout(1, { parts: { turnScores: [0.25] } }),
    ]);
    assert.is(formless["completions/quality"], 0.375);
    assert.not.ok("completions/format_share" in formless);
    const several = told([
      rollout(1, { parts: { rewards: { right: 1, form: 0.5 } } }),
      rollout(0, { parts: { rewards: { right: 0, form: 1 } } }),
    ]);
    assert.equal([several["rewards/right/mean"], several["rewards/form/mean"]], [0.5, 0.75]);
  });

  test("completions, the sampler's difference, and what is passed on", () => {
    const groups = [
      [
        // Two turns, the first cut off: TRL's clipped_ratio looks at the last token alone.
        rollout(0.5, {
          ids: [1, 2, 3, 4, 5, 6],
          mask: [0, 1, 1, 0, 1, 0],
          logProbs: [0, -1, -2, 0, -3, 0],
          tokens: 3,
          isTruncated: true,
          parts: { turnScores: [0.25, 0], formatFailed: [false, true] },
        }),
        rollout(0, { isTruncated: true, isLastTruncated: true, failure: "thrown" }),
      ],
    ];
    const metrics = stepMetrics({
      groups,
      advantages: [1, -1],
      outcomes: [outcomeOf(5, { logProbs: [-1, -2.5, -3, -1.25, -2], entropy: [1, 2, 3, 4, 5] })],
      learningRate: 6e-4,
      settings,
    });
    assert.equal(
      { ...metrics, reward_std: 0, reward_group_std: 0 },
      {
        reward: 0.5,
        reward_std: 0,
        reward_group_std: 0,
        frac_reward_zero_std: 1,
        "completions/mean_length": 2.5,
        "completions/min_length": 2,
        "completions/max_length": 3,
        "completions/mean_terminated_length": 3,
        "completions/min_terminated_length": 3,
        "completions/max_terminated_length": 3,
        "completions/clipped_ratio": 0.5,
        "completions/truncated_share": 1,
        "completions/format_share": 1 / 2,
        "completions/quality": 0.25,
        "completions/failed": 1,
        loss: -0.5,
        entropy: 3,
        "clip_ratio/low_mean": 0,
        "clip_ratio/low_min": 0,
        "clip_ratio/high_mean": 0,
        "clip_ratio/high_max": 0,
        "clip_ratio/region_mean": 0,
        "ratio/mean": 1,
        "ratio/min": 1,
        "ratio/max": 1,
        "sampling/sampling_logp_difference/mean": 0.15,
        "sampling/sampling_logp_difference/max": 0.5,
        "sampling/importance_sampling_ratio/min": Math.exp(-0.5),
        "sampling/importance_sampling_ratio/mean": (Math.exp(-0.5) + Math.exp(-0.25)) / 2,
        "sampling/importance_sampling_ratio/max": Math.exp(-0.25),
        "mismatch_kl/mean": (Math.expm1(-0.5) + 0.5 + Math.expm1(-0.25) + 0.25) / 5,
        grad_norm: 3,
        learning_rate: 6e-4,
      },
    );
  });

  test("of several updates the mean; kl with a KL coefficient; what the masked importance loss drops", () => {
    const groups = [[rollout(1), rollout(0)]];
    const outcomes = [
      outcomeOf(4, { logProbs: [-1, -2, -1, -2], penalty: [0, 0, 0, 0] }),
      outcomeOf(4, {
        loss: -0.25,
        gradientNorm: 5,
        logProbs: [-9, -9, -9, -9],
        entropy: [2, 2, 2, 2],
        ratio: [1.5, 9, 0.5, 0.1],
        penalty: [0.5, 0.5, 1, 0],
      }),
    ];
    const clipped = stepMetrics({
      groups,
      advantages: [1, -1],
      outcomes,
      learningRate: 6e-4,
      settings: { ...settings, klCoefficient: 0.04 },
    });
    const of = (record: Record<string, number>, names: readonly string[]) => names.map((name) => record[name]);
    assert.equal(of(clipped, ["loss", "grad_norm", "entropy", "kl"]), [-0.375, 4, 1.5, 0.25]);
    // Only what precedes the first update compares the scorer with the sampler.
    assert.is(clipped["sampling/sampling_logp_difference/max"], 0);
    assert.equal(of(clipped, ["clip_ratio/low_mean", "clip_ratio/high_mean"]), [0.25, 0.25]);
    const masked = stepMetrics({
      groups,
      advantages: [1, -1],
      outcomes,
      learningRate: 6e-4,
      settings: { ...settings, loss: "masked-importance" },
    });
    assert.equal(of(masked, ["dropped_ratio/low_mean", "dropped_ratio/high_mean"]), [0.125, 0.125]);
    assert.equal(of(masked, ["kl", "clip_ratio/low_mean"]), [undefined, undefined]);
  });

  test("num_tokens counts prompts and answers, not later user turns", () => {
    assert.is(countedTokens([{ mask: [0, 0, 1, 1, 0, 0, 0, 1], tokens: 3 }]), 5);
    assert.is(countedTokens([{ mask: [0, 0, 0], tokens: 0 }]), 3);
  });
});
