// Any model on any environment: mean reward with its interval, pass@k, form, lengths.
//
//   node rl/evaluate.ts runs/tiny --step 20                a checkpoint of a run, on the run's task, as the run evaluates
//   node rl/evaluate.ts my-task.toml --model.path DIR --evaluate.rollouts 16
//
// The rollouts are those that a run's evaluation draws, so with a run's settings the reward is the run's own, to the bit.
import { existsSync, readdirSync } from "node:fs";
import {
  expectDiskSpace,
  expectFolderPlace,
  formatBytes,
  formatDuration,
  freeDisk,
  type Progress,
  projectVersion,
  resolvedToml,
  runCommand,
  settingsError,
} from "../engine/host/index.ts";
import { adapterLine, type Backend, openBackend } from "../engine/index.ts";
import {
  type Chat,
  emptyModel,
  expectMemory,
  halve,
  type LanguageModel,
  loadChat,
  loadForInference,
  loadTokenizer,
  locateModel,
  type MemoryLimit,
  memoryLimit,
  openMergedConfig,
  planMemory,
  readAdapterConfig,
  rehearseGeneration,
} from "../model/index.ts";
import {
  type PlannedMemory,
  type PlannedModel,
  plannedModel,
  printMemory,
  printModel,
  printTime,
  workTable,
} from "./dry-run.ts";
import { type Environment, episodeList, episodeProblems } from "./environments/environment.ts";
import { limitsOf } from "./environments/limits.ts";
import { environmentDescription, openEnvironment } from "./environments/registry.ts";
import { loadModuleOf } from "./environments/user-module.ts";
import { type EvaluateValues, evaluateCommandSettings, evaluatedFiles, runFolderOf } from "./evaluate-settings.ts";
import { evaluatedRollouts } from "./evaluation.ts";
import { evaluationLines, evaluationNumbers, writeEvaluation } from "./evaluation-report.ts";
import { embeddedModel } from "./files/run-folder.ts";
import { conversationBytes } from "./folder-size.ts";
import { checkpointFolder, expectSound, isKept, keptSteps } from "./kept-checkpoints.ts";
import { positionsNote } from "./openings.ts";
import { probeRates } from "./probe.ts";
import { dialoguesOf, expectTemplate, type RolloutSettings, rollOut } from "./rollout.ts";
import { presetNames } from "./settings-files.ts";
import { rolloutSampling } from "./training-settings.ts";
import { generationWork, lengthsOf } from "./work-parts.ts";

/** Of evaluation.json, most of it the settings. */
const numbersBytes = 1500;

type Job = { config: LanguageModel; chat: Chat; environment: Environment; values: EvaluateValues };

