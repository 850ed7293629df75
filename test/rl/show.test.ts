// A training step as text: from the files alone, and with what the kept checkpoints around it say about its tokens.
import { mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match, ok } from "uvu/assert";
import { CpuBackend } from "../../engine/index.ts";
import { loadChat, loadForInference, loadTokenizer, score } from "../../model/index.ts";
import { trainingRolloutsPath } from "../../rl/files/layout.ts";
import { readStepRollouts } from "../../rl/files/training-samples.ts";
import { checkpointFolder } from "../../rl/kept-checkpoints.ts";
import { checkpointsAround } from "../../rl/moved-tokens.ts";
import { type Ended, expectDone, small, start } from "../landscape/tiny-study.ts";
import { describe } from "../support.ts";

describe("rl/show", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-show-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const run = join(place, "run");
  const show = (...argv: string[]): Promise<Ended> => start(["rl/show.ts", run, ...argv]).ended;

  test("from the files alone: best, worst and a random one, without an adapter", async () => {
    const flags = { ...small, "train.checkpoints": "0,1,3", "train.learningRate": "0.003" };
    const given = Object.entries(flags).filter(([key]) => !key.startsWith("landscape."));
    expectDone(
      await start(["rl/train.ts", "tiny", "--out", run, ...given.flatMap(([key, value]) => [`--${key}`, value])]).ended,
    );
    const { status, stdout, stderr } = await show("--step", "2", "--no-moved");
    is(status, 0, stderr);
    equal(stderr, "", "no adapter is opened");
    const rollouts = readStepRollouts(trainingRolloutsPath(run, 2));
    const rewards = rollouts.map(({ reward }) => reward);
    match(stdout, "step 2: 6 rollouts of 2 prompts");
    match(stdout, `--- Best: reward ${Math.max(...rewards).toFixed(3)}, advantage `);
    match(stdout, `reward ${Math.min(...rewards).toFixed(3)}, advantage `);
    const best = rollouts.find(({ reward }) => reward === Math.max(...rewards));
    for (const { content } of best?.messages ?? []) match(stdout, content.replaceAll("\n", "\n    "));
    match(stdout, /--- Random: reward .* tokens/);
    ok(!stdout.includes("Tokens that moved") && !stdout.includes("\u001b"));
    is((await show("--step", "2", "--no-moved")).stdout, stdout, "the same each time");
  });

  test("the tokens that moved: log-probabilities under the checkpoints around the step, the largest change first", async () => {
    const { status, stdout, stderr } = await show("--step", "1", "--tokens", "3", "--backend", "cpu");
    is(status, 0, stderr);
    match(stdout, "under checkpoint 0 → under checkpoint 1");
    match(stdout, "These are the weights before and after this step's update.");
    const table = stdout.slice(stdout.indexOf("Tokens that moved most"));
    const changes = [...table.matchAll(/^ {2} +(-?[\d.]+) → +(-?[\d.]+) +([+-]?[\d.]+) {2}"/gm)].slice(0, 3);
    is(changes.length, 3);
    const sizes = changes.map(([, , , change]) => Math.abs(Number(change)));
    equal(
      sizes,
      [...sizes].sort((a, b) => b - a),
    );
    // The best conversation, scored here under both checkpoints.
    const rollouts = readStepRollouts(trainingRolloutsPath(run, 1));
    const best = rollouts.reduce((one, other) => (other.reward > one.reward ? other : one));
    const scored: number[][] = [];
    for (const step of [0, 1]) {
      const folder = checkpointFolder(run, step);
      const chat = await loadChat(folder, await loadTokenizer(folder));
      const model = await loadForInference(new CpuBackend(), folder, "f32");
      const messages = best.messages.map(
        ({ role, content }) => ({ role: role === "user" ? "user" : "assistant", content }) as const,
      );
      const [{ logProbs }] = await score(model, [chat.dialogue(messages)], { temperature: 1, maxTokens: 4096 });
      scored.push(Array.from(logProbs));
    }
    const moved = scored[0].map((before, i) => scored[1][i] - before).sort((a, b) => Math.abs(b) - Math.abs(a));
    equal(
      changes.map(([, , , change]) => Number(change)),
      moved.slice(0, 3).map((change) => Number(change.toFixed(2))),
    );
  });

  test("what is compared is said when checkpoints are further apart, and when there are none", async () => {
    const apart = await show("--step", "3", "--backend", "cpu");
    match(apart.stdout, "under checkpoint 1 → under checkpoint 3");
    match(apart.stdout, "from the weights of step 2 to those of step 3, is one of the 2 in between");
    equal(checkpointsAround([0, 2, 5], 3), { before: 2, after: 5 });
    equal(checkpointsAround([0, 2, 5], 2), { before: 0, after: 2 });
    is(checkpointsAround([2, 5], 2), null);
    is(checkpointsAround([0, 2], 3), null);
  });

  test("one message for a step that is not there, a damaged file, a folder that is no run", async () => {
    const refused = async (expected: string, ...argv: string[]): Promise<void> => {
      const { status, stderr } = await start(["rl/show.ts", ...argv]).ended;
      is(status, 2, stderr);
      match(stderr, expected);
    };
    await refused("has no rollouts of step 9; it has steps 1 to 3", run, "--step", "9");
    await refused("expected a run folder, it has no config.toml", place);
    truncateSync(trainingRolloutsPath(run, 2), 50);
    await refused("step-000002.jsonl.gz: cannot be read", run, "--step", "2", "--no-moved");
  });
});
