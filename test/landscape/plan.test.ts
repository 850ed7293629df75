// `--dry-run`: what is counted, and that nothing is written or downloaded.
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match, not, ok } from "uvu/assert";
import { readTomlFile, resolveSettings, settingValue } from "../../engine/host/index.ts";
import { CpuBackend } from "../../engine/index.ts";
import { readConversations, readSlice } from "../../landscape/files/cells.ts";
import { diskOf, diskWarning } from "../../landscape/plan/disk.ts";
import { furtherWork } from "../../landscape/plan/further-work.ts";
import { workOf } from "../../landscape/plan/work.ts";
import { type StudySettings, studySettings } from "../../landscape/settings.ts";
import { plannedModel } from "../../rl/dry-run.ts";
import { embeddedModel } from "../../rl/files/run-folder.ts";
import { expectTrainingMemory, openEnvironment } from "../../rl/index.ts";
import { filesOf } from "../../rl/settings-files.ts";
import { attentionFlops, forwardFlops, headFlops } from "../../rl/work.ts";
import { flopsOf, secondsOf } from "../../rl/work-parts.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";
import { contents, expectDone, expectSame, type Flags, small, start, studyCommand } from "./tiny-study.ts";

/** The small study, large enough that averages show. */
const measured: Flags = {
  ...small,
  "train.steps": "4",
  "train.promptsPerStep": "8",
  "train.rolloutsPerPrompt": "4",
  "train.checkpoints": "0,2,4",
  "landscape.steps": "0,4",
  "landscape.reference.prompts": "8",
  "landscape.reference.rollouts": "4",
  "landscape.rollouts.prompts": "16",
};

function settingsOf(flags: Flags): StudySettings {
  const given = Object.entries(flags).map(([key, text]) => {
    const form = studySettings.byKey.get(key)?.form ?? "string";
    const value = form === "integers" ? text.split(",").map(Number) : form === "string" ? text : Number(text);
    return { key, value, where: key };
  });
  const files = filesOf(studySettings, ["tiny"]).map((path) => readTomlFile(studySettings, path));
  return resolveSettings(studySettings, [...files, { given, problems: [] }]);
}

/** Bytes of all files below a folder. */
function bytesBelow(folder: string, matches = /./): number {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => ({ name, stat: statSync(join(folder, name)) }))
    .filter(({ name, stat }) => stat.isFile() && matches.test(name))
    .reduce((sum, { stat }) => sum + stat.size, 0);
}