await runCommand({
  name: "node rl/evaluate.ts",
  summary: "Evaluates a model on an environment: mean reward with its 95% interval, pass@k, form and lengths.",
  settings: evaluateCommandSettings,
  positional: [
    {
      name: "RUN",
      many: true,
      meaning: `a run folder, whose task and checkpoint are taken; or settings files or presets (${presetNames.join(", ")})`,
    },
  ],
  examples: [
    ["node rl/evaluate.ts runs/tiny --step 20", "a checkpoint of a run, as the run itself evaluates it"],
    ["node rl/evaluate.ts runs/tiny --evaluate.rollouts 16 --out evaluations/tiny", "pass@16, with every conversation"],
    ["node rl/evaluate.ts tiny --model.path DIR --model.adapter LORA", "a model of your own with a LoRA adapter"],
    ["node rl/evaluate.ts study --model.path DIR --dry-run", "operations, time and memory, before anything is done"],
  ],
  settingsFiles: evaluatedFiles,
  prepare: loadModuleOf,
  dryRun: "Print the resolved settings, operations, time and memory, and stop. Nothing is written or downloaded.",
  main: async ({ values, given, positionals, progress, signal, isDryRun }) => {
    const start = performance.now();
    const path = modelOf(values, positionals, given);
    if (values.out !== "") expectFreeFolder(values.out);
    if (values.model.adapter !== "") readAdapterConfig(values.model.adapter);
    const environment = await openEnvironment(values.environment, { progress, signal, isDryRun });
    const { episodes, episodeSeed, rollouts, passReward } = values.evaluate;
    await episodeList(environment, episodeSeed).makeDistinct(episodes, signal);
    const problems = episodeProblems(environment, [
      { setting: "evaluate.episodes", count: episodes, seed: episodeSeed },
    ]);
    if (problems.length > 0) throw settingsError(problems);
    if (isDryRun) return printEvaluationPlan(await plannedModel(path), path, environment, values, progress, signal);
    if (values.out !== "") expectDiskSpace(values.out, diskOf(environment, values), "the evaluation");
    const model = await locateModel(path === "" ? embeddedModel : path, { progress, signal });
    const chat = await loadChat(model.folder, await loadTokenizer(model.folder));
    const requests = evaluatedRollouts(environment, values.evaluate);
    expectTemplate(
      chat,
      requests.map(({ episode }) => episode),
      values.environment.turn2Template,
    );
    const opened = await openBackend({ backend: values.backend, adapter: values.adapter, tune: values.tune });
    const { backend } = opened;
    try {
      progress.line(adapterLine(opened));
      const task = environmentDescription(values.environment);
      if (task !== null) progress.line(task);
      const config = await openMergedConfig(model.folder, values.model.adapter);
      const note = positionsNote(
        requests.map(({ episode }) => episode),
        chat,
        {
          maxNewTokens: values.train.maxNewTokens,
          positions: config.maxPositionEmbeddings,
          cure: "a lower --train.maxNewTokens, shorter prompts, or fewer turns",
        },
      );
      if (note !== null) progress.line(note);
      await memoryOf(backend, { config, chat, environment, values }).plan(memoryLimit(backend));
      const loaded = await loadForInference(backend, model.folder, values.model.precision, {
        note: (line) => progress.line(line),
        adapter: values.model.adapter,
      });
      const phase = progress.phase("evaluation", requests.length, "rollouts");
      const done = await rollOut(loaded, chat, requests, {
        ...rolloutSettings(values),
        signal,
        onPass: ({ finished }) => phase.advance(finished),
      });
      phase.done();
      const numbers = evaluationNumbers(done, rollouts, passReward);
      process.stdout.write(`${evaluationLines(numbers).join("\n")}\n`);
      if (values.out !== "") {
        const settings = resolvedToml(evaluateCommandSettings, values);
        const about = {
          foothold: projectVersion(),
          adapter: backend.description,
          model: model.name,
          commit: model.commit,
          settings,
        };
        writeEvaluation(values.out, about, numbers, done);
        progress.line(`Written: ${values.out}`);
      }
      progress.line(`Done in ${formatDuration(performance.now() - start)}`);
    } finally {
      backend.destroy();
    }
  },
});

/** The rollouts would be lost if they could not be written at the end. */
function expectFreeFolder(out: string): void {
  expectFolderPlace(out);
  if (existsSync(out) && readdirSync(out).length > 0)
    throw settingsError([`out: ${out} is not empty, and an evaluation replaces nothing. Choose another folder`]);
}

/** evaluation.json and the conversations. Right answers stand for those that the model will give. */
function diskOf(environment: Environment, { evaluate: { episodes, episodeSeed, rollouts } }: EvaluateValues): number {
  return numbersBytes + conversationBytes(environment, episodeSeed, episodes, rollouts, "training");
}

