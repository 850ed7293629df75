// Training on verifiable rewards: GRPO, or evolution strategies (rl/evolution.ts). A step of GRPO (rl/training-step.ts): sample a
// group of completions per prompt, score them, turn the rewards of each group into advantages, then update the weights on
// the policy loss.
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
import { ensureFolder, killPoint, type Phase, type Progress, RunFolderError } from "../engine/host/index.ts";
import { loadModel } from "../model/index.ts";
import { loadState, saveState } from "./checkpoint.ts";
import { EpisodeList } from "./environments/environment.ts";
import { EnvironmentError } from "./environments/user-values.ts";
import { evaluate } from "./evaluation.ts";
import { restoredFitness, savedFitness } from "./evolution-step.ts";
import { boardFolder, metricsPath, stateFolder } from "./files/layout.ts";
import { readMetrics } from "./files/metrics.ts";
import { Health } from "./health.ts";
import { checkpointFolder, isKept, keepCheckpoint } from "./kept-checkpoints.ts";
import { answersBefore, dropOtherEvaluations, keepEvaluation } from "./kept-evaluations.ts";
import { openLossScale, savedLossScale } from "./loss-scale.ts";
import { dropFromLast, type MetricsRecord, openMetrics } from "./metrics-file.ts";
import { Occupancy } from "./occupancy.ts";
import { stopIdsOf } from "./rollout.ts";
import { present } from "./step-metrics.ts";
import { rolloutSettings } from "./step-rollouts.ts";
import { openTensorBoard, type TensorBoardWriter } from "./tensorboard.ts";
import { stopwatch, type TrainingContext } from "./training-context.ts";
import {
  DraftedShare,
  describeStep,
  evolutionNote,
  failureNote,
  occupancyNote,
  randomRewardNote,
  ratioNote,
} from "./training-notes.ts";
import { evolutionStep, type ReferenceModel, trainingStep } from "./training-step.ts";

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
  const countsPrompts = settings.train.method === "grpo" && settings.train.maxRedraws > 0;
  let promptsDrawn = resumed?.state.own["promptsDrawn"] ?? 0;
  const isEvolution = settings.train.method === "evolve";
  let fitness = restoredFitness(resumed?.state.own, settings.train);
  const lossScale = openLossScale(settings.train.precision, resumed?.state.own);
  if (resumed !== null) {
    model.weights.refreshCopies();
    await completeCheckpoints(context, resumed.state.step);
  }
  if (first > steps) return;
  // Sampled rollouts that the next step learns from.
  let pending: Uint8Array | null = resumed?.state.pending ?? null;
  if (!isEvolution && settings.train.asyncLevel === 1 && first > 1 && pending === null)
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
  const isEvaluated = (step: number): boolean => step % settings.evaluate.every === 0 || step === steps;
  dropOtherEvaluations(folder, isEvaluated);
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
  progress.line(isEvolution ? evolutionNote(settings.train) : ratioNote(settings.train));
  const rewardNote = randomRewardNote(settings.train);
  if (rewardNote !== null) progress.line(rewardNote);
  // It begins with the first step, so that the evaluation of the starting model is no part of the time per step.
  let phase: Phase | null = null;
  const reference = await openReference(context);
  const health = new Health(settings.train, first > 1 ? readMetrics(metricsFile, () => {}) : []);
  const occupancy = new Occupancy();
  const drafted = new DraftedShare();
  let unsaved = false;
  const save = async (step: number): Promise<void> => {
    await saveState(
      states,
      model.weights,
      {
        step,
        own: {
          tokensSeen,
          ...(countsPrompts && { promptsDrawn }),
          ...savedLossScale(lossScale),
          ...savedFitness(fitness),
        },
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
        phase ??= progress.phase(isEvolution ? "Evolution strategies" : "GRPO", steps, "steps", step - 1);
        const firstPrompt = countsPrompts ? promptsDrawn : null;
        const beforeUpdate = (): void => {
          applied = step;
        };
        const inputs = { episodes, step, firstPrompt, pending, lossScale, reference, occupancy, phase, fitness };
        const taken = await (isEvolution ? evolutionStep : trainingStep)(context, inputs, beforeUpdate);
        fitness = taken.fitness;
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
      if (isEvaluated(step)) Object.assign(record, await evaluationRecord(context, step, phase ?? progress, drafted));
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
    if (steps > 0 && !isEvolution) progress.line(health.admission());
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
  if (settings.evaluate.drafts === "on" && drafted.note !== null) progress.line(drafted.note);
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

/** The frozen starting model, the reference of the KL penalty; null if no step has a penalty. The caller frees it. */
async function openReference({ model, settings, modelFolder }: TrainingContext): Promise<ReferenceModel | null> {
  const { method, klCoefficient, precision, steps } = settings.train;
  if (method === "evolve" || klCoefficient === 0 || steps === 0) return null;
  const { config, weights } = await loadModel(model.backend, modelFolder, { precision });
  return { backend: model.backend, config, weights };
}

/**
 * @param around   where its progress is shown
 * @param drafted  counts what drafts were worth, if there are any
 */
async function evaluationRecord(
  context: TrainingContext,
  step: number,
  around: Pick<Progress, "phase">,
  drafted: DraftedShare,
): Promise<Record<string, number>> {
  const { settings, folder, progress, onTiming } = context;
  const counts = { tokens: 0, drafted: 0, spared: 0 };
  const earlier =
    settings.evaluate.drafts === "on" ? answersBefore(folder, step, (message) => progress.line(message)) : null;
  const clock = stopwatch((timing) => onTiming?.({ step, ...timing, ...counts }));
  const occupancy = new Occupancy();
  const phase = around.phase(`evaluation of step ${step}`, settings.evaluate.episodes, "rollouts");
  const evaluation = await evaluate(context.model, context.chat, context.environment, {
    ...rolloutSettings(context),
    // Ctrl-C waits for the evaluation: its step is already in the weights and is saved together with its record.
    signal: undefined,
    temperature: settings.evaluate.temperature,
    episodes: settings.evaluate.episodes,
    episodeSeed: settings.evaluate.episodeSeed,
    earlier,
    onPass: (pass) => {
      counts.tokens += pass.sampled;
      counts.drafted += pass.drafted;
      counts.spared += pass.spared;
      occupancy.add(pass);
      phase.advance(pass.finished);
    },
  }).finally(() => phase.done());
  clock("evaluation", occupancy);
  if (earlier !== null) drafted.add(counts);
  keepEvaluation(folder, step, evaluation.rollouts);
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
