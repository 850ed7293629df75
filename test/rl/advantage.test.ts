import { equal } from "uvu/assert";
import { batchAdvantages, groupAdvantageKinds, groupAdvantages, standardDeviation } from "../../rl/advantage.ts";
import { assertClose, assertKnown, describe, readFixture, throwsMessage } from "../support.ts";

interface Fixture {
  advantages: { name: string; rewards: number[]; grpo: number[]; grpo_sample: number[]; dr_grpo: number[] }[];
}

describe("rl/advantage", (test) => {
  const { advantages } = readFixture<Fixture>("grpo.json");
  for (const kind of ["grpo", "grpo_sample", "dr_grpo"] as const)
    test(`${kind} of ${advantages.length} known groups`, () => {
      for (const group of advantages)
        assertKnown(
          "grpo.json",
          `advantages: ${kind}`,
          "host",
          groupAdvantages(kind, group.rewards),
          group[kind],
          { relative: 1e-6, absolute: 1e-7 },
          group.name,
        );
    });
  test("leave_one_out of the known groups is the reward minus the mean of the others", () => {
    for (const { name, rewards } of advantages) {
      const expected = rewards.map((reward, i) => {
        const others = rewards.filter((_, j) => j !== i);
        return others.length === 0 ? 0 : reward - others.reduce((sum, r) => sum + r, 0) / others.length;
      });
      // Either mean sums G rewards, each addition off by at most 2⁻⁵³ of the sum so far, G·max|r|; two such means.
      const largest = Math.max(...rewards.map(Math.abs));
      const absolute = 2 * rewards.length * 2 ** -53 * largest;
      assertClose(name, groupAdvantages("leave_one_out", rewards), expected, { absolute, relative: 2 ** -51 });
    }
  });
  test("epsilon is added to the deviation of grpo, grpo_sample and batch, and to no other", () => {
    // Rewards 0 and 1: mean 1/2, population deviation 1/2, sample deviation √½.
    const of = (kind: (typeof groupAdvantageKinds)[number]): number[] => [...groupAdvantages(kind, [0, 1], 0.5)];
    equal(of("grpo"), [-0.5, 0.5]);
    assertClose(
      "grpo_sample",
      of("grpo_sample"),
      [-0.5, 0.5].map((r) => r / (Math.SQRT1_2 + 0.5)),
      { relative: 1e-15 },
    );
    equal(of("dr_grpo"), [-0.5, 0.5]);
    equal(of("leave_one_out"), [-1, 1]);
    const batch = batchAdvantages("batch", [0, 1], 2, 0.5);
    assertClose(
      "batch",
      batch,
      [-0.5, 0.5].map((r) => r / (Math.SQRT1_2 + 0.5)),
      { relative: 1e-15 },
    );
    equal([...batchAdvantages("grpo", [0, 1], 2, 0.5)], [-0.5, 0.5]);
    equal([...groupAdvantages("grpo", [0.7, 0.7, 0.7], 0.5)], [0, 0, 0]);
  });
  for (const kind of groupAdvantageKinds)
    test(`${kind}: exactly 0 where rewards are equal`, () => {
      // The mean of five times 0.7 is not 0.7 in floating point: the residue must not be divided by eps.
      for (const rewards of [[0.7, 0.7, 0.7, 0.7, 0.7], [0.1, 0.1, 0.1], [0.3], [0, -0]])
        equal(
          Array.from(groupAdvantages(kind, rewards), Math.abs),
          rewards.map(() => 0),
        );
    });
  test("a batch is its groups, one after the other", () => {
    const rewards = [0, 1, 0.5, 0.5, 0.2, 0.9];
    for (const kind of groupAdvantageKinds)
      equal(
        [...batchAdvantages(kind, rewards, 2)],
        [0, 2, 4].flatMap((start) => [...groupAdvantages(kind, rewards.slice(start, start + 2))]),
      );
  });
  test("batch: TRL's scale_rewards = batch, but for its larger epsilon", () => {
    const { advantages } = readFixture<{
      advantages: { name: string; groupSize: number; rewards: number[]; trlBatch: number[] }[];
    }>("losses.json");
    for (const { name, groupSize, rewards, trlBatch } of advantages) {
      const deviation = standardDeviation(rewards, "sample");
      const expected = trlBatch.map((advantage) => (advantage * (deviation + 1e-4)) / (deviation + 1e-8));
      const tolerance = { relative: 1e-9, absolute: 1e-7 };
      const found = batchAdvantages("batch", rewards, groupSize);
      assertKnown("losses.json", "advantages: batch", "host", found, expected, tolerance, name);
    }
    // Group means are subtracted, the whole batch divides; equal groups are exactly 0.
    equal([...batchAdvantages("batch", [0.1, 0.1, 0.1, 0.7, 0.7, 0.7], 3)], [0, 0, 0, 0, 0, 0]);
    equal([...batchAdvantages("batch", [0.4, 0.4], 2)], [0, 0]);
  });
  test("refuses part of a group, and rewards that are not finite", async () => {
    await throwsMessage(() => batchAdvantages("grpo", [1, 2, 3], 2), "groups of 2", "3 rewards");
    await throwsMessage(() => groupAdvantages("grpo", [0, Number.NaN]), "got NaN at 1 of 2");
    await throwsMessage(() => groupAdvantages("dr_grpo", [Number.POSITIVE_INFINITY]), "got Infinity at 0 of 1");
  });
});
