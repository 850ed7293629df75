// GRPO on verifiable rewards. A step: sample a group of completions per prompt, score them, turn the rewards of each group into
// advantages, then update the weights on the policy loss.
//
// Differences from the papers, with the default settings:
// 1. Rollouts come from the current weights, and each batch gets one update. Sampler and scorer give the same bits, so every
//    ratio is exactly 1 and clipping has no effect. train.updatesPerBatch above 1 changes that, and train.asyncLevel 1, with
//    which rollouts come from the weights of one update before (rl/step-rollouts.ts).
// 2. Advantages are divided by the population standard deviation + train.advantageEpsilon, and are exactly 0 if all rewards of a group are equal.
// 3. No KL penalty (train.klCoefficient adds one). Truncated completions and groups of equal rewards are kept (rl/step-batch.ts).
//    The tokens of all assistant turns count, end tokens included.
//
// After each step come, in this order: evaluation, checkpoint, metrics, state. Each can be repeated. So a kill at any moment
// loses at most the steps since the last saved state, and the resumed run writes the same bytes.
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import {
  ensureFolder,
  gzipMember,
  killPoint,
  type Phase,
  type Progress,
  RunFolderError,
  type Values,
  writeAtomic,
} from "../engine/host/index.ts";
import type { AdamwSettings, ParameterArena } from "../engine/index.ts";
import { type Chat, loadModel, type Model, type Pass, score } from "../model/index.ts";
import { loadState, saveState } from "./checkpoint.ts";
import { type Environment, EpisodeList } from "./environments/environment.ts";
import { EnvironmentError } from "./environments/limits.ts";
import { evaluate } from "./evaluation.ts";
import { boardFolder, metricsPath, stateFolder, trainingRolloutsPath } from "./files/layout.ts";
import { readMetrics } from "./files/metrics.ts";
import { Health } from "./health.ts";
import { checkpointFolder, isKept, keepCheckpoint } from "./kept-checkpoints.ts";
import { type PolicyExample, policyStep, type StepOutcome, type TrainableModel } from "./learn.ts";
import { rateOfUpdate } from "./learning-rate.ts";
import { type LossScale, openLossScale, savedLossScale } from "./loss-scale.ts";
import { dropFromLast, type MetricsRecord, openMetrics } from "./metrics-file.ts";
import { Occupancy } from "./occupancy.ts";
import { packRollouts, unpackRollouts } from "./pending-rollouts.ts";
import { policyLossOf, topEntropyTokens } from "./policy-loss.ts";
import { type Rollout, stopIdsOf } from "./rollout.ts";
import type { batchSettings, environmentSettings, evaluateSettings, trainSettings } from "./settings.ts";
import { type StepBatch, stepBatch } from "./step-batch.ts";
import { countedTokens, present, stepMetrics } from "./step-metrics.ts";
import { rolloutSettings, sampleStep, samplesAhead } from "./step-rollouts.ts";
import { openTensorBoard, type TensorBoardWriter } from "./tensorboard.ts";

export interface TrainingSettings {
  readonly environment: Values<typeof environmentSettings>;
  readonly train: Values<typeof trainSettings>;
  readonly evaluate: Values<typeof evaluateSettings>;
  readonly batch: Values<typeof batchSettings>;
}

export interface TrainingContext {
  model: TrainableModel;
  chat: Chat;
  environment: Environment;
  settings: TrainingSettings;
  /** The run folder. */
  folder: string;
  /**
   * The folder of the starting model. Its tokenizer and configuration are copied into every checkpoint; a KL penalty
   * reads its weights.
   */
  modelFolder: string;
  progress: Progress;
  signal: AbortSignal;
  /**
   * Called with the seconds of each phase of each step, and for rollouts and evaluations the mean occupancy of the
   * generation batch. Clock readings are kept out of the run's results.
   */
  onTiming?: (record: { step: number; phase: string; seconds: number; occupancy?: number }) => void;
}

/**
 * Trains to the last step, starting from the latest saved state of the run folder.
 * @throws RunFolderError when no saved state can be loaded, or when a checkpoint of an earlier step is missing
 */
