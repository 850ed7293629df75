// Supervised training on an environment's worked dialogues. It makes the tiny model that the study starts from. Its
// checkpoints are also the control: they are compared with checkpoints of equal reward from reinforcement learning.
//
//   node rl/warm-start.ts rl/presets/tiny/warm-start.toml [--out DIR] [settings]
//
// With warmStart.untilReward it stops at the first evaluation of that reward.
//
// Loss: cross-entropy on the assistant's tokens, end tokens included, mean over the tokens of a batch. No dialogue is seen
// twice. The run resumes from its last saved state.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  backendSettings,
  boolean,
  type CommandContext,
  choice,
  defineSettings,
  expectDiskSpace,
  expectFolderPlace,
  integer,
  lockFolder,
  number,
  runCommand,
  settingsError,
  text,
  UserError,
} from "../engine/host/index.ts";
import { adapterLine, openBackend } from "../engine/index.ts";
import {
  initialise,
  loadChat,
  loadModel,
  loadTokenizer,
  locateModel,
  makeWeights,
  openConfig,
  saveWeights,
  withoutDownload,
} from "../model/index.ts";
import { loadState, saveState } from "./checkpoint.ts";
import { episodeProblems, isWorked } from "./environments/environment.ts";
import { limitsOf } from "./environments/limits.ts";
import {
  environmentApplies,
  environmentProblems,
  formerEnvironmentKeys,
  openEnvironment,
} from "./environments/registry.ts";
import { loadModuleOf } from "./environments/user-module.ts";
import { workedDialogue } from "./environments/worked-dialogues.ts";
import { evaluate, evaluatedRollouts } from "./evaluation.ts";
import { bytesOfWeights } from "./folder-size.ts";
import { type Example, supervisedStep } from "./learn.ts";
import { expectPrecision, openLossScale, savedLossScale } from "./loss-scale.ts";
import { openMetrics } from "./metrics-file.ts";
import { expectSupervisedMemory } from "./plan.ts";
import { expectTemplate, stopIdsOf } from "./rollout.ts";
import { learningRate, type Schedule } from "./schedule.ts";
import { environmentSettings, precisionSetting } from "./settings.ts";
import { present } from "./step-metrics.ts";
import { printWarmStartPlan, stateWeights } from "./warm-start-plan.ts";

