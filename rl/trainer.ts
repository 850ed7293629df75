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
import { type AdamwSettings, type Normalisation, normalisationWeights, surrogateStatistics } from "../engine/index.ts";
import type { Chat } from "../model/index.ts";
import { groupAdvantages } from "./advantage.ts";
import { loadState, saveState } from "./checkpoint.ts";
import { type Environment, EpisodeList } from "./environments/environment.ts";
import { evaluate, summariseRollouts } from "./evaluate.ts";
import { checkpointFolder, isKept, keepCheckpoint, stepName } from "./kept-checkpoints.ts";
import { policyStep, type StepOutcome, type TrainableModel } from "./learn.ts";
import { type LossScale, openLossScale, savedLossScale } from "./loss-scale.ts";
import { dropFromLast, type MetricsRecord, openMetrics } from "./metrics-file.ts";
import { type Rollout, type RolloutSettings, rollOut } from "./rollout.ts";
import type { batchSettings, environmentSettings, evaluateSettings, trainSettings } from "./settings.ts";
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
  const tensorBoard = openTensorBoard(
    join(folder, "tensorboard"),
    Date.now() / 1000,
    resumed === null ? undefined : first,
  );
  const episodes = new EpisodeList(context.environment, settings.train.episodeSeed);
  const phase = progress.phase("GRPO", steps, "steps", Math.max(first - 1, 0));
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
        const { metrics: found, tokens } = await trainingStep(context, episodes, step, lossScale);
        applied = step;
        tokensSeen += tokens;
        Object.assign(record, found, { num_tokens: tokensSeen });
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

async function trainingStep(
  context: TrainingContext,
  episodes: EpisodeList,
  step: number,
  lossScale: LossScale | null,
): Promise<{ metrics: Record<string, number>; tokens: number }> {
  const { model, chat, settings, folder, onTiming } = context;
  const { promptsPerStep, rolloutsPerPrompt: G } = settings.train;
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

  const groups = Array.from({ length: promptsPerStep }, (_, g) => rollouts.slice(g * G, (g + 1) * G));
  const advantages = groups.flatMap((group) => [
    ...groupAdvantages(
      settings.train.advantage,
      group.map(({ reward }) => reward),
    ),
  ]);
  const weights = tokenWeights(settings.train.normalisation, groups, settings.train.maxNewTokens);
  const outcome = await policyStep(
    model,
    rollouts.map((rollout, i) => ({ ...rollout, advantage: advantages[i], tokenWeight: weights[i] })),
    {
      optimiser: optimiserOf(settings.train),
      maxTokens: settings.batch.trainTokens,
      recomputeLayers: settings.batch.recompute,
      lossScale,
      step,
      clipLow: settings.train.clipLow,
      clipHigh: settings.train.clipHigh,
    },
  );
  clock("learning");
  keepRollouts(folder, step, rollouts, advantages);
  clock("writing");
  return {
    metrics: {
      ...stepMetrics(settings, groups, advantages, outcome),
      ...(lossScale && { loss_scale: lossScale.scale, skipped_steps: lossScale.state.skipped }),
    },
    tokens: rollouts.reduce((sum, { ids }) => sum + ids.length, 0),
  };
}

function optimiserOf(training: Values<typeof trainSettings>): AdamwSettings {
  const { learningRate, beta1, beta2, epsilon, weightDecay, maxGradientNorm } = training;
  return { learningRate, beta1, beta2, epsilon, weightDecay, maxGradientNorm };
}

/**
 * What each token of each rollout counts in the objective (0 for a rollout without tokens): one number a rollout, groups in
 * order. Only "constant" needs maxNewTokens.
 */
export function tokenWeights(
  normalisation: Normalisation,
  groups: readonly (readonly { readonly tokens: number }[])[],
  maxNewTokens?: number,
): number[] {
  const sequences = groups.flatMap((group, g) => group.map(({ tokens }) => ({ tokens, group: g })));
  const sequenceOf = sequences.flatMap(({ tokens }, s) => new Array<number>(tokens).fill(s));
  const groupOf = sequences.map(({ group }) => group);
  const weights = normalisationWeights(normalisation, { sequenceOf, groupOf, maxNewTokens });
  let next = 0;
  return sequences.map(({ tokens }) => {
    const first = tokens === 0 ? 0 : weights[next];
    next += tokens;
    return first;
  });
}

/** Names as TRL's, so that curves can be laid over one another; each is defined in docs/metrics.md. */
function stepMetrics(
  settings: TrainingSettings,
  groups: readonly (readonly Rollout[])[],
  advantages: readonly number[],
  outcome: StepOutcome,
): Record<string, number> {
  const rollouts = groups.flat();
  const of = summariseRollouts(rollouts);
  const mean = (values: readonly number[]): number =>
    values.length === 0 ? 0 : values.reduce((sum, v) => sum + v, 0) / values.length;
  const deviations = groups.map((group) => {
    const m = mean(group.map(({ reward }) => reward));
    return Math.sqrt(mean(group.map(({ reward }) => (reward - m) ** 2)));
  });
  const tokenAdvantages = rollouts.flatMap(({ tokens }, i) => new Array<number>(tokens).fill(advantages[i]));
  const { clipLow, clipHigh } = settings.train;
  const clipped = surrogateStatistics(outcome.ratio, tokenAdvantages, {
    clipLow,
    clipHigh,
    ratioLow: 0,
    ratioHigh: Number.POSITIVE_INFINITY,
  });
  const differences = outcome.ratio.map((ratio) => Math.abs(Math.log(ratio)));
  return {
    reward: of.reward,
    reward_std: mean(deviations),
    frac_reward_zero_std: mean(deviations.map((d) => (d === 0 ? 1 : 0))),
    "completions/mean_length": of.meanTokens,
    "completions/clipped_ratio": of.truncatedShare,
    "completions/format_share": of.formatShare,
    "completions/quality": of.quality,
    "completions/failed": rollouts.filter(({ failure }) => failure !== null).length,
    loss: outcome.loss,
    entropy: mean(outcome.entropy),
    "clip_ratio/low_mean": clipped.clipFractionLow,
    "clip_ratio/high_mean": clipped.clipFractionHigh,
    "sampling/sampling_logp_difference/mean": mean(differences),
    "sampling/sampling_logp_difference/max": differences.reduce((most, d) => Math.max(most, d), 0),
    grad_norm: outcome.gradientNorm,
    learning_rate: settings.train.learningRate,
  };
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
    "eval/completions/clipped_ratio": found.truncatedShare,
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