/** The model that is meant: that of --model.path; or a checkpoint of the run folder; or the settings files' model. */
function modelOf({ model, step }: EvaluateValues, positionals: readonly string[], given: ReadonlySet<string>): string {
  const run = runFolderOf(positionals);
  if (given.has("model.path") || run === null) {
    if (given.has("step"))
      throw settingsError(["step: names a checkpoint of a run folder. Give the run folder, and no --model.path"]);
    return model.path;
  }
  const kept = keptSteps(run);
  const wanted = step === -1 ? kept.at(-1) : step;
  if (wanted === undefined || !isKept(run, wanted))
    throw settingsError([
      `step: ${run} has no checkpoint ${wanted === undefined ? "yet" : `of step ${wanted}; it has ${kept.join(", ") || "none"}`}`,
    ]);
  expectSound(run, wanted);
  return checkpointFolder(run, wanted);
}

function rolloutSettings({ train, evaluate, environment, batch }: EvaluateValues): RolloutSettings {
  return {
    ...rolloutSampling(evaluate),
    ...{ maxNewTokens: train.maxNewTokens, seed: train.seed, turn2Template: environment.turn2Template },
    ...{ purpose: "evaluate" as const, step: 0, maxRows: batch.rows, maxTokens: batch.tokens },
    limits: limitsOf(environment),
  };
}

/** The memory of the rollouts, with answers of maximum length. */
function memoryOf(backend: Backend, { config, chat, environment, values }: Job): PlannedMemory {
  const { maxRows, maxTokens, temperature, warping, maxNewTokens, turn2Template } = rolloutSettings(values);
  const requests = evaluatedRollouts(environment, values.evaluate);
  return {
    name: "evaluation",
    plan: (limit: MemoryLimit | null) =>
      expectMemory(
        "Evaluating",
        { maxRows, maxTokens },
        (sizes) =>
          planMemory(backend, (planning) =>
            rehearseGeneration(
              emptyModel(planning, config, values.model.precision),
              dialoguesOf(chat, requests, { maxNewTokens, turn2Template }),
              { temperature, warping, ...sizes },
            ),
          ),
        [halve("--batch.rows", "maxRows"), halve("--batch.tokens", "maxTokens")],
        limit,
      ),
  };
}

async function printEvaluationPlan(
  model: PlannedModel,
  path: string,
  environment: Environment,
  values: EvaluateValues,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const { config, chat } = model;
  const { evaluate, train, batch } = values;
  print(`# Settings\n\n${resolvedToml(evaluateCommandSettings, values)}\n`);
  print("# Plan (nothing is written or downloaded by --dry-run)\n");
  const opened = await openBackend({ backend: values.backend, adapter: values.adapter, tune: "off" });
  try {
    progress.line(adapterLine(opened));
    printModel(path, model, print);
    const lengths = lengthsOf(chat, environment, {
      ...{ seed: evaluate.episodeSeed, count: evaluate.episodes, maxNewTokens: train.maxNewTokens },
    });
    const count = evaluate.episodes * evaluate.rollouts;
    const parts = [generationWork(config, "evaluation", count, evaluate.rollouts, lengths)];
    for (const line of workTable(parts, lengths.knowsRight)) print(line);
    print("");
    const fits = await printMemory(
      opened.backend,
      [memoryOf(opened.backend, { config, chat, environment, values })],
      print,
    );
    progress.line("Measuring this adapter …");
    const prompt = Math.max(1, Math.round(lengths.prompt));
    const sizes = {
      ...{
        rows: Math.min(batch.rows, count),
        tokens: batch.tokens,
        trainTokens: batch.tokens,
        prompt,
        recompute: false,
      },
      conversation: prompt + Math.max(1, Math.round(lengths.followUp + lengths.answer.right)),
      ...{ train: null, precision: "f32" as const },
    };
    const rates = await probeRates(opened.backend, config, sizes, fits, signal);
    printTime(parts, rates, lengths.knowsRight, "Not counted: loading.", print);
    print(
      values.out === ""
        ? "Disk: nothing is written"
        : `Disk: about ${formatBytes(diskOf(environment, values))} in ${values.out}, nearly all of it the conversations; ${freeDisk(values.out, diskOf(environment, values))}`,
    );
  } finally {
    opened.backend.destroy();
  }
}