describe("landscape/plan", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-plan-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("operations per token, counted by hand for the embedded model", async () => {
    const { config } = await plannedModel("");
    const {
      hiddenSize: C,
      numHiddenLayers: L,
      numAttentionHeads: H,
      numKeyValueHeads: K,
      headDim: D,
      vocabSize: V,
    } = config;
    const mlp = [...config.parameters()].find(([name]) => name.endsWith("mlp.up_proj.weight"))?.[1].shape[0] ?? 0;
    const perLayer = 2 * (C * H * D + 2 * C * K * D + H * D * C + 3 * C * mlp);
    is(forwardFlops(config), L * perLayer);
    is(headFlops(config), 2 * V * C);
    is(attentionFlops(config, 10), 4 * L * H * D * 10);
  });

  test("conversations, tokens and operations of each part", async () => {
    const settings = settingsOf(measured);
    const { config, chat } = await plannedModel("");
    const environment = await openEnvironment(settings.environment);
    const { parts, lengths, knowsRight } = workOf(config, chat, environment, settings);
    ok(knowsRight);
    equal(
      parts.map(({ name, conversations }) => [name, conversations]),
      [
        ["training: rollouts", 4 * 8 * 4],
        ["training: updates", 4 * 8 * 4],
        ["training: evaluations", 3 * 4],
        ["landscape: the checkpoints' completions", 2 * 8 * 4],
        ["landscape: rollouts", 2 * 9 * 16],
        ["landscape: scoring", (2 * 9 + 2) * 8 * 4],
      ],
    );
    is(lengths.train.answer.most, 48, "two turns of 24 tokens");
    ok(lengths.train.answer.right > 4 && lengths.train.answer.right < 48, `${lengths.train.answer.right} tokens`);
    is(parts[0].sampled.most, 4 * 8 * 4 * 48);
    const { prompt, followUp, answer } = lengths.train;
    const whole = prompt + followUp + answer.most;
    const perConversation =
      whole * (forwardFlops(config) + attentionFlops(config, whole / 2)) + answer.most * headFlops(config);
    is(flopsOf(parts[1]).most, 4 * 8 * 4 * 3 * perConversation, "forward and backward are three forward passes");
    const rates = { decode: 1e9, forward: 2e9, training: 4e9, basis: "" };
    is(secondsOf(parts[1], rates).most, flopsOf(parts[1]).most / 4e9);
    ok(parts.every((part) => flopsOf(part).right <= flopsOf(part).most && flopsOf(part).right > 0));
  });

  test("rays, lines, worst-case rays, pairs, noise floors and fresh prompts, counted by hand", async () => {
    const asked = {
      ...{ "landscape.rays.count": 2, "landscape.rays.radii": [0.02, 0.1], "landscape.rays.kl": [0.01, 0.1] },
      ...{ "landscape.rays.worst": ["kl", "reward"], "landscape.rays.freshPrompts": 4, "landscape.noiseFloor": 5 },
      ...{ "landscape.line.stepsAhead": [2], "landscape.line.positions": [0.5, 1], "landscape.pairs": true },
    };
    const settings = resolveSettings(studySettings, [
      ...[settingsOf(measured)].map((given) => ({
        given: [...studySettings.byKey.keys()].map((key) => ({ key, value: settingValue(given, key), where: key })),
        problems: [],
      })),
      { given: Object.entries(asked).map(([key, value]) => ({ key, value, where: key })), problems: [] },
    ]);
    // Around each of two checkpoints: 1 + 2·2·2 points on rays, 8 at fixed KL, 2·5 on worst-case rays. One line, from step 0 to 2.
    const points = 2 * (9 + 8 + 10) + 3;
    equal(furtherWork(settings), { points, passes: 2 * 8 * 3 + 2, gradients: 2 * 11, draws: 10, freshPoints: 2 * 9 });
    const { config, chat } = await plannedModel("");
    const environment = await openEnvironment(settings.environment);
    const { parts } = workOf(config, chat, environment, settings);
    equal(
      parts.slice(6).map(({ name, conversations }) => [name, conversations]),
      [
        ["rays, lines: rollouts", points * 16],
        ["rays, lines, pairs, fixed KL: scoring", (points + 50) * 32],
        ["worst-case rays: gradients", 22 * 32],
        ["noise floor: rollouts", 10 * 16],
        ["fresh prompts: rollouts, at most", 18 * 4],
      ],
    );
    const bytes = (of: StudySettings): number =>
      diskOf(config, environment, of, workOf(config, chat, environment, of).lengths, null).peak;
    ok(bytes(settings) > bytes(settingsOf(measured)) + points * 1000);
  });

  test("disk: checkpoints, state, rollouts, cells and their sum within 20% of a real run", async () => {
    const out = join(place, "real");
    expectDone(await start(studyCommand(out, measured)).ended);
    const settings = settingsOf(measured);
    const { config, chat } = await plannedModel(fixturePath("tiny-warm-start"));
    const environment = await openEnvironment(settings.environment);
    const { lengths } = workOf(config, chat, environment, settings);
    const { parts, peak } = diskOf(config, environment, settings, lengths, fixturePath("tiny-warm-start"));
    const real: Record<string, number> = {
      checkpoints: bytesBelow(join(out, "checkpoints")),
      "training state": bytesBelow(join(out, "state")),
      "training rollouts": bytesBelow(join(out, "rollouts")),
      cells: bytesBelow(join(out, "landscape"), /cells\.jsonl$/),
      "conversations of cells": bytesBelow(join(out, "landscape"), /rollouts\.jsonl\.gz$/),
    };
    const ratios = Object.entries(real).map(([part, bytes]) => [part, (parts.get(part) ?? 0) / bytes] as const);
    const planned = [...parts.values()].reduce((sum, bytes) => sum + bytes, 0);
    for (const [part, ratio] of [...ratios, ["everything", planned / bytesBelow(out)] as const])
      ok(ratio > 0.8 && ratio < 1.2, `${part}: ${ratio.toFixed(2)} of the real size`);
    ok(peak > planned);

    // The warning before a sweep: from what is left, and with the training only before it began.
    const model = fixturePath("tiny-warm-start");
    const warning = (folder: string, free: number): string | null =>
      diskWarning({ config, chat, environment, settings }, folder, model, free);
    const fresh = join(place, "not-there");
    is(warning(fresh, peak), null);
    match(
      warning(fresh, 0.8 * planned) ?? "",
      /^Note: the files of 18 grid points and of the training need about .* in /,
    );
    is(warning(out, 0), null, "nothing is left to measure");
    const maps = (parts.get("cells") ?? 0) + (parts.get("conversations of cells") ?? 0);
    const pages = parts.get("figures and report") ?? 0;
    const half = join(place, "half");
    cpSync(out, half, { recursive: true });
    rmSync(join(half, "landscape", "step-000004"), { recursive: true });
    match(warning(half, pages + 0.49 * maps) ?? "", "Note: the files of 9 grid points need about ");
    is(warning(half, pages + 0.51 * maps), null);
    // What a sweep keeps of a conversation: the tokens of each answer, whose texts have the answer's length.
    const files = readSlice(out, { step: settings.landscape.steps[0], slice: 0 }, (damage) => ok(false, damage));
    const said = files === null ? [] : readConversations(files, (damage) => ok(false, damage));
    is(said.length, 9);
    for (const [index, cell] of said.entries())
      for (const [prompt, { messages, tokenLengths = [] }] of (cell ?? []).entries()) {
        const answers = messages.filter(({ role }) => role === "assistant");
        const sums = tokenLengths.map((of) => of.reduce((sum, length) => sum + length, 0));
        equal(
          sums,
          answers.map(({ content }) => content.length),
        );
        is(tokenLengths.flat().length, files?.cells[index].rollouts.tokens[prompt][0]);
      }
    const before = contents(out);
    const again = await start([...studyCommand(out, measured), "--dry-run"]).ended;
    is(again.status, 0, again.stderr);
    match(again.stdout, "already holds 4 of 4 training steps and 18 of 18 grid points");
    expectSame(contents(out), before);
    const other = await start([...studyCommand(out, { ...measured, "train.seed": "9" }), "--dry-run"]).ended;
    is(other.status, 2);
    match(other.stderr, "train.seed: 100 -> 9");
  });

  test("without training steps, memory is planned for the evaluation alone", async () => {
    const { config, chat } = await plannedModel("");
    const backend = new CpuBackend();
    const bytesWith = async (steps: number): Promise<number> => {
      const settings = settingsOf({
        ...measured,
        "train.steps": String(steps),
        "train.checkpoints": "0",
        "landscape.steps": "0",
      });
      const environment = await openEnvironment(settings.environment);
      const job = { config, chat, environment, settings };
      return (await expectTrainingMemory(backend, job, { limit: null, compiles: false })).totalBytes;
    };
    ok((await bytesWith(0)) < (await bytesWith(1)));
  });

  test("tiny --dry-run prints settings, operations, memory, time and disk, and writes nothing", async () => {
    const out = join(place, "dry");
    const { status, stdout, stderr } = await start(["landscape/run.ts", "tiny", "--dry-run", "--out", out]).ended;
    is(status, 0, stderr);
    match(stdout, /^learningRate = 0\.0006$/m);
    match(stdout, /training: updates +2,560/);
    match(stdout, /^ {2}landscape: \d.*weights/m);
    match(stdout, /^Time: /m);
    match(stdout, "rests on a piece of the work itself, run on this adapter");
    match(stdout, /^Disk: about \d/m);
    not.ok(existsSync(out));
  });

  test("study --dry-run works without the model and without a network, and says what it rests on", async () => {
    const cache = join(place, "no-cache");
    const out = join(place, "study");
    const environment = { HF_HUB_CACHE: cache, HF_ENDPOINT: "http://127.0.0.1:9" };
    const { status, stdout, stderr } = await start(
      ["landscape/run.ts", "study", "--dry-run", "--out", out],
      environment,
    ).ended;
    is(status, 0, stderr);
    match(stdout, "494,032,768 weights");
    match(stdout, "is not at hand. Its shape is known");
    // 151 batches of 512: with asyncLevel 1 the last step samples the batch of the next.
    match(stdout, /training: rollouts +77,312/);
    match(stdout, /landscape: rollouts +7,225,344/);
    match(stdout, /rests on (the rate of one product|a piece of the work itself)/);
    match(stdout, /checkpoints: 29\.\d GiB/);
    not.ok(existsSync(out));
    not.ok(existsSync(cache));
  });

  test("a model that is neither at hand nor of a known shape is refused by name", async () => {
    await throwsMessage(() => plannedModel("nobody/nothing-1B"), "nobody/nothing-1B", "has neither", "Qwen2.5-0.5B");
    is((await plannedModel("")).folder, embeddedModel);
  });
});