export async function train(context: TrainingContext): Promise<void> {
  const { model, settings, folder, progress, signal } = context;
  const { steps, resumeEvery } = settings.train;
  const states = stateFolder(folder);
  const resumed = await loadState(states, model.weights);
  if (resumed?.trouble)
    progress.line(`Resuming from step ${resumed.state.step}, because a later state is damaged: ${resumed.trouble}`);
  const first = resumed === null ? 0 : resumed.state.step + 1;
  let tokensSeen = resumed?.state.own["tokensSeen"] ?? 0;
  // With redraws a step's prompts depend on how many the steps before it drew.
  const countsPrompts = settings.train.maxRedraws > 0;
  let promptsDrawn = resumed?.state.own["promptsDrawn"] ?? 0;
  const lossScale = openLossScale(settings.train.precision, resumed?.state.own);
  if (resumed !== null) {
    model.weights.refreshCopies();
    await completeCheckpoints(context, resumed.state.step);
  }
  if (first > steps) return;
  // Sampled rollouts that the next step learns from.
  let pending: Uint8Array | null = resumed?.state.pending ?? null;
  if (settings.train.asyncLevel === 1 && first > 1 && pending === null)
    throw new RunFolderError(
      `${states}: the state after step ${first - 1} has no rollouts for step ${first}. It is the last one of a run with ` +
        "train.keepState none, which cannot be trained further. Delete the folder, and the same command trains again from the " +
        "start, to the same results.",
    );

  ensureFolder(folder);
  const metricsFile = metricsPath(folder);
  // The last step of the shorter run was evaluated because it was the last; a longer run does not evaluate it.
  if (resumed !== null && resumed.state.step % settings.evaluate.every !== 0)
    dropFromLast(metricsFile, resumed.state.step, (metric) => metric.startsWith("eval/"));
  const metrics = openMetrics(metricsFile, first - 1);
  // Metrics reach the disk before the state of their step, so after an interruption they are never behind the state.
  if (metrics.lastStep !== first - 1) {
    metrics.close();
    throw new RunFolderError(
      `${metricsFile}: expected records up to step ${first - 1}, the step of the saved state, got records up to step ` +
        `${metrics.lastStep}. Restore the file from a copy; or delete ${states}, and the same command trains again from the ` +
        "start, to the same results.",
    );
  }
  const tensorBoard = openTensorBoard(boardFolder(folder), Date.now() / 1000, first);
  const episodes = new EpisodeList(context.environment, settings.train.episodeSeed);
  progress.line(ratioNote(settings.train));
  // It begins with the first step, so that the evaluation of the starting model is no part of the time per step.
  let phase: Phase | null = null;
  const reference = await openReference(context);
  const health = new Health(settings.train, first > 1 ? firstEntropyOf(metricsFile) : null);
  const occupancy = new Occupancy();
  let unsaved = false;
  const save = async (step: number): Promise<void> => {
    await saveState(
      states,
      model.weights,
      {
        step,
        own: { tokensSeen, ...(countsPrompts && { promptsDrawn }), ...savedLossScale(lossScale) },
        ...(pending !== null && { pending }),
      },
      resumeEvery,
    );
    unsaved = false;
  };
  let done = first - 1;
  // The step whose update is in the weights. Between the update and its metrics record it is one ahead of `done`; saving then
  // would label the weights with the wrong step.
  let applied = done;
  let isEnvironmentFailing = false;
  let toldFailure = false;
  try {
    for (let step = first; step <= steps; step++) {
      signal.throwIfAborted();
      const began = performance.now();
      const record: Record<string, number> = {};
      if (step > 0) {
        phase ??= progress.phase("GRPO", steps, "steps", step - 1);
        const firstPrompt = countsPrompts ? promptsDrawn : null;
        const taken = await trainingStep(
          context,
          { episodes, step, firstPrompt, pending, lossScale, reference, occupancy, phase },
          () => {
            applied = step;
          },
        );
        pending = taken.next;
        tokensSeen += taken.tokens;
        promptsDrawn += taken.prompts;
        Object.assign(record, taken.metrics, { num_tokens: tokensSeen });
        if (taken.failure !== null && !toldFailure) {
          toldFailure = true;
          progress.line(failureNote(step, taken.failure));
        }
        const groups = taken.prompts - taken.dropped;
        for (const line of health.check({ step, metrics: taken.metrics, hasSignal: taken.hasSignal, groups }))
          progress.line(line);
      }
      killPoint("step");
      if (step % settings.evaluate.every === 0 || step === steps)
        Object.assign(record, await evaluationRecord(context, step, phase ?? progress));
      if (settings.train.checkpoints.includes(step))
        await keepCheckpoint(folder, step, model.weights, context.modelFolder, stopIdsOf(model, context.chat));
      metrics.append({ step, ...record });
      const seconds = (performance.now() - began) / 1000;
      draw(tensorBoard, { step, ...record, ...(step > 0 && { step_time: seconds }) });
      if (step > 0) context.onTiming?.({ step, phase: "step", seconds });
      done = step;
      applied = step;
      unsaved = true;
      if (step === 0 || step % resumeEvery === 0 || step === steps) await save(step);
      phase?.advance(1, describeStep(record));
    }
    if (steps > 0) progress.line(health.admission());
  } catch (thrown) {
    isEnvironmentFailing = thrown instanceof EnvironmentError;
    throw thrown;
  } finally {
    // Ctrl-C and a failing environment lose the current step; the steps before it are saved here.
    if (unsaved && (signal.aborted || isEnvironmentFailing) && applied === done) await save(done);
    reference?.weights.free();
    metrics.close();
    tensorBoard.close();
    phase?.done();
  }
  if (occupancy.share !== null) progress.line(occupancyNote(occupancy.share, settings.batch.rows));
}

