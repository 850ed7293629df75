// Training as a command, in a few seconds: what it says, what it keeps, and that it goes on to the same bytes.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match, not, ok } from "uvu/assert";
import {
  contents,
  expectDone,
  expectSame,
  type Flags,
  runStudy,
  start,
  studyCommand,
} from "../landscape/tiny-study.ts";
import { describe } from "../support.ts";

/** No landscape. */
const training: Flags = { "landscape.steps": "" };

function metricsOf(folder: string): Record<string, number>[] {
  return readFileSync(join(folder, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

/** Reads an event file's session start: the step it names. */
function sessionStart(path: string): number {
  const content = readFileSync(path);
  const second = 16 + Number(content.readBigUInt64LE(0));
  const event = content.subarray(second + 12, second + 12 + Number(content.readBigUInt64LE(second)));
  // Wall time, then the step (left out where it is 0), then field 7: SessionLog with status START.
  const step = event[9] === 2 << 3 ? event[10] : 0;
  is(event.subarray(event[9] === 2 << 3 ? 11 : 9).toString("hex"), "3a020801");
  return step;
}

describe("rl/train", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-train-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // One name, so that nothing in the files differs by it.
  const folder = (name: string) => join(place, name, "study");

  const finished = folder("finished");
  const slots = ["slot-0", "slot-1"];
  test("a finished run says what its optimiser states take and what clipping can do", async () => {
    const said = expectDone(await runStudy(finished, training));
    match(
      said,
      "One update per batch: every ratio is 1, so train.clipLow and train.clipHigh have no effect in training.",
    );
    match(said, "2.8 MiB of optimiser state, needed only to train this run further");
    match(said, "--train.keepState last or none drops half or all of it");
    equal(readdirSync(join(finished, "state")).sort(), slots);
  });

  test("a state that was deleted is made again, and TensorBoard is told each time where the run begins", async () => {
    const before = contents(finished);
    rmSync(join(finished, "state"), { recursive: true });
    expectDone(await runStudy(finished, training));
    expectSame(contents(finished), before);
    const events = join(finished, "tensorboard");
    const starts = () =>
      readdirSync(events)
        .sort()
        .map((name) => sessionStart(join(events, name)));
    equal(starts(), [0, 0]);
    expectDone(await runStudy(finished, { ...training, "train.steps": "4" }));
    equal(starts(), [0, 0, 4]);
  });

  test("keepState last: the same command drops the older slot, and the run can still be trained further", async () => {
    const longer = { ...training, "train.steps": "4" };
    const said = expectDone(await runStudy(finished, { ...longer, "train.keepState": "last" }));
    match(said, "Dropped 1.4 MiB of optimiser state");
    equal(readdirSync(join(finished, "state")), ["slot-0"]);
    expectDone(await runStudy(finished, { ...training, "train.steps": "5", "train.keepState": "last" }));
    is(metricsOf(finished).at(-1)?.["step"], 5);
    equal(readdirSync(join(finished, "state")).length, 1);
  });

  test("keepState none: nothing is left to train further with, which is said before anything is written", async () => {
    const five = { ...training, "train.steps": "5", "train.keepState": "none" };
    const said = expectDone(await runStudy(finished, five));
    match(said, "Dropped 1.4 MiB");
    match(said, "Without it the run cannot be trained further");
    equal(readdirSync(join(finished, "state")), ["finished.json"]);
    // The finished run is still known as such.
    const again = expectDone(await runStudy(finished, five));
    not.match(again, "GRPO:");
    const before = contents(finished);
    const refused = await runStudy(finished, { ...five, "train.steps": "6" });
    is(refused.status, 2);
    match(refused.stderr, "training needs the optimiser state after step 5");
    match(refused.stderr, "delete the folder");
    expectSame(contents(finished), before);
    // What the message advises works.
    rmSync(join(finished, "state"), { recursive: true });
    expectDone(await runStudy(finished, { ...training, "train.steps": "6" }));
    is(metricsOf(finished).at(-1)?.["step"], 6);
    ok(!existsSync(join(finished, "state", "finished.json")));
  });

  test("temperature, top-k, top-p and a schedule: ratios of the whole distribution, rates in the metrics, no longer run", async () => {
    const out = folder("schedule");
    const flags = {
      ...training,
      "train.temperature": "0.7",
      "train.topK": "9",
      "train.topP": "0.9",
      "train.schedule": "linear",
      "train.warmupSteps": "2",
      "train.updatesPerBatch": "2",
    };
    expectDone(await runStudy(out, flags));
    const records = metricsOf(out).slice(1);
    // Six updates; the metric is that of a step's first one: 0, then 4/4 and 2/4 of the rate.
    equal(
      records.map((record) => record["learning_rate"]),
      [0, 6e-4, 6e-4 * 0.5],
    );
    // The sampler's log-probabilities are the scorer's, at this temperature and without the cuts.
    for (const record of records) is(record["sampling/sampling_logp_difference/max"], 0);
    const before = contents(out);
    const refused = await runStudy(out, { ...flags, "train.steps": "4" });
    is(refused.status, 2);
    match(
      refused.stderr,
      "train.steps: 3 -> 4 (with train.schedule linear a run of another length has other learning rates from its first step on)",
    );
    expectSame(contents(out), before);
  });

  test("impossible combinations are refused all at once, and nothing is written", async () => {
    const out = folder("impossible");
    const refused = await runStudy(out, {
      ...training,
      ...{ "train.loss": "cispo", "train.maxRedraws": "2", "train.warmupSteps": "5", "train.floorShare": "0.5" },
    });
    is(refused.status, 2);
    match(refused.stderr, "4 settings are wrong");
    match(refused.stderr, 'train.ratioCap: train.loss "cispo" needs the largest weight');
    match(refused.stderr, 'set train.equalGroups to "drop"');
    ok(!existsSync(out));
    for (const [flags, message] of [
      [{ "train.ratioCap": "1.2" }, "expected more than the upper clip bound"],
      [{ "train.loss": "masked-importance", "train.ratioCap": "9" }, "caps no ratio"],
      [{ "train.loss": "cispo", "train.ratioCap": "0.28" }, "not its distance from 1"],
    ] as const)
      match((await runStudy(out, { ...training, ...flags })).stderr, message);
  });

  test("training without a signal is said once, and the step is taken", async () => {
    // A policy at temperature 1 whose answers of two tokens never have the form: all rewards are 0.
    const out = folder("silent");
    const said = expectDone(await runStudy(out, { ...training, "train.maxNewTokens": "2" }));
    is(said.split("within every group all rewards are equal").length - 1, 1, said);
    match(said, "Step 1: within every group all rewards are equal");
    for (const { step, frac_reward_zero_std, grad_norm, entropy } of metricsOf(out).slice(1)) {
      equal([frac_reward_zero_std, grad_norm], [1, 0], `step ${step}`);
      ok(entropy > 0);
    }
    const weightsOf = (step: number) =>
      readFileSync(join(out, "checkpoints", `step-00000${step}`, "model.safetensors"));
    ok(!weightsOf(0).equals(weightsOf(3)), "weight decay did not change the weights");
  });

  test("with a KL penalty and two updates per batch, killed and continued: the same bytes", async () => {
    const flags = { ...training, "train.klCoefficient": "0.1", "train.updatesPerBatch": "2", "train.resumeEvery": "1" };
    const undisturbed = folder("kl");
    match(expectDone(await runStudy(undisturbed, flags)), "2 updates per batch: from the second one on");
    const kl = metricsOf(undisturbed).map((record) => record["kl"]);
    is(kl[0], undefined);
    ok(
      kl.slice(1).every((value) => value > 0),
      `${kl}`,
    );
    for (const killAt of ["rollout:2", "step:3"]) {
      const out = folder(killAt.replace(":", "-"));
      const killed = await runStudy(out, flags, { FOOTHOLD_KILL_AT: killAt });
      is(killed.signal, "SIGKILL");
      expectDone(await runStudy(out, flags));
      expectSame(contents(out), contents(undisturbed));
    }
  });

  test("sequence ratios, entropy, dropped and redrawn groups, cut answers left out, killed and continued: the same bytes", async () => {
    const flags = {
      ...training,
      ...{
        "train.updatesPerBatch": "2",
        "train.resumeEvery": "1",
        "train.learningRate": "3e-4",
        "train.temperature": "1.3",
      },
      ...{
        "train.importanceLevel": "sequence",
        "train.ratioCap": "1.5",
        "train.clipLow": "0.001",
        "train.clipHigh": "0.001",
      },
      ...{ "train.klCoefficient": "0.1" },
      ...{ "train.entropyCoefficient": "0.01", "train.topEntropyQuantile": "0.5" },
      ...{ "train.equalGroups": "drop", "train.maxRedraws": "3" },
    };
    const file = join(place, "switches.toml");
    writeFileSync(file, 'extends = "tiny"\n[train]\nklTimesRatio = true\nmaskTruncated = true\n');
    const run = (out: string, environment: NodeJS.ProcessEnv = {}) =>
      start(studyCommand(out, flags, file), environment).ended;
    const undisturbed = folder("everything");
    expectDone(await run(undisturbed));
    const records = metricsOf(undisturbed).slice(1);
    ok(
      records.some((record) => record["groups/drawn"] > 2 && record["groups/dropped"] > 0),
      "no group was redrawn",
    );
    ok(
      records.some((record) => record["ratio/max"] > 1 && record["ratio/min"] < 1),
      "no ratio differs from 1",
    );
    ok(
      records.some((record) => record["clip_ratio/region_mean"] > 0),
      "no sequence was clipped",
    );
    for (const record of records) is(record["sampling/sampling_logp_difference/max"], 0);
    const out = folder("everything-killed");
    is((await run(out, { FOOTHOLD_KILL_AT: "rollout:3" })).signal, "SIGKILL");
    expectDone(await run(out));
    expectSame(contents(out), contents(undisturbed));
  });

  test("groups that stay missing after the redraws are said once", async () => {
    const flags = { "train.maxNewTokens": "2", "train.equalGroups": "drop", "train.maxRedraws": "1" };
    const said = expectDone(await runStudy(folder("missing"), { ...training, ...flags }));
    is(said.split("after 1 round of redraws, 0 of 2 groups have rewards that differ").length - 1, 1, said);
    for (const record of metricsOf(folder("missing")).slice(1))
      equal([record["groups/drawn"], record["groups/dropped"]], [4, 4]);
  });

  test("a step of which every rollout is left out changes the weights by decay alone, and says that it had no signal", async () => {
    const out = folder("left-out");
    const flags = { "train.maxNewTokens": "2", "train.equalGroups": "drop", "train.topEntropyQuantile": "0.5" };
    const said = expectDone(await runStudy(out, { ...training, ...flags, "train.klCoefficient": "0.1" }));
    match(said, "within every group all rewards are equal");
    ok(!said.includes("almost certain of every token"), said);
    for (const record of metricsOf(out).slice(1)) {
      equal([record["groups/drawn"], record["groups/dropped"]], [2, 2]);
      equal([record["loss"], record["grad_norm"]], [0, 0]);
      ok(
        !("entropy" in record) && !("kl" in record) && !("ratio/mean" in record),
        "there are no tokens to average over",
      );
    }
  });
});
