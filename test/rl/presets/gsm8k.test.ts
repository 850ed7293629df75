// The preset gsm8k from a file of word problems (docs/examples/word-problems.jsonl): plan, training, evaluation and a map, with the
// embedded model in place of the preset's.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match, ok } from "uvu/assert";
import { resolveSettings } from "../../../engine/host/index.ts";
import { studySettings } from "../../../landscape/settings.ts";
import { readEvaluationRollouts } from "../../../rl/files/training-samples.ts";
import { openEnvironment } from "../../../rl/index.ts";
import { expectDone, root, start } from "../../landscape/tiny-study.ts";
import { describe } from "../../support.ts";

const problems = "docs/examples/word-problems.jsonl";
const flags = [
  ...["gsm8k", "--environment.gsm8k.data", problems, "--model.path", "rl/presets/tiny/checkpoint"],
  ...["--train.steps", "2", "--train.promptsPerStep", "3", "--train.rolloutsPerPrompt", "2"],
  ...["--train.maxNewTokens", "12", "--train.checkpoints", "0,2", "--evaluate.episodes", "12", "--evaluate.every", "1"],
  ...["--landscape.steps", "2", "--landscape.points", "2", "--landscape.slices", "1", "--landscape.maxNewTokens", "12"],
  ...["--landscape.reference.prompts", "3", "--landscape.reference.rollouts", "2", "--landscape.rollouts.prompts", "4"],
  ...["--landscape.rollouts.rollouts", "1", "--landscape.noiseFloor", "2", "--landscape.simulations", "2"],
];

describe("rl/presets/gsm8k", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-gsm8k-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const out = join(place, "study");

  test("the problems: the solutions add up, and each of them has reward 1", async () => {
    const rows = readFileSync(join(root, problems), "utf8").trimEnd().split("\n");
    is(rows.length, 12);
    for (const row of rows) {
      const { answer }: { answer: string } = JSON.parse(row);
      const steps = [...answer.matchAll(/<<([-\d.]+)([-+*/])([-\d.]+)((?:\+[\d.]+)*)=(-?[\d.]+)>>\5/g)];
      is(steps.length, answer.split("<<").length - 1, answer);
      for (const [, one, sign, other, more, result] of steps) {
        const [a, b] = [Number(one), Number(other)];
        const value = { "+": a + b, "-": a - b, "*": a * b, "/": a / b }[sign] ?? Number.NaN;
        const rest = (more.match(/[\d.]+/g) ?? []).reduce((sum, part) => sum + Number(part), 0);
        is(value + rest, Number(result), answer);
      }
      is(answer.match(/#### (.*)$/)?.[1].replace(",", ""), steps.at(-1)?.[5]);
    }
    const { environment } = resolveSettings(studySettings, [
      {
        given: [
          { key: "environment.name", value: "gsm8k", where: "test" },
          { key: "environment.gsm8k.data", value: join(root, problems), where: "test" },
        ],
        problems: [],
      },
    ]);
    for (const episode of (await openEnvironment(environment)).episodes(1)) {
      ok("workedTurns" in episode && Array.isArray(episode.workedTurns));
      const [{ formatted, bare }] = episode.workedTurns;
      const rewardOf = async (text: string): Promise<unknown> => {
        const score = await episode.score([text]);
        return typeof score === "object" ? score.reward : score;
      };
      is(await rewardOf(formatted), 1);
      is(await rewardOf(bare.replace(/-?\d/g, "9")), 0);
    }
  });

  test("the plan: without a network, and nothing is written", async () => {
    const { status, stdout, stderr } = await start(["landscape/run.ts", ...flags, "--out", out, "--dry-run"]).ended;
    is(status, 0, stderr);
    match(stdout, /training: evaluations +36 /);
    match(stdout, "noise floor: rollouts");
    ok(!existsSync(out));
  });

  test("the run: training, evaluations of all problems, and a map", async () => {
    const told = expectDone(await start(["landscape/run.ts", ...flags, "--out", out]).ended);
    match(told, "GSM8K: the model solves a word problem in arithmetic.");
    match(told, "Rollouts come from the weights of one update before");
    for (const step of [0, 1, 2]) {
      const rollouts = readEvaluationRollouts(join(out, "evaluations", `step-00000${step}.jsonl.gz`));
      is(new Set(rollouts.map(({ episode }) => episode)).size, 12);
      for (const { messages, reward, failure } of rollouts) {
        match(messages[0].content, 'output the final answer after "####"');
        ok(reward === 0 || reward === 1);
        is(failure, null);
      }
    }
    const config = readFileSync(join(out, "config.toml"), "utf8");
    match(config, problems);
    match(config, /dataSha256 = "[0-9a-f]{64}"/);
    equal(
      readFileSync(join(out, "landscape", "step-000002", "slice-0", "cells.jsonl"), "utf8")
        .trimEnd()
        .split("\n").length,
      4,
    );
    ok(existsSync(join(out, "report.html")));
  });
});