/**
 * Writes the checkpoint of `step`, the step of the current weights, if it is wanted. Checkpoints of earlier steps must
 * exist.
 */
async function completeCheckpoints(context: TrainingContext, step: number): Promise<void> {
  const { model, settings, folder, modelFolder } = context;
  const missing = settings.train.checkpoints.filter((kept) => kept <= step && !isKept(folder, kept));
  const lost = missing.find((kept) => kept < step);
  if (lost !== undefined)
    throw new RunFolderError(
      `${checkpointFolder(folder, lost)}: missing, and training is already at step ${step}. Restore it (and its .sha256) ` +
        `from a copy; or delete ${stateFolder(folder)}, and the same command trains again from the start, to the same ` +
        "weights, and keeps it.",
    );
  if (missing.length > 0)
    await keepCheckpoint(folder, step, model.weights, modelFolder, stopIdsOf(model, context.chat));
}

function draw(tensorBoard: TensorBoardWriter, { step, ...record }: MetricsRecord): void {
  for (const [name, value] of Object.entries(record))
    if (typeof value === "number") tensorBoard.scalar(name, value, step, Date.now() / 1000);
}

/** The entropy of the run's first step. */
function firstEntropyOf(path: string): number | null {
  return readMetrics(path, () => {}).find(({ step }) => step === 1)?.entropy ?? null;
}

function describeStep(record: Readonly<Record<string, number>>): string {
  const evaluated = record["eval/reward"];
  const failed = record["completions/failed"] + (record["eval/completions/failed"] ?? 0);
  return (
    `reward ${record["reward"].toFixed(2)}${evaluated === undefined ? "" : `, evaluated ${evaluated.toFixed(2)}`}` +
    (failed > 0 ? `, ${failed} rollouts failed` : "")
  );
}

/** A line about the effect of clipping in this run, printed once at its start. */
function ratioNote({ asyncLevel, updatesPerBatch, loss }: Values<typeof trainSettings>): string {
  const bounds = {
    clipped: "train.clipLow and train.clipHigh",
    "masked-importance": "train.ratioLow and train.ratioHigh",
    cispo: "train.ratioCap and train.importanceLevel",
    sapo: "train.sapoPositive and train.sapoNegative",
  }[loss];
  if (asyncLevel === 1)
    return `Rollouts come from the weights of one update before: from step 2 on, ${bounds} limit the effect of a ratio.`;
  if (updatesPerBatch > 1)
    return `${updatesPerBatch} updates per batch: from the second one on, ${bounds} limit the effect of a ratio.`;
  return (
    `One update per batch: every ratio is 1, so ${bounds} have no effect in training. They have an effect with ` +
    "--train.updatesPerBatch 2 or more, or with --train.asyncLevel 1."
  );
}

function failureNote(step: number, failure: string): string {
  return (
    `Step ${step}: a rollout failed in the environment and is left out of its group: ${failure}\nThis is said once: ` +
    "completions/failed in metrics.jsonl is the number in each step, and rollouts/ has the reasons."
  );
}

