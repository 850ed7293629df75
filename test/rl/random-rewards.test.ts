// Random rewards: the coins are those of known/random_rewards.py, they take the place of the environment's reward in training
// alone, and a run says so.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { trainingRolloutsPath } from "../../rl/files/layout.ts";
import { trainingRewards } from "../../rl/random-rewards.ts";
import type { RolloutRequest } from "../../rl/rollout.ts";
import { expectDone, small, start } from "../landscape/tiny-study.ts";
import { describe } from "../support.ts";
import { readKnown } from "./known/read.ts";
import { rollout } from "./measured-step.ts";

interface Known {
  readonly seed: number;
  readonly step: number;
  readonly prompt: string;
  readonly copy: number;
  readonly member: number;
  readonly probability: number;
  readonly coins: readonly number[];
}

const requestsOf = (prompt: string, copy: number, count: number): RolloutRequest[] =>
  Array.from({ length: count }, (_, number) => ({
    episode: { index: 0, prompt, score: () => 0 },
    rollout: number,
    copy,
  }));

describe("rl/random-rewards", (test) => {
  const random = { reward: "random", rewardProbability: 0.5, seed: 100 } as const;

  test("the coins are those of plain integers in Python", () => {
    for (const { seed, step, prompt, copy, member, probability, coins } of readKnown<Known[]>("random-rewards.json")) {
      const requests = requestsOf(prompt, copy, coins.length);
      const settings = { ...random, seed, rewardProbability: probability };
      const given = requests.map((_, i) => rollout(i / 32));
      const drawn = trainingRewards(settings, step, requests, given, member);
      assert.deepEqual(
        drawn.map(({ reward }) => reward),
        coins,
      );
      // A rollout's coin does not depend on the others.
      assert.equal(
        trainingRewards(settings, step, requests.slice(7, 8), given.slice(7, 8), member)[0].reward,
        coins[7],
      );
    }
  });

  test("the environment's reward is kept beside the coin; failures stay failures; ordinary rewards stay as they are", () => {
    const requests = requestsOf("prompt 0", 0, 3);
    const given = [
      rollout(0.25, { parts: { rewards: { length: 3 }, formatFailed: [false] } }),
      rollout(0, { failure: "the scorer threw" }),
      rollout(0.75, { parts: {} }),
    ];
    const [first, failed, last] = trainingRewards(random, 3, requests, given);
    assert.deepEqual(first.parts, { rewards: { length: 3, environment: 0.25 }, formatFailed: [false] });
    assert.equal(failed, given[1]);
    assert.deepEqual([last.reward, last.parts.rewards], [1, { environment: 0.75 }]);
    assert.equal(trainingRewards({ ...random, reward: "environment" }, 3, requests, given), given);
  });

  test("a run learns from coins, says so, and evaluates the environment's reward", async () => {
    const place = mkdtempSync(join(tmpdir(), "foothold-random-rewards-"));
    try {
      const out = join(place, "run");
      const flags = Object.entries({
        ...small,
        "train.steps": "2",
        "train.checkpoints": "0",
        "train.reward": "random",
      });
      const said = expectDone(
        await start([
          ...["rl/train.ts", "tiny", "--out", out],
          ...flags.flatMap(([key, value]) => (key.startsWith("landscape.") ? [] : [`--${key}`, value])),
        ]).ended,
      );
      assert.match(said, /Random rewards: a rollout's reward is 1 with probability 0\.5, else 0/);
      const lines = gunzipSync(readFileSync(trainingRolloutsPath(out, 1)))
        .toString()
        .trimEnd()
        .split("\n");
      const rollouts = lines.map((line) => JSON.parse(line));
      const messages: { role: string; content: string }[][] = rollouts.map((one) => one.messages);
      const coins = rollouts.map(
        ({ rollout: number }, i) =>
          trainingRewards(
            random,
            1,
            [
              {
                ...requestsOf(messages[i].find(({ role }) => role === "user")?.content ?? "", 0, 1)[0],
                rollout: number,
              },
            ],
            [rollout(0.5)],
          )[0].reward,
      );
      assert.deepEqual(
        rollouts.map(({ reward }) => reward),
        coins,
      );
      const [start0, step1] = readFileSync(join(out, "metrics.jsonl"), "utf8")
        .split("\n")
        .slice(0, 2)
        .map((line): Record<string, number> => JSON.parse(line));
      const own = rollouts.map(({ rewards }): number => rewards.environment);
      const mean = (of: readonly number[]): number => of.reduce((sum, one) => sum + one, 0) / of.length;
      assert.equal(step1["reward"], mean(coins));
      assert.ok(Math.abs(step1["rewards/environment/mean"] - mean(own)) < 1e-12);
      assert.ok(start0["eval/reward"] >= 0 && !("eval/rewards/environment/mean" in start0));
    } finally {
      rmSync(place, { recursive: true, force: true });
    }
  });
});