export const warmStartSettings = defineSettings(
  {
    out: text({ default: "runs/warm-start", changes: "free", meaning: "the run folder" }),
    ...backendSettings,
    model: {
      path: text({
        default: "",
        meaning:
          "the model whose configuration and tokenizer are used: a folder, or ORG/NAME or ORG/NAME@REVISION on the hub",
      }),
      start: choice({
        default: "random",
        options: ["random", "weights"],
        meaning: "starting weights: random, or those of model.path",
      }),
      seed: integer({ default: 1, min: 0, meaning: "random seed for the starting weights" }),
      embeddingDeviation: number({ default: 0.02, above: 0, meaning: "standard deviation of the random embeddings" }),
    },
    environment: environmentSettings,
    warmStart: {
      seed: integer({ default: 1, min: 0, meaning: "random seed for the dialogues" }),
      dropTags: number({
        default: 0,
        min: 0,
        max: 1,
        meaning: "share of turns whose answer is written without the required tags",
      }),
      steps: integer({ default: 1000, min: 1, unit: "steps", meaning: "training steps" }),
      dialogues: integer({ default: 32, min: 1, unit: "dialogues", meaning: "dialogues per batch" }),
      precision: precisionSetting,
      learningRate: number({ default: 3e-3, above: 0, meaning: "highest learning rate, reached after warmupSteps" }),
      warmupSteps: integer({
        default: 100,
        min: 0,
        unit: "steps",
        meaning: "steps over which the learning rate rises linearly",
      }),
      floorShare: number({
        default: 0.1,
        min: 0,
        max: 1,
        meaning: "last learning rate, as a share of the highest (cosine schedule)",
      }),
      beta1: number({
        default: 0.9,
        min: 0,
        below: 1,
        meaning: "AdamW's beta1: decay rate of the mean of the gradients",
      }),
      beta2: number({
        default: 0.99,
        min: 0,
        below: 1,
        meaning: "AdamW's beta2: decay rate of the mean of the squared gradients",
      }),
      weightDecay: number({ default: 0, min: 0, meaning: "AdamW's weight decay" }),
      maxGradientNorm: number({
        default: 1,
        above: 0,
        meaning: "a gradient with a larger global norm is scaled down to this norm",
      }),
      microBatchTokens: integer({
        default: 4096,
        min: 1,
        unit: "tokens",
        meaning: "maximum tokens per forward and backward pass (micro-batch); a longer dialogue runs by itself",
      }),
      recompute: boolean({
        default: false,
        changes: "free",
        meaning:
          "gradient checkpointing: recompute each layer in the backward pass, for a third more work and much less memory",
      }),
      resumeEvery: integer({
        default: 100,
        min: 1,
        unit: "steps",
        changes: "free",
        meaning: "steps between two saves of the state that a restart needs",
      }),
      logEvery: integer({
        default: 100,
        min: 1,
        unit: "steps",
        meaning: "steps between two log lines, each with the mean loss since the previous line",
      }),
      evaluateEvery: integer({
        default: 1000,
        min: 1,
        unit: "steps",
        meaning: "steps between two evaluations of the reward",
      }),
      untilReward: number({
        default: 0,
        min: 0,
        changes: "free",
        meaning:
          "stop at the first evaluation whose reward is at least this, for a checkpoint of equal reward beside one of GRPO; 0: train all steps",
      }),
      episodes: integer({
        default: 256,
        min: 1,
        unit: "episodes",
        meaning: "episodes per evaluation, at temperature 1",
      }),
      episodeSeed: integer({ default: 4242, min: 0, meaning: "random seed for the evaluation episodes" }),
      maxNewTokens: integer({
        default: 24,
        min: 1,
        unit: "tokens",
        meaning: "maximum length of an answer in an evaluation, per turn",
      }),
    },
  },
  ({ environment, warmStart: { warmupSteps, steps } }) => [
    ...environmentProblems(environment),
    ...(warmupSteps < steps
      ? []
      : [`warmStart.warmupSteps: expected fewer than warmStart.steps = ${steps}, got ${warmupSteps}`]),
  ],
  {
    names: { renamed: formerEnvironmentKeys },
    applies: (key, { environment }) => environmentApplies(key, environment),
  },
);

type Context = CommandContext<(typeof warmStartSettings)["tree"]>;