function occupancyNote(share: number, rows: number): string {
  return (
    `Rollouts: on average ${(100 * share).toFixed(0)}% of the generation batch's places were in use. It has --batch.rows ` +
    `(${rows}) places, or as many as a step has conversations if these are fewer.`
  );
}

/** The frozen starting model, the reference of the KL penalty; null if no step has a penalty. The caller frees it. */
async function openReference({ model, settings, modelFolder }: TrainingContext): Promise<ReferenceModel | null> {
  const { klCoefficient, precision, steps } = settings.train;
  if (klCoefficient === 0 || steps === 0) return null;
  const { config, weights } = await loadModel(model.backend, modelFolder, { precision });
  return { backend: model.backend, config, weights };
}

type ReferenceModel = Model & { readonly weights: ParameterArena };

interface StepInputs {
  readonly episodes: EpisodeList;
  readonly step: number;
  /** Position of the step's first prompt in the list, if it depends on earlier steps; null: (step − 1) · promptsPerStep. */
  readonly firstPrompt: number | null;
  /** The step's rollouts if they were sampled in the step before (`packRollouts`). */
  readonly pending: Uint8Array | null;
  readonly lossScale: LossScale | null;
  readonly reference: ReferenceModel | null;
  /** Of the rollouts of all steps of this process. */
  readonly occupancy: Occupancy;
  /** Of the whole training; the step's rollouts are shown inside it. */
  readonly phase: Phase;
}

/** @param beforeUpdate  called when the rollouts are done and the weights are about to change */
async function trainingStep(
  context: TrainingContext,
  { episodes, step, firstPrompt, pending, lossScale, reference, occupancy, phase }: StepInputs,
  beforeUpdate: () => void,
): Promise<{
  /** The rollouts of the next step, if they are sampled in this one. */
  next: Buffer | null;
  metrics: Record<string, number>;
  tokens: number;
  prompts: number;
  dropped: number;
  failure: string | null;
  hasSignal: boolean;
}> {
  const { model, settings, folder, signal, onTiming } = context;
  const { train: training, batch } = settings;
  const { promptsPerStep, updatesPerBatch } = training;
  const clock = stopwatch((timing) => onTiming?.({ step, ...timing }));
  const ofStep = new Occupancy();
  const sample = async (of: number, from: number): Promise<Rollout[][]> => {
    const onPass = (pass: Pass): void => {
      ofStep.add(pass);
      occupancy.add(pass);
    };
    const sampled = await sampleStep(context, episodes, { step: of, first: from, onPass, phase });
    killPoint("rollout");
    return sampled;
  };
  const first = firstPrompt ?? (step - 1) * promptsPerStep;
  const groups = pending === null ? await sample(step, first) : unpackRollouts(pending).groups;
  const next = samplesAhead(training, step)
    ? packRollouts({ step: step + 1, groups: await sample(step + 1, first + groups.length) })
    : null;
  clock("rollouts", ofStep);

  const drawn = stepBatch(groups, training);
  const scores =
    reference &&
    (await score(reference, drawn.examples, {
      ...{ temperature: training.temperature, maxTokens: batch.trainTokens, signal },
    }));
  const examples = drawn.examples.map((example, i) => ({ ...example, referenceLogProbs: scores?.[i].logProbs }));
  if (reference !== null) clock("reference");
  beforeUpdate();
  const outcomes: StepOutcome[] = [];
  const rates: number[] = [];
  for (let update = 1; update <= updatesPerBatch; update++) {
    const count = (step - 1) * updatesPerBatch + update;
    const learningRate = rateOfUpdate(training, count - 1, training.steps * updatesPerBatch);
    rates.push(learningRate);
    outcomes.push(
      await policyStep(model, await withTopEntropy(context, examples), {
        optimiser: { ...optimiserOf(training), learningRate },
        maxTokens: batch.trainTokens,
        recomputeLayers: batch.recompute,
        lossScale,
        step: count,
        temperature: training.temperature,
        loss: policyLossOf(training),
      }),
    );
  }
  clock("learning");
  keepRollouts(folder, step, drawn);
  clock("writing");
  return {
    next,
    metrics: {
      ...stepMetrics({ ...drawn, outcomes, settings: training, learningRate: rates[0] }),
      ...(training.equalGroups === "drop" && { "groups/drawn": groups.length, "groups/dropped": drawn.dropped }),
      ...(lossScale && { loss_scale: lossScale.scale, skipped_steps: lossScale.state.skipped }),
    },
    tokens: countedTokens(groups.flat()),
    prompts: groups.length,
    dropped: drawn.dropped,
    failure: groups.flat().find(({ failure }) => failure !== null)?.failure ?? null,
    hasSignal:
      reference !== null || training.entropyCoefficient > 0 || examples.some(({ advantage }) => advantage !== 0),
  };
}

