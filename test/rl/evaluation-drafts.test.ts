// Evaluations during training: each begins from the answers of the one before, as drafts. The bytes of the run folder are those
// without drafts, and they do not depend on where the answers come from.
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match, not, ok } from "uvu/assert";
import { evaluationRolloutsPath } from "../../rl/files/layout.ts";
import { readEvaluationRollouts } from "../../rl/files/training-samples.ts";
import { contents, expectDone, expectSame, type Flags, runStudy, small, start } from "../landscape/tiny-study.ts";
import { describe } from "../support.ts";

/** No landscape; evaluations after steps 0, 2 and 4. */
const training: Flags = {
  ...{ "landscape.steps": "", "train.steps": "4", "train.checkpoints": "0,4", "evaluate.episodes": "8" },
  "train.learningRate": "0.003",
};

interface Timing {
  readonly step: number;
  readonly phase: string;
  readonly tokens: number;
  readonly drafted: number;
  readonly spared: number;
}

function evaluationTimings(folder: string): Timing[] {
  const lines = readFileSync(join(folder, "timings.jsonl"), "utf8").trimEnd().split("\n");
  return lines.map((line): Timing => JSON.parse(line)).filter(({ phase }) => phase === "evaluation");
}

describe("rl/evaluation-drafts", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-evaluation-drafts-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // One name, so that nothing in the files differs by it.
  const folder = (name: string): string => join(place, name, "study");
  const plain = folder("plain");
  let expected: Map<string, Buffer>;

  test("without drafts: conversations of each evaluation, and no word about drafts", async () => {
    const told = expectDone(await runStudy(plain, { ...training, "evaluate.drafts": "off" }));
    not.match(told, "the evaluation before");
    equal(
      readdirSync(join(plain, "evaluations")),
      [0, 2, 4].map((step) => `step-00000${step}.jsonl.gz`),
    );
    is(
      evaluationTimings(plain).reduce((sum, { drafted }) => sum + drafted, 0),
      0,
    );
    expected = contents(plain);
    const metrics = readFileSync(join(plain, "metrics.jsonl"), "utf8").trimEnd().split("\n");
    const rollouts = readEvaluationRollouts(evaluationRolloutsPath(plain, 4));
    is(rollouts.length, 8);
    const mean = rollouts.reduce((sum, { reward }) => sum + reward, 0) / rollouts.length;
    is(JSON.parse(metrics[4])["eval/reward"], mean, "the rewards are those of the metrics");
    for (const { answers, tokens } of rollouts) is(answers.flat().length, tokens);
  });

  test("with drafts: the same bytes; what they were worth is said and kept", async () => {
    const out = folder("drafts");
    const told = expectDone(await runStudy(out, training));
    expectSame(contents(out), expected);
    const [first, ...later] = evaluationTimings(out);
    equal([first.step, first.drafted, first.spared], [0, 0, 0]);
    equal(
      later.map(({ step }) => step),
      [2, 4],
    );
    const sum = (of: (timing: Timing) => number): number => later.reduce((total, timing) => total + of(timing), 0);
    const percent = (part: number): string => `${((100 * part) / sum(({ tokens }) => tokens)).toFixed(0)}%`;
    const spared = percent(sum((timing) => timing.spared));
    match(
      told,
      `Evaluations: ${percent(sum(({ drafted }) => drafted))} of ${sum(({ tokens }) => tokens)} assistant tokens`,
    );
    match(told, `${spared} needed no decode step`);
    ok(Number.parseInt(spared, 10) > 20, spared);
    // Weights have moved: not all of it was accepted.
    ok(sum((timing) => timing.drafted) < sum(({ tokens }) => tokens));
  });

  test("after a resume: from the stored file, and without one that is damaged, the same bytes", async () => {
    for (const [name, prepare, said] of [
      ["stored", () => {}, null],
      [
        "damaged",
        (path: string) => truncateSync(path, 40),
        "The evaluation of step 4 begins without its answers as drafts",
      ],
    ] as const) {
      const out = folder(name);
      const killed = await runStudy(out, training, { FOOTHOLD_KILL_AT: "step:4" });
      is(killed.signal, "SIGKILL");
      prepare(evaluationRolloutsPath(out, 2));
      const told = expectDone(await runStudy(out, training));
      const last = evaluationTimings(out).at(-1);
      is(last?.step, 4);
      is((last?.drafted ?? 0) > 0, said === null);
      if (said !== null) match(told, said);
      // A damaged file stays as it is: its step is done.
      const path = "evaluations/step-000002.jsonl.gz";
      const got = contents(out);
      const whole = new Map(expected);
      if (said !== null) for (const files of [got, whole]) files.delete(path);
      expectSame(got, whole);
    }
  });

  test("a run that goes on has no evaluation of its former last step", async () => {
    const out = folder("longer");
    expectDone(await runStudy(out, { ...training, "train.steps": "3", "train.checkpoints": "0" }));
    ok(existsSync(evaluationRolloutsPath(out, 3)));
    expectDone(await runStudy(out, training));
    expectSame(contents(out), expected);
  });

  test("rl/show.ts shows an evaluation", async () => {
    const run = folder("shown");
    cpSync(plain, run, { recursive: true });
    const show = (...argv: string[]) => start(["rl/show.ts", run, "--evaluation", ...argv]).ended;
    const { status, stdout, stderr } = await show("--step", "2", "--no-moved");
    is(status, 0, stderr);
    const rollouts = readEvaluationRollouts(evaluationRolloutsPath(run, 2));
    const best = Math.max(...rollouts.map(({ reward }) => reward));
    match(stdout, "evaluation after step 2: 8 rollouts of 8 prompts.");
    match(stdout, `--- Best: reward ${best.toFixed(3)}   (episode `);
    not.match(stdout, "advantage");
    for (const { content } of rollouts.find(({ reward }) => reward === best)?.messages ?? [])
      match(stdout, content.replaceAll("\n", "\n    "));
    match((await show("--no-moved")).stdout, "evaluation after step 4");
    match((await show("--step", "4", "--backend", "cpu")).stdout, "under checkpoint 0 → under checkpoint 4");
    const refused = await show("--step", "3");
    is(refused.status, 2);
    match(refused.stderr, "has no conversations of an evaluation after step 3; it has those of steps 0, 2, 4");
    is(small["evaluate.every"], "2");
  });
});
