// A training run with evolution strategies as a command.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { contents, expectDone, expectSame, type Flags, interrupt, small, start } from "../landscape/tiny-study.ts";
import { describe } from "../support.ts";

describe("rl/evolution command", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-evolve-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const flags: Flags = {
    ...Object.fromEntries(
      Object.entries(small).filter(([key]) => !/^landscape|rolloutsPerPrompt|model.path/.test(key)),
    ),
    "train.promptsPerStep": "4",
    "train.method": "evolve",
    "train.evolve.population": "8",
    "train.evolve.sigma": "0.02",
    "train.evolve.learningRate": "0.001",
  };
  const command = (name: string, more: Flags = {}): string[] => [
    ...["rl/train.ts", "tiny"],
    ...Object.entries({ ...flags, ...more, out: join(place, name, "run") }).flatMap(([key, value]) => [
      `--${key}`,
      value,
    ]),
  ];

  test("a stopped run goes on to the bytes of an undisturbed one; fewer members at once change none", async () => {
    expectDone(await start(command("whole")).ended);
    const whole = contents(join(place, "whole/run"));
    const metrics = whole.get("metrics.jsonl")?.toString() ?? "";
    assert.match(metrics, /"evolve\/update_norm":\d/);
    assert.match(metrics, /"evolve\/update_cosine":-?\d/);
    const stopped = join(place, "stopped/run");
    await interrupt(() => start(command("stopped")), stopped, "rollouts/step-000001.jsonl.gz");
    expectDone(await start(command("stopped", { "train.evolve.membersAtOnce": "3" })).ended);
    expectSame(contents(join(place, "stopped/run")), whole);
  });

  test("refuses an odd population of pairs, and mixed precision", async () => {
    const { status, stderr } = await start(
      command("odd", { "train.evolve.population": "3", "train.precision": "mixed" }),
    ).ended;
    assert.equal(status, 2);
    assert.match(
      stderr,
      /train\.evolve\.population: expected an even number of members, since they come in pairs, got 3/,
    );
    assert.match(stderr, /train\.precision: expected "f32" with train\.method "evolve", got "mixed"/);
    assert.ok(!existsSync(join(place, "odd/run")));
  });
});
