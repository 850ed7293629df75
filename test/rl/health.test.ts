// Warnings about a training: each is said in the step that first deserves it, and once.
import { equal, is, match, not } from "uvu/assert";
import { defaultSettings } from "../../engine/host/index.ts";
import { Health, type HealthStep } from "../../rl/health.ts";
import { runSettings } from "../../rl/run-settings.ts";
import { ratioNote } from "../../rl/training-notes.ts";
import { describe } from "../support.ts";

const { train } = defaultSettings(runSettings);
const fine = { entropy: 0.5, "completions/truncated_share": 0.1, "clip_ratio/region_mean": 0, "mismatch_kl/mean": 0 };

function stepsOf(...changes: readonly Partial<HealthStep & { of: Record<string, number> }>[]): HealthStep[] {
  return changes.map(({ of, ...over }, i) => ({
    ...{ step: i + 1, hasSignal: true, groups: train.promptsPerStep },
    ...over,
    metrics: { ...fine, ...of },
  }));
}

/** What is said at each step. */
function said(
  steps: readonly HealthStep[],
  settings = train,
  past: readonly Record<string, number>[] = [],
): string[][] {
  const health = new Health(settings, past);
  return steps.map((step) => health.check(step));
}

function expectOnce(lines: readonly (readonly string[])[], at: number, ...texts: (string | RegExp)[]): void {
  equal(
    lines.map(({ length }) => length),
    lines.map((_, i) => (i === at ? 1 : 0)),
  );
  match(lines[at][0], `Step ${at + 1}: `);
  match(lines[at][0], "This is said once");
  for (const text of texts) match(lines[at][0], text);
}

describe("rl/health", (test) => {
  test("a sound run says nothing, and ends with the admission figure", () => {
    const health = new Health(train, []);
    for (const step of stepsOf({}, { of: { "mismatch_kl/mean": 0.002 } }, {})) equal(health.check(step), []);
    is(
      health.admission(),
      "Sampler and scorer: mismatch KL 2.0e-3 nats per token at most (prime-rl admits less than 0.015).",
    );
    match(new Health(train, []).admission(), "mismatch KL 0 nats");
    const past = [{ step: 0 }, { "mismatch_kl/mean": 0.13 }, { "mismatch_kl/mean": 0.01 }];
    match(new Health(train, past).admission(), "mismatch KL 1.3e-1 nats", "of the steps before a resume too");
  });

  test("all advantages zero: equal rewards, or only rollouts that were cut off", () => {
    const none = { hasSignal: false };
    expectOnce(said(stepsOf({}, { ...none, of: { frac_reward_zero_std: 1 } }, none)), 1, "all rewards are equal");
    expectOnce(said(stepsOf({ ...none, of: { frac_reward_zero_std: 0.5 } }, none)), 0, "an answer that was cut off");
  });

  test("missing groups, only if redraws were asked for", () => {
    const settings = { ...train, maxRedraws: 2 };
    expectOnce(
      said(stepsOf({}, { groups: 3 }, { groups: 1 }), settings),
      1,
      "after 2 rounds of redraws, 3 of 32 groups",
    );
    equal(said(stepsOf({ groups: 3 })), [[]]);
  });

  test("entropy: a tenth of the first step's, or almost nothing from the start; a run that continues knows its first step", () => {
    const collapsed = { of: { entropy: 0.049 } };
    expectOnce(
      said(stepsOf({}, { of: { entropy: 0.051 } }, collapsed, collapsed)),
      2,
      "0.049 nats per token; in the first step 0.50",
    );
    expectOnce(
      said(stepsOf({ of: { entropy: 0.009 } }, collapsed)),
      0,
      "almost certain of every token",
      "an entropy bonus",
    );
    const withBonus = { ...train, entropyCoefficient: 0.01 };
    expectOnce(said(stepsOf({ of: { entropy: 0.009 } }), withBonus), 0, "a larger entropy bonus");
    expectOnce(
      said(stepsOf(collapsed, collapsed), train, [{ step: 0 }, { entropy: 0.5 }, { entropy: 0.4 }]),
      0,
      "the first step 0.50",
    );
    equal(said(stepsOf(collapsed)), [[]]);
    const [none, high, low] = stepsOf({}, {}, collapsed);
    const { entropy: _, ...withoutTokens } = none.metrics;
    expectOnce(said([{ ...none, metrics: withoutTokens }, high, low]), 2, "the first step 0.50");
  });

  test("truncation, clipping, and a sampler that differs from the scorer", () => {
    const of = (key: string, value: number) => ({ of: { [key]: value } });
    const truncated = "completions/truncated_share";
    expectOnce(
      said(stepsOf(of(truncated, 0.49), of(truncated, 0.5), of(truncated, 1))),
      1,
      "50% of the rollouts",
      "cut off at 128 tokens",
    );
    const clipped = "clip_ratio/region_mean";
    expectOnce(
      said(stepsOf(of(clipped, 0.29), of(clipped, 0.31), of(clipped, 0.9)), { ...train, updatesPerBatch: 2 }),
      1,
      "31% of the tokens are clipped",
      "A lower --train.learningRate or fewer --train.updatesPerBatch keeps them close.",
    );
    expectOnce(
      said(stepsOf(of(clipped, 0.31)), { ...train, updatesPerBatch: 2, importanceLevel: "sequence" }),
      0,
      "31% of the rollouts are clipped",
    );
    const [[masked]] = said(stepsOf(of(truncated, 0.5)), { ...train, maskTruncated: true });
    match(masked, "They are left out of the loss, so the step learns from the others alone.");
    match(masked, /Longer answers: --train\.maxNewTokens\.$/, "what is set already is no advice");
    const drift = "mismatch_kl/mean";
    expectOnce(
      said(stepsOf(of(drift, 0.0149), of(drift, 0.016), of(drift, 1))),
      1,
      "mismatch KL 0.016",
      "prime-rl admits less than 0.015",
      "--train.precision f32",
    );
  });

  test("at asyncLevel 1 an update lies between sampler and scorer: other causes, other remedies", () => {
    const behind = { ...train, asyncLevel: 1 };
    const drifted = said(stepsOf({ of: { "mismatch_kl/mean": 0.016 } }), behind);
    expectOnce(drifted, 0, "one update changed the probabilities", "--train.asyncLevel 0");
    not.match(drifted[0][0], "--train.precision");
    expectOnce(
      said(stepsOf({ of: { "clip_ratio/region_mean": 0.4 } }), behind),
      0,
      "A lower --train.learningRate or --train.asyncLevel 0 keeps them close.",
    );
    match(new Health(behind, []).admission(), /Sampler and scorer \(one update apart\): mismatch KL 0 nats/);
    const twice = { ...behind, updatesPerBatch: 2 };
    match(new Health(twice, []).admission(), /Sampler and scorer \(the 2 updates of a step apart\): /);
    expectOnce(said(stepsOf({ of: { "mismatch_kl/mean": 0.016 } }), twice), 0, "the 2 updates of a step changed the");
    match(ratioNote(twice), "the weights of the step before, 2 updates per batch: from the second update on");
  });

  test("several at once are all said", () => {
    const [lines] = said(
      stepsOf({ hasSignal: false, of: { frac_reward_zero_std: 1, "completions/truncated_share": 1 } }),
    );
    is(lines.length, 2);
  });
});
