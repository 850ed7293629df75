// The rollouts of a training step, and the weights that they are sampled from. θ_k are the weights after k updates.
//
//   train.asyncLevel 0   step n's rollouts come from θ_{n−1}, the weights that it updates
//   train.asyncLevel 1   step n's rollouts come from θ_{n−2}, one update older; those of step 1 from θ_0
//
// At level 1, step n first samples the rollouts of step n + 1, then updates the weights on its own. That is what an asynchronous
// trainer does whose sampler works during the update: prime-rl and the study's trainer at one step. Here both are done one
// after the other, so a run repeats.
import type { Phase, Values } from "../engine/host/index.ts";
import type { Chat, Model, Pass } from "../model/index.ts";
import type { EpisodeList } from "./environments/environment.ts";
import { limitsOf } from "./environments/limits.ts";
import { trainingRewards } from "./random-rewards.ts";
import { type Rollout, type RolloutSettings, rollOut } from "./rollout.ts";
import type { batchSettings, environmentSettings } from "./settings.ts";
import { drawGroups } from "./step-batch.ts";
import { rolloutSampling, type TrainValues } from "./training-settings.ts";

export interface SamplingContext {
  readonly model: Model;
  readonly chat: Chat;
  readonly settings: {
    readonly environment: Values<typeof environmentSettings>;
    readonly train: TrainValues;
    readonly batch: Values<typeof batchSettings>;
  };
  readonly signal: AbortSignal;
}

/** What the rollouts of training and those of its evaluations have in common. */
export function rolloutSettings({
  settings,
  signal,
}: SamplingContext): Omit<RolloutSettings, "purpose" | "step" | "temperature"> {
  const { environment, train, batch } = settings;
  return {
    maxNewTokens: train.maxNewTokens,
    seed: train.seed,
    turn2Template: environment.turn2Template,
    limits: limitsOf(environment),
    maxRows: batch.rows,
    maxTokens: batch.tokens,
    signal,
  };
}

export interface SampledStep {
  readonly step: number;
  /** Position of its first prompt in the list of episodes. */
  readonly first: number;
  readonly onPass: (pass: Pass) => void;
  /** Inside which its progress is shown. */
  readonly phase: Pick<Phase, "phase">;
}

/** Samples the groups of a step from the model's present weights. */
export function sampleStep(
  context: SamplingContext,
  episodes: EpisodeList,
  { step, first, onPass, phase }: SampledStep,
): Promise<Rollout[][]> {
  const { model, chat, settings } = context;
  return drawGroups(episodes, first, settings.train, async (requests) => {
    const shown = phase.phase(`rollouts of step ${step}`, requests.length, "rollouts");
    const drawn = await rollOut(model, chat, requests, {
      ...rolloutSettings(context),
      ...rolloutSampling(settings.train),
      purpose: "train",
      step,
      onPass: (pass) => {
        shown.advance(pass.finished);
        onPass(pass);
      },
    }).finally(() => shown.done());
    return trainingRewards(settings.train, step, requests, drawn);
  });
}

/**
 * Whether step `step` samples the rollouts of the next step. The last step does too, because a longer run needs them and the
 * weights to sample them from are then gone; only a run that keeps no state, and so cannot become longer, spares them.
 */
export function samplesAhead({ method, asyncLevel, keepState, steps }: TrainValues, step: number): boolean {
  return method === "grpo" && asyncLevel === 1 && (step < steps || keepState !== "none");
}

/** Steps whose rollouts a run of `train.steps` samples. */
export function sampledSteps(train: TrainValues): number {
  return train.steps === 0 ? 0 : train.steps + (samplesAhead(train, train.steps) ? 1 : 0);
}
