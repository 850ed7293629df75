// GRPO on verifiable rewards. A step: roll out a group of completions for each prompt, score them, turn rewards into
// advantages within each group, one optimiser step on the clipped token-level surrogate.
//
// How it stands to the papers and to the study:
// 1. One update a batch from rollouts of the current weights (asyncLevel 0), so ratios are 1 but for rounding.
// 2. Advantages divide by the population's standard deviation + 1e-8 and are 0 where a group's rewards are equal.
// 3. No KL penalty. Truncated completions stay in. All assistant tokens of all turns count, end tokens included.
//
// After step s come, in this order: evaluation, checkpoint, metrics, state. Each can be done again, so a kill at any moment
// costs at most the steps since the last state, and the run that goes on writes the same bytes.
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  ensureFolder,
  gzipMember,
  killPoint,
  type Progress,
  RunFolderError,
  type Values,
  writeAtomic,
} from "../engine/host/index.ts";
import type { AdamwSettings, ParameterArena } from "../engine/index.ts";
import { type Chat, loadModel, type Model, score } from "../model/index.ts";
import { batchAdvantages } from "./advantage.ts";
import { loadState, saveState } from "./checkpoint.ts";
import { type Environment, EpisodeList } from "./environments/environment.ts";
import { evaluate } from "./evaluate.ts";
import { checkpointFolder, isKept, keepCheckpoint, stepName } from "./kept-checkpoints.ts";
import { policyLossOf, policyStep, type StepOutcome, type TrainableModel } from "./learn.ts";
import { type LossScale, openLossScale, savedLossScale } from "./loss-scale.ts";
import { dropFromLast, type MetricsRecord, openMetrics } from "./metrics-file.ts";
import { type Rollout, type RolloutSettings, rollOut } from "./rollout.ts";
import type { batchSettings, environmentSettings, evaluateSettings, trainSettings } from "./settings.ts";
import { countedTokens, stepMetrics } from "./step-metrics.ts";
import { openTensorBoard, type TensorBoardWriter } from "./tensorboard.ts";
import { tokenWeights } from "./token-weights.ts";

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
  /** The folder the model came from: its tokenizer and configuration go along with every checkpoint. */
  modelFolder: string;
  progress: Progress;
  signal: AbortSignal;
  /** Takes the seconds of each phase of each step: clock readings stay out of the run's results. */
  onTiming?: (record: { step: number; phase: string; seconds: number }) => void;
}

/**
 * Trains to the last step, from wherever the run folder stands.
 * @throws RunFolderError when no saved state is sound, or when a checkpoint is missing that training has passed
 */
export async function train(context: TrainingContext): Promise<void> {
  const { model, settings, folder, progress, signal } = context;
  const { steps, resumeEvery } = settings.train;
  const stateFolder = join(folder, "state");
  const resumed = await loadState(stateFolder, model.weights);
  if (resumed?.trouble)
    progress.line(`Going on from step ${resumed.state.step}, since a later state is damaged: ${resumed.trouble}`);
  const first = resumed === null ? 0 : resumed.state.step + 1;
  let tokensSeen = resumed?.state.own["tokensSeen"] ?? 0;
  const lossScale = openLossScale(settings.train.precision, resumed?.state.own);
  if (resumed !== null) {
    model.weights.refreshCopies();
    await completeCheckpoints(context, resumed.state.step);
  }
  if (first > steps) return;

  ensureFolder(folder);
  const metricsPath = join(folder, "metrics.jsonl");
  // A shorter run was evaluated after its last step, whether or not it was that step's turn.
  if (resumed !== null && resumed.state.step % settings.evaluate.every !== 0)
    dropFromLast(metricsPath, resumed.state.step, (metric) => metric.startsWith("eval/"));
  const metrics = openMetrics(metricsPath, first - 1);
  // Metrics reach the disk before the state of their step, so no interrupted run leaves them behind it.
  if (metrics.lastStep !== first - 1) {
    metrics.close();
    throw new RunFolderError(
      `${metricsPath}: expected records up to step ${first - 1}, of which the saved state is, found them up to step ` +
        `${metrics.lastStep}. Restore the file from a copy; or delete ${stateFolder}, and the same command trains again from the ` +
        "start, to the same results.",
    );
  }
  const tensorBoard = openTensorBoard(join(folder, "tensorboard"), Date.now() / 1000, first);
  const episodes = new EpisodeList(context.environment, settings.train.episodeSeed);
  progress.line(ratioNote(settings.train));
  const phase = progress.phase("GRPO", steps, "steps", Math.max(first - 1, 0));
  const reference = await openReference(context);
  let toldNoSignal = false;
  let unsaved = false;
  const save = async (step: number): Promise<void> => {
    await saveState(
      stateFolder,
      model.weights,
      { step, own: { tokensSeen, ...savedLossScale(lossScale) } },
      resumeEvery,
    );
    unsaved = false;
  };
  let done = first - 1;
  // The step whose update the weights hold: from the update to the record it is ahead of `done`, and must not be saved as it.
  let applied = done;
  try {
    for (let step = first; step <= steps; step++) {
      signal.throwIfAborted();
      const record: Record<string, number> = {};
      if (step > 0) {
        const taken = await trainingStep(context, { episodes, step, lossScale, reference }, () => {
          applied = step;
        });
        tokensSeen += taken.tokens;
        Object.assign(record, taken.metrics, { num_tokens: tokensSeen });
        if (!taken.hasSignal && !toldNoSignal) {
          toldNoSignal = true;
          progress.line(noSignalNote(step));
        }
      }
      killPoint("step");
      if (step % settings.evaluate.every === 0 || step === steps)
        Object.assign(record, await evaluationRecord(context, step));
      if (settings.train.checkpoints.includes(step))
        await keepCheckpoint(folder, step, model.weights, context.modelFolder);
      metrics.append({ step, ...record });
      draw(tensorBoard, { step, ...record });
      done = step;
      applied = step;
      unsaved = true;
      if (step === 0 || step % resumeEvery === 0 || step === steps) await save(step);
      if (step > 0) phase.advance(1, describeStep(record));
    }
  } finally {
    // What a Ctrl-C interrupts is the step under way; those before it are kept.
    if (unsaved && signal.aborted && applied === done) await save(done);
    reference?.weights.free();
    metrics.close();
    tensorBoard.close();
    phase.done();
  }
}

