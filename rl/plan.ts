// Computes how much memory training needs, before it starts: the rollouts of one step, an evaluation and an update are
// rehearsed on a backend that allocates nothing (model/plan.ts), with the conversations of the first step and answers
// of maximum length.
import type { Values } from "../engine/host/index.ts";
import { type Backend, SlotWeights } from "../engine/index.ts";
import {
  type Chat,
  distinctTokens,
  expectMemory,
  halve,
  type LanguageModel,
  type MemoryLimit,
  type MemoryPlan,
  type MemorySetting,
  makeWeights,
  memoryLimit,
  microBatches,
  planMemory,
  rehearseGeneration,
  rehearseScoring,
  type WeightOptions,
} from "../model/index.ts";
import { type Environment, EpisodeList } from "./environments/environment.ts";
import { type EvaluationSettings, evaluatedRollouts } from "./evaluation.ts";
import { applyUpdate, streamsOf } from "./evolution.ts";
import { generationOf, placeMembers } from "./evolution-step.ts";
import { type Example, type PolicyExample, policyStep, supervisedStep, type TrainableModel } from "./learn.ts";
import { expectedConversation, longestConversation } from "./openings.ts";
import { policyLossOf } from "./policy-loss.ts";
import { dialoguesOf, type RolloutRequest, trainingRollouts } from "./rollout.ts";
import type { batchSettings, environmentSettings, evaluateSettings, trainSettings } from "./settings.ts";
import { rolloutSampling } from "./training-settings.ts";

/** A model without values, for rehearsals; trainable unless the options say otherwise. */
function emptyModel(backend: Backend, config: LanguageModel, options: WeightOptions): TrainableModel {
  return { backend, config, weights: makeWeights(backend, config, { trainable: true, ...options }) };
}

const anyOptimiser = {
  learningRate: 1,
  beta1: 0,
  beta2: 0,
  epsilon: 1,
  weightDecay: 0,
  maxGradientNorm: 1,
};

interface StepSizes {
  readonly maxTokens: number;
  readonly recomputeLayers: boolean;
}

/**
 * Rehearses the pass of a step with most distinct tokens, forward and backward, and the update. Kernels have two forms, for token counts that are multiples
 * of four and for others. Which one a pass needs is not known before its rollouts, so two short passes rehearse both.
 * @param batches  the examples that a step may have
 */
async function rehearseStep<E extends Example>(
  batches: readonly (readonly E[])[],
  { maxTokens, recomputeLayers }: StepSizes,
  step: (
    part: readonly E[],
    settings: StepSizes & { optimiser: typeof anyOptimiser; step: number },
  ) => Promise<unknown>,
): Promise<void> {
  const tokens = (part: readonly E[]): number => distinctTokens(part.map(({ ids }) => ids)).ids.length;
  const [largest] = batches
    .flatMap((examples) => microBatches(examples, maxTokens))
    .sort((one, other) => tokens(other) - tokens(one));
  const settings = { maxTokens, recomputeLayers, optimiser: anyOptimiser, step: 1 };
  for (const example of largest.slice(0, 1))
    for (const less of [0, 1]) if (example.ids.length > less + 1) await step([shortened(example, less)], settings);
  await step(largest, settings);
}

function shortened<E extends Example>(example: E, tokens: number): E {
  const end = example.ids.length - tokens;
  const { ids, mask } = example;
  return {
    ...example,
    ids: Array.from(ids).slice(0, end),
    mask: mask === undefined ? mask : Array.from(mask).slice(0, end),
  };
}

export interface TrainingJob {
  readonly config: LanguageModel;
  readonly chat: Chat;
  readonly environment: Environment;
  readonly settings: {
    readonly environment: Values<typeof environmentSettings>;
    readonly train: Values<typeof trainSettings>;
    readonly evaluate: Values<typeof evaluateSettings>;
    readonly batch: Values<typeof batchSettings>;
  };
}

type Batch = TrainingJob["settings"]["batch"];

const trainingMemorySettings: readonly MemorySetting<Batch>[] = [
  {
    lower: (batch) => (batch.recompute ? null : { ...batch, recompute: true }),
    flag: () => "--batch.recompute",
  },
  halve("--batch.trainTokens", "trainTokens"),
  halve("--batch.rows", "rows"),
  halve("--batch.tokens", "tokens"),
];