/** The examples with the tokens of highest entropy under the current weights, if only these count. */
async function withTopEntropy(
  { model, settings, signal }: TrainingContext,
  examples: readonly PolicyExample[],
): Promise<readonly PolicyExample[]> {
  const { topEntropyQuantile, temperature } = settings.train;
  if (topEntropyQuantile === 1) return examples;
  const scores = await score(model, examples, { temperature, maxTokens: settings.batch.trainTokens, signal });
  const kept = topEntropyTokens(
    scores.map(({ entropy }) => entropy),
    topEntropyQuantile,
  );
  return examples.map((example, i) => ({ ...example, kept: kept[i] }));
}

function optimiserOf(training: Values<typeof trainSettings>): Omit<AdamwSettings, "learningRate"> {
  const { beta1, beta2, epsilon, weightDecay, maxGradientNorm } = training;
  return { beta1, beta2, epsilon, weightDecay, maxGradientNorm };
}

/** @param around  where its progress is shown */
async function evaluationRecord(
  context: TrainingContext,
  step: number,
  around: Pick<Progress, "phase">,
): Promise<Record<string, number>> {
  const { settings, onTiming } = context;
  const clock = stopwatch((timing) => onTiming?.({ step, ...timing }));
  const occupancy = new Occupancy();
  const phase = around.phase(`evaluation of step ${step}`, settings.evaluate.episodes, "rollouts");
  const evaluation = await evaluate(context.model, context.chat, context.environment, {
    ...rolloutSettings(context),
    // Ctrl-C waits for the evaluation: its step is already in the weights and is saved together with its record.
    signal: undefined,
    temperature: settings.evaluate.temperature,
    episodes: settings.evaluate.episodes,
    episodeSeed: settings.evaluate.episodeSeed,
    onPass: (pass) => {
      occupancy.add(pass);
      phase.advance(pass.finished);
    },
  }).finally(() => phase.done());
  clock("evaluation", occupancy);
  return {
    "eval/reward": evaluation.reward,
    "eval/reward_standard_error": evaluation.rewardStandardError,
    ...present("eval/format_share", evaluation.formatShare),
    ...present("eval/quality", evaluation.quality),
    ...Object.fromEntries(
      Object.entries(evaluation.rewards).map(([name, mean]) => [`eval/rewards/${name}/mean`, mean]),
    ),
    ...(evaluation.failed > 0 && { "eval/completions/failed": evaluation.failed }),
    "eval/completions/mean_length": evaluation.meanTokens,
    "eval/completions/clipped_ratio": evaluation.lastTruncatedShare,
    "eval/completions/truncated_share": evaluation.truncatedShare,
  };
}

/** Writes the conversations of the step for people to read, one per line: rollouts/step-000001.jsonl.gz. */
function keepRollouts(folder: string, step: number, { groups, advantages, used }: StepBatch): void {
  const path = trainingRolloutsPath(folder, step);
  if (!existsSync(dirname(path))) ensureFolder(dirname(path));
  const lines = groups.flat().map(({ episode, rollout, reward, parts, tokens, isTruncated, failure, messages }, i) => {
    const leftOut = used[i] ? {} : { isUsed: false };
    const about = {
      episode,
      rollout,
      reward,
      advantage: advantages[i],
      ...leftOut,
      ...parts,
      tokens,
      isTruncated,
      failure,
    };
    return JSON.stringify({ ...about, messages });
  });
  writeAtomic(path, gzipMember(`${lines.join("\n")}\n`));
}

/** Each call reports the seconds since the previous call, and the occupancy if there were passes. */
function stopwatch(
  report: (timing: { phase: string; seconds: number; occupancy?: number }) => void,
): (phase: string, passes?: Occupancy) => void {
  let start = performance.now();
  return (phase, passes) => {
    const now = performance.now();
    const share = passes?.share ?? null;
    report({ phase, seconds: (now - start) / 1000, ...(share !== null && { occupancy: share }) });
    start = now;
  };
}