/** Writes the checkpoint of the step that the weights are of, if it is wanted; those of earlier steps must be there. */
async function completeCheckpoints({ model, settings, folder, modelFolder }: TrainingContext, step: number) {
  const missing = settings.train.checkpoints.filter((kept) => kept <= step && !isKept(folder, kept));
  const lost = missing.find((kept) => kept < step);
  if (lost !== undefined)
    throw new RunFolderError(
      `${checkpointFolder(folder, lost)}: missing, and training has gone on to step ${step}. Restore it (and its .sha256) ` +
        `from a copy; or delete ${join(folder, "state")}, and the same command trains again from the start, to the same ` +
        "weights, and keeps it.",
    );
  if (missing.length > 0) await keepCheckpoint(folder, step, model.weights, modelFolder);
}

function draw(tensorBoard: TensorBoardWriter, { step, ...record }: MetricsRecord): void {
  for (const [name, value] of Object.entries(record))
    if (typeof value === "number") tensorBoard.scalar(name, value, step, Date.now() / 1000);
}

function describeStep(record: Readonly<Record<string, number>>): string {
  const evaluated = record["eval/reward"];
  return `reward ${record["reward"].toFixed(2)}${evaluated === undefined ? "" : `, evaluated ${evaluated.toFixed(2)}`}`;
}

function rolloutSettings({
  settings,
  signal,
}: TrainingContext): Omit<RolloutSettings, "purpose" | "step" | "temperature"> {
  const { environment, train: training, batch } = settings;
  return {
    maxNewTokens: training.maxNewTokens,
    seed: training.seed,
    turn2Template: environment.turn2Template,
    maxRows: batch.rows,
    maxTokens: batch.tokens,
    signal,
  };
}

/** What clipping can do in this run, said once at its start. */
function ratioNote({ updatesPerBatch, loss }: Values<typeof trainSettings>): string {
  const bounds = loss === "clipped" ? "train.clipLow and train.clipHigh" : "train.ratioLow and train.ratioHigh";
  if (updatesPerBatch > 1)
    return `${updatesPerBatch} updates per batch: from the second one on, ${bounds} limit how far a ratio counts.`;
  return (
    `One update per batch: every ratio is 1, so ${bounds} have no effect in training. They have with ` +
    "--train.updatesPerBatch 2 or more."
  );
}

function noSignalNote(step: number): string {
  return (
    `Step ${step}: within every group all rewards are equal, so there is nothing to learn from. The backward pass is ` +
    "skipped; only the optimiser's momentum and weight decay change the weights. This is said once: frac_reward_zero_std " +
    "in metrics.jsonl is the share of such groups in each step."
  );
}

/** The frozen starting model that the KL penalty is taken from; null where there is no penalty. The caller frees it. */
async function openReference({ model, settings, modelFolder }: TrainingContext): Promise<ReferenceModel | null> {
  const { klCoefficient, precision } = settings.train;
  if (klCoefficient === 0) return null;
  const { config, weights } = await loadModel(model.backend, modelFolder, { precision });
  return { backend: model.backend, config, weights };
}

type ReferenceModel = Model & { readonly weights: ParameterArena };

interface StepInputs {
  readonly episodes: EpisodeList;
  readonly step: number;
  readonly lossScale: LossScale | null;
  readonly reference: ReferenceModel | null;
}