/** How a plan is checked. */
export interface MemoryCheck {
  /** Default: the backend's memory. Null: nothing is refused. */
  readonly limit?: MemoryLimit | null;
  /** Whether kernels are compiled if the job fits. Default true. */
  readonly compiles?: boolean;
}

/**
 * Refuses a GRPO training run that cannot fit.
 * @throws OutOfMemoryError with the numbers, and the settings that would make it fit
 */
export async function expectTrainingMemory(
  backend: Backend,
  job: TrainingJob,
  { limit = memoryLimit(backend), compiles = true }: MemoryCheck = {},
): Promise<MemoryPlan> {
  const { config, chat, environment } = job;
  const { train, evaluate, environment: task } = job.settings;
  if (train.method === "evolve") return expectEvolutionMemory(backend, job, { limit, compiles });
  const episodes = new EpisodeList(environment, train.episodeSeed);
  const rollouts = trainingRollouts(episodes, 1, train.promptsPerStep, train.rolloutsPerPrompt);
  const evaluated = evaluationRequests(job);
  const settings = { maxNewTokens: train.maxNewTokens, turn2Template: task.turn2Template };
  const plan = (batch: Batch): Promise<MemoryPlan> =>
    planMemory(backend, async (planning) => {
      const trains = train.steps > 0;
      const model = emptyModel(planning, config, { precision: train.precision, trainable: trains });
      const examples = trains ? longestExamples(chat, rollouts, train.maxNewTokens, config.vocabSize) : [];
      const reference =
        trains && train.klCoefficient > 0
          ? { backend: planning, config, weights: makeWeights(planning, config, { precision: train.precision }) }
          : null;
      const { temperature } = train;
      for (const [requests, sampling] of [
        [evaluated, { temperature: evaluate.temperature }],
        ...(trains ? [[rollouts, rolloutSampling(train)] as const] : []),
      ] as const)
        await rehearseGeneration(model, dialoguesOf(chat, requests, settings), {
          maxRows: batch.rows,
          maxTokens: batch.tokens,
          ...sampling,
        });
      if (!trains) return;
      if (train.topEntropyQuantile < 1)
        await rehearseScoring(model, examples, { temperature, maxTokens: batch.trainTokens });
      if (reference) await rehearseScoring(reference, examples, { temperature, maxTokens: batch.trainTokens });
      // With shorter answers more prompts may lie in one micro-batch, and fewer tokens be shared.
      const shorter = [0.75, 0.5, 0.25].map((share) => Math.ceil(share * train.maxNewTokens));
      const batches = shorter.map((most) => longestExamples(chat, rollouts, most, config.vocabSize));
      const sizes = { maxTokens: batch.trainTokens, recomputeLayers: batch.recompute };
      await rehearseStep([examples, ...batches], sizes, (part, own) =>
        policyStep(model, part, { ...own, temperature, loss: policyLossOf(train) }),
      );
    });
  return expectMemory("Training", job.settings.batch, plan, trainingMemorySettings, limit, compiles);
}

/**
 * The requests of an evaluation, with a draft as long as an answer can be if the evaluation before gives drafts. It is accepted,
 * since a planning backend draws token 1 everywhere.
 */
function evaluationRequests({ environment, settings: { train, evaluate } }: TrainingJob): RolloutRequest[] {
  const requests = evaluatedRollouts(environment, evaluate);
  if (evaluate.drafts === "off" || train.steps === 0) return requests;
  const ids = new Array<number>(train.maxNewTokens).fill(1);
  return requests.map((request) => ({
    ...request,
    draft: (earlier, answer) => (earlier.length === 0 && answer.length === 0 ? ids : null),
  }));
}

