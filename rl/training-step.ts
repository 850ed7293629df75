// One step of a training, up to its metrics: rollouts, then an update of the weights, by GRPO or by evolution strategies.
import { killPoint, type Phase, type Values } from "../engine/host/index.ts";
import type { AdamwSettings, ParameterArena } from "../engine/index.ts";
import { type Model, type Pass, score } from "../model/index.ts";
import type { EpisodeList } from "./environments/environment.ts";
import { applyUpdate, streamsOf } from "./evolution.ts";
import { evolutionMetrics, generationOf, previousStreams, rankMembers, rollOutMembers } from "./evolution-step.ts";
import { keepRollouts } from "./keep-rollouts.ts";
import { type PolicyExample, policyStep, type StepOutcome } from "./learn.ts";
import { rateOfUpdate } from "./learning-rate.ts";
import type { LossScale } from "./loss-scale.ts";
import { Occupancy } from "./occupancy.ts";
import { packRollouts, unpackRollouts } from "./pending-rollouts.ts";
import { policyLossOf, topEntropyTokens } from "./policy-loss.ts";
import type { Rollout } from "./rollout.ts";
import type { trainSettings } from "./settings.ts";
import { stepBatch } from "./step-batch.ts";
import { countedTokens, stepMetrics } from "./step-metrics.ts";
import { rolloutSettings, sampleStep, samplesAhead } from "./step-rollouts.ts";
import { stopwatch, type TrainingContext } from "./training-context.ts";
import { rolloutSampling } from "./training-settings.ts";

export type ReferenceModel = Model & { readonly weights: ParameterArena };

export interface StepInputs {
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
  /** Of the members of the step before; null if it had none. */
  readonly fitness: readonly number[] | null;
}

export interface StepTaken {
  /** The rollouts of the next step, if they are sampled in this one. */
  readonly next: Buffer | null;
  readonly metrics: Record<string, number>;
  readonly tokens: number;
  readonly prompts: number;
  readonly dropped: number;
  readonly failure: string | null;
  readonly hasSignal: boolean;
  /** Of the members of this step; null with GRPO. */
  readonly fitness: readonly number[] | null;
}

/** A step of evolution strategies (rl/evolution.ts). @param beforeUpdate  as in `trainingStep` */
export async function evolutionStep(
  context: TrainingContext,
  { episodes, step, occupancy, fitness: before }: StepInputs,
  beforeUpdate: () => void,
): Promise<StepTaken> {
  const { model, chat, settings, folder, onTiming } = context;
  const { train: training } = settings;
  const clock = stopwatch((timing) => onTiming?.({ step, ...timing }));
  const ofStep = new Occupancy();
  const onPass = (pass: Pass): void => {
    ofStep.add(pass);
    occupancy.add(pass);
  };
  const sampling = {
    ...rolloutSettings(context),
    ...rolloutSampling(training),
    purpose: "train" as const,
    step,
    onPass,
  };
  const members = await rollOutMembers({ model, chat, episodes, train: training, step, sampling });
  killPoint("rollout");
  clock("rollouts", ofStep);
  const ranked = rankMembers(training, members);
  const { fitness } = ranked;
  beforeUpdate();
  const streams = streamsOf(generationOf(training, step), fitness);
  const update = await applyUpdate(model.weights, streams, previousStreams(training, step, before));
  clock("learning");
  const rollouts = members.flat();
  keepRollouts(folder, step, {
    groups: members,
    advantages: members.flatMap((of, member) => of.map(() => fitness[member])),
    used: rollouts.map(({ failure }) => failure === null),
    isOfMembers: true,
  });
  clock("writing");
  return {
    next: null,
    metrics: evolutionMetrics(training, members, ranked, update),
    tokens: countedTokens(rollouts),
    prompts: training.promptsPerStep,
    dropped: 0,
    failure: rollouts.find(({ failure }) => failure !== null)?.failure ?? null,
    hasSignal: streams.some(({ coefficient }) => coefficient !== 0),
    fitness,
  };
}

/** @param beforeUpdate  called when the rollouts are done and the weights are about to change */
export async function trainingStep(
  context: TrainingContext,
  { episodes, step, firstPrompt, pending, lossScale, reference, occupancy, phase }: StepInputs,
  beforeUpdate: () => void,
): Promise<StepTaken> {
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
    fitness: null,
    // Without examples there are no tokens for a penalty or a bonus either.
    hasSignal:
      examples.length > 0 &&
      (reference !== null || training.entropyCoefficient > 0 || examples.some(({ advantage }) => advantage !== 0)),
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
