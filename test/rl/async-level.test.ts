// train.asyncLevel 1: which weights sampled a step's rollouts, what its metrics then mean, and that a killed run continues to the
// same bytes.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { equal, is, match, ok } from "uvu/assert";
import { resolveSettings } from "../../engine/host/index.ts";
import { loadModel, score } from "../../model/index.ts";
import { answerToOtherNames } from "../../rl/other-names.ts";
import { type PendingStep, packRollouts, unpackRollouts } from "../../rl/pending-rollouts.ts";
import { runSettings } from "../../rl/run-settings.ts";
import { webgpuBackend } from "../backends.ts";
import { contents, type Ended, expectDone, expectSame, type Flags, runStudy } from "../landscape/tiny-study.ts";
import { assertClose, describe, throwsMessage } from "../support.ts";

const flags: Flags = {
  ...{ "landscape.steps": "", "train.asyncLevel": "1", "train.resumeEvery": "1", "train.checkpoints": "0,1,2,3" },
  // Steps large enough for ratios outside the clip range.
  ...{ "train.learningRate": "3e-3", "train.clipLow": "0.05", "train.clipHigh": "0.05" },
  // A step's prompts then depend on the rollouts of the steps before it.
  ...{ "train.equalGroups": "drop", "train.maxRedraws": "2" },
};