/** As `expectTrainingMemory`, for evolution strategies: weights, the members' slots, rollouts, and the update. */
async function expectEvolutionMemory(
  backend: Backend,
  job: TrainingJob,
  { limit, compiles }: Required<MemoryCheck>,
): Promise<MemoryPlan> {
  const {
    config,
    chat,
    environment,
    settings: { train, evaluate, environment: task, batch },
  } = job;
  const requestsOfEvaluation = evaluationRequests(job);
  const requests = trainingRollouts(
    ...([new EpisodeList(environment, train.episodeSeed), 1, train.promptsPerStep] as const),
    train.evolve.rollouts,
  );
  const settings = { maxNewTokens: train.maxNewTokens, turn2Template: task.turn2Template };
  const generation = generationOf(train, 1);
  const sizes = {
    rows: batch.rows,
    tokens: batch.tokens,
    members: Math.min(train.evolve.membersAtOnce, train.evolve.population),
  };
  const plan = ({ rows, tokens, members }: typeof sizes): Promise<MemoryPlan> =>
    planMemory(backend, async (planning) => {
      const weights = makeWeights(planning, config, {});
      const model = { backend: planning, config, weights };
      const most = { maxRows: rows, maxTokens: tokens };
      const evaluated = dialoguesOf(chat, requestsOfEvaluation, settings);
      await rehearseGeneration(model, evaluated, { ...most, temperature: evaluate.temperature });
      if (train.steps === 0) return;
      const slots = new SlotWeights(weights, members);
      placeMembers(slots, generation, 0, members);
      const ofMembers = Array.from({ length: members }, (_, point) => requests.map((one) => ({ ...one, point })));
      await rehearseGeneration({ ...model, weights: slots }, dialoguesOf(chat, ofMembers.flat(), settings), {
        ...most,
        ...rolloutSampling(train),
      });
      slots.free();
      const streams = streamsOf(
        generation,
        Array.from({ length: train.evolve.population }, (_, member) => member),
      );
      await applyUpdate(weights, streams, streams);
    });
  const lowered: MemorySetting<typeof sizes>[] = [
    halve("--train.evolve.membersAtOnce", "members"),
    halve("--batch.rows", "rows"),
    halve("--batch.tokens", "tokens"),
  ];
  return expectMemory("Training", sizes, plan, lowered, limit, compiles);
}

/** The training sequences of a step if every answer has the maximum length. Rollouts of one prompt share its tokens. */
export function longestExamples(
  chat: Chat,
  requests: readonly RolloutRequest[],
  maxNewTokens: number,
  vocabSize: number,
): PolicyExample[] {
  return requests.map(({ episode }, i) => {
    const expected = expectedConversation(episode, chat, maxNewTokens);
    const { ids, mask, answerTokens } = longestConversation(expected, maxNewTokens, i % vocabSize);
    return {
      ids: Uint32Array.from(ids),
      mask,
      logProbs: new Float32Array(ids.length),
      // Not 0: with advantages of 0 there would be no backward pass.
      advantage: 1,
      tokenWeight: 0,
      referenceLogProbs: new Float32Array(answerTokens),
    };
  });
}

/** The inputs of supervised training: a batch of sequences, and the settings of evaluations. */
export interface SupervisedJob {
  readonly config: LanguageModel;
  readonly chat: Chat;
  readonly examples: readonly Example[];
  readonly environment: Environment;
  readonly evaluation: EvaluationSettings;
  readonly weights: WeightOptions;
  readonly batch: { readonly microBatchTokens: number; readonly recompute: boolean };
}

/** As `expectTrainingMemory`, for the warm start. */
export async function expectSupervisedMemory(
  backend: Backend,
  job: SupervisedJob,
  { limit = memoryLimit(backend), compiles = true }: MemoryCheck = {},
): Promise<MemoryPlan> {
  const plan = ({ microBatchTokens, recompute }: SupervisedJob["batch"]): Promise<MemoryPlan> =>
    planMemory(backend, async (planning) => {
      const model = emptyModel(planning, job.config, job.weights);
      await rehearseStep([job.examples], { maxTokens: microBatchTokens, recomputeLayers: recompute }, (part, sizes) =>
        supervisedStep(model, part, sizes),
      );
      const requests = evaluatedRollouts(job.environment, job.evaluation);
      await rehearseGeneration(model, dialoguesOf(job.chat, requests, job.evaluation), job.evaluation);
    });
  const memorySettings: readonly MemorySetting<SupervisedJob["batch"]>[] = [
    {
      lower: (batch) => (batch.recompute ? null : { ...batch, recompute: true }),
      flag: () => "--warmStart.recompute",
    },
    halve("--warmStart.microBatchTokens", "microBatchTokens"),
  ];
  return expectMemory("Training", job.batch, plan, memorySettings, limit, compiles);
}
