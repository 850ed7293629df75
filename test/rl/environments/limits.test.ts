// What an environment may cost: calls under a time limit, scorers at a time, and the share that may fail.
import { equal, is, match, ok } from "uvu/assert";
import type { Episode } from "../../../rl/environments/environment.ts";
import { expectFewFailures, Judge, usualLimits, within } from "../../../rl/environments/limits.ts";
import { describe, throwsMessage } from "../../support.ts";

const episode = (score: Episode["score"]): Episode => ({ index: 0, prompt: "?", score });
const limits = { ...usualLimits, timeLimit: 0.05 };

describe("rl/environments/limits", (test) => {
  test("a call returns its value or throws its own error", async () => {
    is(
      within(1, "score", () => within(1, "inner", () => 3) + 1),
      4,
    );
    await throwsMessage(() => within(1, "score", () => JSON.parse("{")), "JSON");
  });

  test("an endless loop, and a regular expression that backtracks without end, are stopped", async () => {
    const endless = () => {
      for (;;);
    };
    const backtracking = () => /^(a+)+$/.test(`${"a".repeat(40)}b`);
    for (const body of [endless, backtracking])
      await throwsMessage(() => within(0.05, "score", body), "score: not done after 0.05 s (environment.timeLimit)");
    is(
      within(1, "score", () => 1),
      1,
      "the next call is none the worse",
    );
  });

  test("a function that surely returns is not stopped: it fails when it has returned too late", async () => {
    is(
      within(1, "score", () => 2, true),
      2,
    );
    let returned = false;
    const late = () => {
      const end = performance.now() + 30;
      while (performance.now() < end);
      returned = true;
    };
    await throwsMessage(
      () => within(0.01, "score", late, true),
      "score: not done after 0.01 s (environment.timeLimit)",
    );
    ok(returned);
    const score = () => {
      late();
      return 1;
    };
    const slow: Episode = { ...episode(score), isBounded: true };
    returned = false;
    const judged = await new Judge({ ...usualLimits, timeLimit: 0.01 }).judge(slow, []);
    match(judged.failure ?? "", "score: not done after 0.01 s");
    ok(returned, "the judge does not stop it either");
  });

  test("a synchronous scorer is judged at once, an asynchronous one later; both may fail", async () => {
    const judge = new Judge(usualLimits);
    equal(
      judge.judge(
        episode(() => 0.5),
        [],
      ),
      { verdict: { reward: 0.5 }, failure: null },
    );
    const thrown = judge.judge(
      episode(() => {
        throw new Error("no answer key");
      }),
      [],
    );
    equal(thrown, { verdict: null, failure: "no answer key" });
    equal(
      await judge.judge(
        episode(async ([answer]) => answer.length),
        ["four"],
      ),
      { verdict: { reward: 4 }, failure: null },
    );
    equal(
      await judge.judge(
        episode(() => Promise.reject(new Error("server down"))),
        [],
      ),
      {
        ...{ verdict: null, failure: "server down" },
      },
    );
    match(
      (
        await judge.judge(
          episode(async () => Number.NaN),
          [],
        )
      ).failure ?? "",
      "finite reward, got NaN",
    );
  });

  test("an asynchronous scorer that hangs fails at the limit, and its signal tells it", async () => {
    let told: unknown = null;
    const hanging = episode((_, signal) => {
      signal?.addEventListener("abort", () => {
        told = signal.reason;
      });
      return new Promise(() => {});
    });
    // Long enough for a busy machine to let the call itself return.
    const { failure } = await new Judge({ ...limits, timeLimit: 0.5 }).judge(hanging, []);
    is(failure, "score: not done after 0.5 s (environment.timeLimit)");
    ok(told instanceof Error);
  });

  test("a few conversations are scored at a time, and waiting costs none of their limit", async () => {
    let [active, most] = [0, 0];
    const slow = episode(async () => {
      most = Math.max(most, ++active);
      await new Promise((done) => setTimeout(done, 35));
      active--;
      return 1;
    });
    const judge = new Judge({ ...limits, timeLimit: 1, parallelScores: 2 });
    const judged = await Promise.all(Array.from({ length: 64 }, () => judge.judge(slow, [])));
    is(most, 2);
    equal(new Set(judged.map(({ failure }) => failure)), new Set([null]));
  });

  test("more failures than the permitted share stop the run with the last reason; all of them always do", async () => {
    const failing = (count: number, maxFailedShare: number) =>
      expectFewFailures(
        Array.from({ length: count }, (_, i) => `reason ${i + 1}`),
        8,
        { maxFailedShare },
      );
    for (const [count, share] of [
      [0, 0],
      [4, 0.5],
      [7, 1],
    ])
      failing(count, share);
    await throwsMessage(() => failing(5, 0.5), "5 of 8 rollouts failed", "environment.maxFailedShare", "reason 5");
    await throwsMessage(() => failing(1, 0), "1 of 8", "reason 1");
    await throwsMessage(() => failing(8, 1), "8 of 8", "reason 8");
  });
});