const linesOf = (bytes: Buffer): Record<string, number>[] =>
  bytes
    .toString("utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

const metricsOf = (folder: string): Record<string, number>[] => linesOf(readFileSync(join(folder, "metrics.jsonl")));

describe("rl/async-level", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-async-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // One name, so that nothing in the files differs by it.
  const folder = (name: string): string => join(place, name, "study");
  const undisturbed = folder("undisturbed");
  /** What the state after `step` holds for the next step. */
  const pendingAfter = (step: number): PendingStep =>
    unpackRollouts(readFileSync(join(undisturbed, "state", `slot-${step % 2}`, "pending.jsonl.gz")));

  test("the run says that ratios mean something, and how far sampler and scorer were apart", async () => {
    const said = expectDone(await runStudy(undisturbed, flags));
    match(
      said,
      "Rollouts come from the weights of one update before: from step 2 on, train.clipLow and train.clipHigh limit",
    );
    match(said, /Sampler and scorer \(one update apart\): mismatch KL \d/);
  });

  test("step n's rollouts come from the weights before step n − 1's update, to the bit", async () => {
    // In f32 and without an update in between, sampler and scorer have the same bits.
    const { backend } = await webgpuBackend();
    const scoredBy = async (checkpoint: number, { groups }: PendingStep): Promise<boolean> => {
      const path = join(undisturbed, "checkpoints", `step-${String(checkpoint).padStart(6, "0")}`);
      const { config, weights } = await loadModel(backend, path);
      const rollouts = groups.flat();
      const scores = await score({ backend, config, weights }, rollouts, { temperature: 1, maxTokens: 4096 });
      weights.free();
      return rollouts.every(({ logProbs, mask }, i) => {
        const sampled = logProbs.filter((_, t) => mask[t] === 1);
        return sampled.every((logProb, t) => Object.is(logProb, scores[i].logProbs[t]));
      });
    };
    for (const done of [2, 3]) {
      const pending = pendingAfter(done);
      is(pending.step, done + 1);
      ok(await scoredBy(done - 1, pending), `step ${done + 1}: not sampled by checkpoint ${done - 1}`);
      ok(!(await scoredBy(done, pending)), `step ${done + 1}: sampled by checkpoint ${done}`);
    }
    // Step 1 has no older weights than those that it updates; step 2 has the same ones.
    const [, first, second] = metricsOf(undisturbed);
    equal([first["ratio/min"], first["ratio/max"], first["mismatch_kl/mean"]], [1, 1, 0]);
    ok(second["ratio/max"] > 1 && second["mismatch_kl/mean"] > 0);
  });

  test("ratios, clip fractions and mismatch KL of recorded rollouts, in float64", async () => {
    // The rollouts of step 3 as they were sampled, their advantages as recorded, and their scores by the weights that step 3 updates.
    const rollouts = pendingAfter(2).groups.flat();
    const recorded = linesOf(gunzipSync(readFileSync(join(undisturbed, "rollouts", "step-000003.jsonl.gz"))));
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, join(undisturbed, "checkpoints", "step-000002"));
    const scores = await score({ backend, config, weights }, rollouts, { temperature: 1, maxTokens: 4096 });
    weights.free();
    const tokens = rollouts.flatMap(({ logProbs, mask }, i) =>
      logProbs
        .filter((_, t) => mask[t] === 1)
        .map((sampled, t) => ({ d: scores[i].logProbs[t] - sampled, advantage: recorded[i]["advantage"], rollout: i })),
    );
    const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
    const share = (of: readonly unknown[], holds: (token: (typeof tokens)[number]) => boolean): number =>
      tokens.filter(holds).length / of.length;
    const ratios = tokens.map(({ d }) => Math.exp(d));
    const low = share(tokens, ({ d, advantage }) => Math.exp(d) < 0.95 && advantage < 0);
    const high = share(tokens, ({ d, advantage }) => Math.exp(d) > 1.05 && advantage > 0);
    const ofRollouts = rollouts.map((_, i) =>
      Math.exp(tokens.filter(({ rollout }) => rollout === i).reduce((sum, { d }) => sum + d, 0)),
    );
    const got = metricsOf(undisturbed)[3];
    ok(low > 0 && high > 0, `nothing is clipped: ${low}, ${high}`);
    const exact = { relative: 1e-12 };
    for (const [metric, value, tolerance] of [
      ["mismatch_kl/mean", mean(tokens.map(({ d }) => Math.expm1(d) - d)), exact],
      ["sampling/sampling_logp_difference/mean", mean(tokens.map(({ d }) => Math.abs(d))), exact],
      ["sampling/importance_sampling_ratio/mean", mean(ofRollouts), exact],
      ["sampling/importance_sampling_ratio/max", Math.max(...ofRollouts), exact],
      ["clip_ratio/low_mean", low, exact],
      ["clip_ratio/high_mean", high, exact],
      ["clip_ratio/region_mean", low + high, exact],
      // exp in f32 on the device: WGSL allows 3 + 2·|x| units in the last place, and |log ratio| is below 4 here.
      ["ratio/mean", mean(ratios), { relative: 11 * 2 ** -24 }],
      ["ratio/min", Math.min(...ratios), { relative: 11 * 2 ** -24 }],
      ["ratio/max", Math.max(...ratios), { relative: 11 * 2 ** -24 }],
    ] as const)
      assertClose(metric, [got[metric]], [value], tolerance);
  });

  const moments: Readonly<Record<string, string>> = {
    "after the first rollouts, which are those of step 1": "rollout:1",
    "when two steps have rollouts and no update was made": "rollout:2",
    "after the rollouts of the step to come": "rollout:4",
    "between an update and its record": "step:3",
    "while a state is written": "write-folder:4",
  };
  test("killed at five moments, it continues to the same bytes", async () => {
    const goOn = async (moment: string, killAt: string): Promise<void> => {
      const out = folder(killAt.replace(":", "-"));
      const killed: Ended = await runStudy(out, flags, { FOOTHOLD_KILL_AT: killAt });
      if (killed.signal !== "SIGKILL") throw new Error(`not killed ${moment}: ${killed.status} ${killed.stderr}`);
      expectDone(await runStudy(out, flags));
      expectSame(contents(out), contents(undisturbed));
    };
    await Promise.all(Object.entries(moments).map(([moment, killAt]) => goOn(moment, killAt)));
  });

  test("a finished run is trained further to the bytes of a longer one", async () => {
    const out = folder("extended");
    expectDone(await runStudy(out, { ...flags, "train.steps": "2", "train.checkpoints": "0,1,2" }));
    expectDone(await runStudy(out, flags));
    expectSame(contents(out), contents(undisturbed));
    ok(metricsOf(out).some((record) => record["groups/drawn"] > 2));
  });

  test("a run that keeps no state samples nothing for a step after its last one", async () => {
    const out = folder("none");
    expectDone(await runStudy(out, { ...flags, "train.keepState": "none" }));
    const timings = linesOf(readFileSync(join(out, "timings.jsonl")));
    is(timings.filter((line) => "occupancy" in line && `${line["phase"]}` === "rollouts").length, 2);
    equal(metricsOf(out), metricsOf(undisturbed));
  });

  test("level 2 is refused, and other trainers' names lead to the setting", async () => {
    const given = [{ key: "train.asyncLevel", value: 2, where: "here" }];
    const resolve = (): unknown => resolveSettings(runSettings, [{ given, problems: [] }]);
    await throwsMessage(resolve, "train.asyncLevel: expected an integer from 0 to 1, got 2");
    for (const name of ["async_level", "max_async_level", "max_off_policy_steps"])
      match(answerToOtherNames(name) ?? "", "train.asyncLevel (0 or 1");
  });

  test("what a scorer tells is kept as it is, also what JSON cannot write", () => {
    const file = join(place, "parts");
    const rollout = {
      ...{
        episode: 0,
        rollout: 1,
        point: 0,
        messages: [{ role: "user" as const, content: "π\u2028" }],
        ids: [5],
        mask: [1],
      },
      ...{ logProbs: [Math.fround(-0.1)], entropySum: 0.1 + 0.2, tokens: 1, isTruncated: false, isLastTruncated: true },
      ...{ reward: 1e-300, parts: { turnScores: [Number.NaN], note: "own" }, failure: null },
    };
    writeFileSync(file, packRollouts({ step: 7, groups: [[], [rollout]] }));
    equal(unpackRollouts(readFileSync(file)), { step: 7, groups: [[], [rollout]] });
  });
});