/** @param beforeUpdate  called when the rollouts are done and the weights are about to change */
async function trainingStep(
  context: TrainingContext,
  { episodes, step, lossScale, reference }: StepInputs,
  beforeUpdate: () => void,
): Promise<{ metrics: Record<string, number>; tokens: number; hasSignal: boolean }> {
  const { model, chat, settings, folder, signal, onTiming } = context;
  const { train: training, batch } = settings;
  const { promptsPerStep, rolloutsPerPrompt: G, updatesPerBatch } = training;
  const clock = stopwatch((phase, seconds) => onTiming?.({ step, phase, seconds }));
  const requests = episodes
    .slice((step - 1) * promptsPerStep, promptsPerStep)
    .flatMap((episode) => Array.from({ length: G }, (_, rollout) => ({ episode, rollout })));
  const rollouts = await rollOut(model, chat, requests, {
    ...rolloutSettings(context),
    temperature: 1,
    purpose: "train",
    step,
  });
  killPoint("rollout");
  clock("rollouts");

  const rewards = rollouts.map(({ reward }) => reward);
  const advantages = [...batchAdvantages(training.advantage, rewards, G)];
  const weights = tokenWeights(
    training.normalisation,
    rollouts.map(({ tokens }, i) => ({ tokens, group: Math.floor(i / G) })),
    training.maxNewTokens,
  );
  const scores =
    reference && (await score(reference, rollouts, { temperature: 1, maxTokens: batch.trainTokens, signal }));
  const examples = rollouts.map((rollout, i) => ({
    ...rollout,
    advantage: advantages[i],
    tokenWeight: weights[i],
    referenceLogProbs: scores?.[i].logProbs,
  }));
  if (reference !== null) clock("reference");
  beforeUpdate();
  const outcomes: StepOutcome[] = [];
  for (let update = 1; update <= updatesPerBatch; update++)
    outcomes.push(
      await policyStep(model, examples, {
        optimiser: optimiserOf(training),
        maxTokens: batch.trainTokens,
        recomputeLayers: batch.recompute,
        lossScale,
        step: (step - 1) * updatesPerBatch + update,
        loss: policyLossOf(training),
      }),
    );
  clock("learning");
  keepRollouts(folder, step, rollouts, advantages);
  clock("writing");
  const groups = Array.from({ length: promptsPerStep }, (_, g) => rollouts.slice(g * G, (g + 1) * G));
  return {
    metrics: {
      ...stepMetrics({ groups, advantages, outcomes, settings: training }),
      ...(lossScale && { loss_scale: lossScale.scale, skipped_steps: lossScale.state.skipped }),
    },
    tokens: countedTokens(rollouts),
    hasSignal: reference !== null || advantages.some((advantage) => advantage !== 0),
  };
}

function optimiserOf(training: Values<typeof trainSettings>): AdamwSettings {
  const { learningRate, beta1, beta2, epsilon, weightDecay, maxGradientNorm } = training;
  return { learningRate, beta1, beta2, epsilon, weightDecay, maxGradientNorm };
}

async function evaluationRecord(context: TrainingContext, step: number): Promise<Record<string, number>> {
  const { settings, onTiming } = context;
  const clock = stopwatch((phase, seconds) => onTiming?.({ step, phase, seconds }));
  const found = await evaluate(context.model, context.chat, context.environment, {
    ...rolloutSettings(context),
    // A Ctrl-C waits for it: the step it belongs to is in the weights already, and is kept with its record.
    signal: undefined,
    temperature: settings.evaluate.temperature,
    episodes: settings.evaluate.episodes,
    episodeSeed: settings.evaluate.episodeSeed,
  });
  clock("evaluation");
  return {
    "eval/reward": found.reward,
    "eval/reward_standard_error": found.rewardStandardError,
    "eval/format_share": found.formatShare,
    "eval/quality": found.quality,
    "eval/completions/mean_length": found.meanTokens,
    "eval/completions/clipped_ratio": found.lastTruncatedShare,
    "eval/completions/truncated_share": found.truncatedShare,
  };
}

/** The step's conversations, one line each, for people: rollouts/step-000001.jsonl.gz. */
function keepRollouts(folder: string, step: number, rollouts: readonly Rollout[], advantages: readonly number[]): void {
  const place = join(folder, "rollouts");
  if (!existsSync(place)) ensureFolder(place);
  const lines = rollouts.map(({ episode, rollout, reward, parts, isTruncated, failure, messages }, i) =>
    JSON.stringify({ episode, rollout, reward, advantage: advantages[i], ...parts, isTruncated, failure, messages }),
  );
  writeAtomic(join(place, `${stepName(step)}.jsonl.gz`), gzipMember(`${lines.join("\n")}\n`));
}

/** Each call reports the seconds since the one before. */
function stopwatch(report: (phase: string, seconds: number) => void): (phase: string) => void {
  let start = performance.now();
  return (phase) => {
    const now = performance.now();
    report(phase, (now - start) / 1000);
    start = now;
  };
}