export async function warmStart({ values, progress, signal, isDryRun }: Context): Promise<void> {
  const { warmStart: settings, model: from, out } = values;
  const environment = await openEnvironment(values.environment, { progress, signal, isDryRun });
  if (!isWorked(environment))
    throw settingsError([
      `environment.name: a warm start learns from worked dialogues, and "${environment.name}" has none. Expected an ` +
        "environment whose episodes have `workedTurns` and which has `draw`.",
    ]);
  const problems = episodeProblems(environment, [
    { setting: "warmStart.episodes", count: settings.episodes, seed: settings.episodeSeed },
  ]);
  if (problems.length > 0) throw settingsError(problems);
  expectFolderPlace(out);
  // A folder that another process uses is refused at once. A new one is made when everything has been checked.
  let unlock = existsSync(out) && !isDryRun ? lockFolder(out) : null;
  const opened = await openBackend({ backend: values.backend, adapter: values.adapter, tune: values.tune });
  const { backend } = opened;
  expectPrecision("--warmStart.precision", settings.precision, opened);
  progress.line(adapterLine(opened));
  const { folder } = await locateModel(from.path, {
    ...{ progress, signal, weights: from.start === "weights" && !isDryRun },
    ...(isDryRun ? withoutDownload() : {}),
  });
  const { config } = await openConfig(folder);
  const chat = await loadChat(folder, await loadTokenizer(folder));
  expectTemplate(
    chat,
    evaluatedRollouts(environment, settings).map(({ episode }) => episode),
    values.environment.turn2Template,
  );
  const { precision } = settings;
  const batchOf = (step: number): Example[] => {
    const dialogues = Array.from({ length: settings.dialogues }, (_, i) =>
      chat.dialogue(workedDialogue(environment, settings, (step - 1) * settings.dialogues + i)),
    );
    const tokens = dialogues.reduce((sum, { mask }) => sum + mask.reduce((a, b) => a + b, 0), 0);
    return dialogues.map((dialogue) => ({ ...dialogue, tokenWeight: 1 / tokens }));
  };
  const evaluation = {
    episodes: settings.episodes,
    episodeSeed: settings.episodeSeed,
    temperature: 1,
    maxNewTokens: settings.maxNewTokens,
    seed: settings.seed,
    turn2Template: values.environment.turn2Template,
    limits: limitsOf(values.environment),
    maxRows: settings.episodes,
    maxTokens: 8192,
    signal,
  };
  const job = {
    ...{ config, chat, environment, evaluation },
    examples: batchOf(1),
    weights: { precision },
    batch: settings,
  };
  if (isDryRun) {
    const { steps, evaluateEvery } = settings;
    const evaluations = Math.ceil(steps / evaluateEvery);
    await printWarmStartPlan(backend, { settings: warmStartSettings, values, job, steps, evaluations, out }, signal);
    return;
  }
  await expectSupervisedMemory(backend, job);
  expectDiskSpace(out, stateWeights(existsSync(join(out, "state"))) * bytesOfWeights(config), "the training");
  const weights =
    from.start === "weights"
      ? (await loadModel(backend, folder, { trainable: true, precision, note: (line) => progress.line(line) })).weights
      : makeWeights(backend, config, { trainable: true, precision });
  unlock ??= lockFolder(out);
  const stateFolder = join(out, "state");
  const resumed = await loadState(stateFolder, weights);
  if (resumed === null && from.start === "random") initialise(weights, config, from.seed, from.embeddingDeviation);
  const first = (resumed?.state.step ?? 0) + 1;
  const model = { backend, config, weights };
  const log = openMetrics(join(out, "log.jsonl"), first - 1);
  const schedule: Schedule = { kind: "cosine", ...settings };
  const phase = progress.phase("warm start", settings.steps, "steps", first - 1);
  let lossSum = resumed?.state.own["lossSum"] ?? 0;
  const lossScale = openLossScale(precision, resumed?.state.own);
  // The reward of an evaluation after the saved step is part of the state, so that a run which stopped there stays stopped.
  const { untilReward } = settings;
  let reached = untilReward > 0 ? (resumed?.state.own["reward"] ?? null) : null;
  const isReached = (): boolean => reached !== null && reached >= untilReward;
  let highest: { readonly step: number; readonly reward: number } | null = null;
  const own = (): Record<string, number> => ({
    lossSum,
    ...savedLossScale(lossScale),
    ...(reached !== null && { reward: reached }),
  });
  let last = first - 1;
  for (let step = first; step <= settings.steps && !isReached(); step++) {
    if (signal.aborted) {
      if (step > first) await saveState(stateFolder, weights, { step: step - 1, own: own() }, settings.resumeEvery);
      progress.close();
      progress.line("Stopped. The same command continues from here.");
      signal.throwIfAborted();
    }
    const examples = batchOf(step);
    const { beta1, beta2, weightDecay, maxGradientNorm } = settings;
    const rate = learningRate(schedule, step);
    const optimiser = { learningRate: rate, beta1, beta2, epsilon: 1e-8, weightDecay, maxGradientNorm };
    const { loss, gradientNorm } = await supervisedStep(model, examples, {
      optimiser,
      maxTokens: settings.microBatchTokens,
      recomputeLayers: settings.recompute,
      lossScale,
      step,
    });
    lossSum += loss;
    last = step;
    reached = null;
    if (step % settings.evaluateEvery === 0 || step === settings.steps) {
      const found = await evaluate(model, chat, environment, evaluation);
      const { reward, formatShare, quality, truncatedShare, failed } = found;
      if (untilReward > 0) reached = reward;
      if (highest === null || reward > highest.reward) highest = { step, reward };
      log.append({
        ...{ step, kind: "evaluation", reward },
        ...present("formatShare", formatShare),
        ...present("quality", quality),
        truncatedShare,
        ...(failed > 0 && { failed }),
      });
      progress.line(
        `step ${step}: reward ${reward.toFixed(3)}` +
          (formatShare === undefined ? "" : `, turns with tags ${formatShare.toFixed(2)}`) +
          (quality === undefined ? "" : `, quality ${quality.toFixed(2)}`) +
          (failed === 0 ? "" : `, ${failed} rollouts failed in the environment`),
      );
    }
    const isLast = step === settings.steps || isReached();
    if (step % settings.logEvery === 0 || isLast) {
      log.append({
        step,
        kind: "training",
        loss: lossSum / (step % settings.logEvery || settings.logEvery),
        gradientNorm,
        learningRate: rate,
        ...(lossScale && { lossScale: lossScale.scale, skippedSteps: lossScale.state.skipped }),
      });
      if (step % settings.logEvery === 0) lossSum = 0;
    }
    if (step % settings.resumeEvery === 0 || isLast)
      await saveState(stateFolder, weights, { step, own: own() }, settings.resumeEvery);
    phase.advance(1, `loss ${loss.toFixed(3)}`);
  }
  phase.done();
  log.close();
  await saveWeights(weights, join(out, "checkpoint"), folder, stopIdsOf(model, chat));
  progress.line(`Checkpoint: ${join(out, "checkpoint")}`);
  unlock();
  if (untilReward === 0) return;
  if (!isReached())
    throw new UserError(
      `warmStart.untilReward: no evaluation up to step ${last} has a reward of ${untilReward}` +
        `${highest === null ? "" : `; the highest is ${highest.reward.toFixed(3)} at step ${highest.step}`}. The checkpoint is that of the ` +
        "last step. Lower it, or start again with more warmStart.steps in another folder (--out).",
    );
  const { evaluateEvery } = settings;
  progress.line(
    `Stopped at step ${last}: reward ${reached?.toFixed(3)} on ${settings.episodes} episodes is at least warmStart.untilReward, ` +
      `${untilReward}. A smaller warmStart.evaluateEvery (now ${evaluateEvery}) or learning rate comes nearer to it.`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await runCommand({
    name: "node rl/warm-start.ts",
    summary: "Supervised training of a random model on worked dialogues of an environment.",
    settings: warmStartSettings,
    positional: [
      { name: "SETTINGS.toml", meaning: "the recipe, such as rl/presets/tiny/warm-start.toml", required: true },
    ],
    settingsFiles: (files) => files,
    examples: [
      [
        "node rl/warm-start.ts rl/presets/tiny/warm-start.toml",
        "makes the tiny model; the same command resumes an interrupted run",
      ],
      ["node rl/warm-start.ts my-recipe.toml --out runs/my-model", "a recipe of your own"],
      [
        "node rl/warm-start.ts my-recipe.toml --model.start weights --warmStart.untilReward 0.8 --warmStart.evaluateEvery 1",
        "trains the model's own weights further, up to a reward",
      ],
    ],
    dryRun:
      "Print the resolved settings, operations, time, memory and disk, and stop: nothing is written or downloaded.",
    prepare: loadModuleOf,
    main: warmStart,
  });
