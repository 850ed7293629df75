// An environment that throws and hangs costs the rollouts that it fails on: they are recorded and counted, and the run goes
// on, is resumed to the same bytes, and stops only if too many fail.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { equal, is, match, ok } from "uvu/assert";
import { describe } from "../support.ts";
import { expectDone, root, start } from "./tiny-study.ts";

/** Fails on about half of the answers, by their text: one part throws, one loops, one waits without end. */
const module = `
import { registerEnvironment } from "foothold/rl";
const fault = (text) => [...text].reduce((sum, one) => (sum * 31 + one.codePointAt(0)) % 997, 7) % 8;
registerEnvironment({
  name: "fragile",
  settings: {},
  open: () => ({
    name: "fragile",
    episodes: () => Array.from({ length: 12 }, (_, index) => ({
      index,
      prompt: "Say something about number " + index + ".",
      score([text = ""]) {
        switch (fault(text)) {
          case 0: throw new Error("no key for this answer");
          case 1: for (;;);
          case 2: return new Promise(() => {});
          default: return Promise.resolve(text.length % 5);
        }
      },
    })),
  }),
});
`;

describe("landscape/failing-environment", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-fragile-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  writeFileSync(join(place, "fragile.js"), module);
  const flags = [
    ...[
      "tiny",
      "--environment.module",
      "fragile.js",
      "--environment.name",
      "fragile",
      "--environment.timeLimit",
      "0.3",
    ],
    ...["--environment.maxFailedShare", "0.9", "--train.promptsPerStep", "3", "--train.rolloutsPerPrompt", "4"],
    ...["--train.resumeEvery", "1", "--train.maxNewTokens", "6", "--evaluate.episodes", "8", "--evaluate.every", "1"],
    ...["--landscape.points", "2", "--landscape.slices", "1", "--landscape.simulations", "2"],
    ...["--landscape.reference.prompts", "3", "--landscape.reference.rollouts", "2"],
    ...["--landscape.rollouts.prompts", "4", "--landscape.rollouts.rollouts", "1", "--landscape.maxNewTokens", "6"],
  ];
  const run = (out: string, ...more: string[]) =>
    start([join(root, "landscape/run.ts"), ...flags, "--out", out, ...more], {}, place).ended;
  const whole = join(place, "whole");
  const lines = (out: string) =>
    gunzipSync(readFileSync(join(out, "rollouts", "step-000001.jsonl.gz")))
      .toString()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));

  test("each kind of failure is recorded, counted, said, and left out of its group", async () => {
    const stderr = expectDone(
      await run(whole, "--train.steps", "2", "--train.checkpoints", "0,2", "--landscape.steps", "2"),
    );
    const rollouts = lines(whole);
    const failures = new Set(rollouts.map(({ failure }) => failure).filter((one) => one !== null));
    ok(failures.size > 0, "the module fails on no answer of this model");
    for (const one of failures)
      ok(["no key for this answer", "score: not done after 0.3 s (environment.timeLimit)"].includes(one), one);
    for (let g = 0; g < 3; g++) {
      const group = rollouts.slice(4 * g, 4 * g + 4);
      const scored = group.filter(({ failure }) => failure === null);
      const mean = scored.reduce((sum, { reward }) => sum + reward, 0) / scored.length;
      for (const { failure, reward, advantage, isUsed } of group)
        if (failure === null) is(Math.sign(advantage), Math.sign(Math.abs(reward - mean) < 1e-12 ? 0 : reward - mean));
        else equal([reward, advantage, isUsed], [0, 0, false]);
    }
    const [, first] = readFileSync(join(whole, "metrics.jsonl"), "utf8")
      .split("\n")
      .map((line) => line && JSON.parse(line));
    const scored = rollouts.filter(({ failure }) => failure === null);
    is(first["completions/failed"], rollouts.length - scored.length);
    is(first.reward, scored.reduce((sum, { reward }) => sum + reward, 0) / scored.length);
    match(stderr, /Step 1: a rollout failed in the environment and is left out of its group: /);
    match(stderr, "Incomplete: Training: ");
    match(readFileSync(join(whole, "report.html"), "utf8"), /rollouts failed in the environment and are left out/);
    match(stderr, /slice 0: \d+ rollouts in \d+ cells failed in the environment; they count as reward 0/);
  });

  test("too many failures stop the run with the last reason; continued in parts, it has the bytes of a run in one", async () => {
    const out = join(place, "parts");
    const part = (count: number, checkpoints: string, ...more: string[]) =>
      run(out, "--train.steps", String(count), "--train.checkpoints", checkpoints, "--landscape.steps=", ...more);
    expectDone(await part(1, "0"));
    const strict = await part(2, "0,2", "--environment.maxFailedShare", "0");
    is(strict.status, 2, strict.stderr);
    match(strict.stderr, /environment: \d+ of \d+ rollouts failed, and at most a share of 0 may/);
    match(strict.stderr, /The last one: (no key for this answer|score: not done after 0.3 s)/);
    expectDone(await part(2, "0,2"));
    equal(lines(out), lines(whole));
    for (const name of ["metrics.jsonl", "checkpoints/step-000002/model.safetensors"])
      ok(readFileSync(join(out, name)).equals(readFileSync(join(whole, name))), name);
  });
});
