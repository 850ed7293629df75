// The settings of a training run. The landscape's settings include them (landscape/settings.ts).
import { boolean, choice, integer, integers, number, text } from "../engine/host/index.ts";
import { lowestTemperature } from "../engine/index.ts";
import { advantageKinds, usualAdvantageEpsilon } from "./advantage.ts";
import { keptStates } from "./checkpoint.ts";
import { alphabetSortSeed } from "./environments/alphabet-sort.ts";
import { fitnessKinds } from "./evolution.ts";
import { scheduleKinds } from "./learning-rate.ts";
import { importanceLevels, policyLossKinds } from "./policy-loss.ts";
import { normalisations } from "./token-weights.ts";

export { environmentSettings } from "./environments/registry.ts";

/** A longer list continues a run if its additional entries come after all entries that the run has. */
function addsLater(before: readonly number[], after: readonly number[]): boolean {
  const [had, has] = [new Set(before), new Set(after)];
  const last = before.reduce((most, step) => Math.max(most, step), Number.NEGATIVE_INFINITY);
  return before.every((step) => has.has(step)) && after.every((step) => had.has(step) || step > last);
}

export const modelSettings = {
  path: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning:
      "the model to start from: a folder in Hugging Face's layout, or ORG/NAME or ORG/NAME@REVISION on its hub; empty for the built-in tiny model",
  }),
  sha256: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning:
      "SHA-256 over the model's files, as in a run's config.toml; a model with a different one is refused; empty accepts any model",
  }),
} as const;

export const precisionSetting = choice({
  default: "f32",
  options: ["f32", "mixed"],
  meaning: "number format: f32, or mixed with the operands of linear layers in f16 (needs an adapter with f16)",
});

export const evolveSettings = {
  population: integer({
    default: 30,
    min: 2,
    unit: "members",
    meaning: "N: perturbed copies of the weights per step; an even number with antithetic pairs",
  }),
  sigma: number({
    default: 0.001,
    above: 0,
    meaning: "σ: standard deviation of the Gaussian that a member adds to every weight",
  }),
  learningRate: number({
    default: 0.0005,
    above: 0,
    meaning: "α: the step is α / (N·σ) times the sum of fitness times Gaussian over the members",
  }),
  antithetic: boolean({
    default: true,
    meaning: "whether members come in pairs θ + σε and θ − σε of one Gaussian",
  }),
  fitness: choice({
    default: "centred-ranks",
    options: fitnessKinds,
    meaning:
      "how mean rewards become fitness: centred-ranks from −½ to ½ (Salimans et al. 2017), or z-score (reward − mean) / deviation over the members",
  }),
  rollouts: integer({
    default: 1,
    min: 1,
    max: 65_536,
    unit: "rollouts",
    meaning: "completions per member and prompt; a step has population × promptsPerStep × this many",
  }),
  membersAtOnce: integer({
    default: 8,
    min: 1,
    unit: "members",
    changes: "free",
    meaning: "maximum number of members whose weights are in memory at the same time",
  }),
} as const;

export const trainSettings = {
  method: choice({
    default: "grpo",
    options: ["grpo", "evolve"],
    meaning:
      "how the weights are trained: grpo, by policy gradients; or evolve, by evolution strategies, from rewards of perturbed weights alone",
  }),
  seed: integer({ default: 1, min: 0, meaning: "random seed for sampling in training" }),
  reward: choice({
    default: "environment",
    options: ["environment", "random"],
    meaning:
      "what training rollouts are rewarded by: the environment; or random, a coin for each rollout, as a control that is told nothing of the task; evaluation and landscape keep the environment's reward",
  }),
  rewardProbability: number({
    default: 0.5,
    above: 0,
    below: 1,
    meaning: "with train.reward random: probability that a rollout's reward is 1; else it is 0",
  }),
  episodeSeed: integer({
    default: alphabetSortSeed,
    min: 0,
    meaning: "random seed for the order and content of the training episodes",
  }),
  steps: integer({
    default: 150,
    min: 0,
    unit: "steps",
    changes: "extends",
    meaning: "training steps; each takes one batch of rollouts",
  }),
  promptsPerStep: integer({ default: 32, min: 1, unit: "prompts", meaning: "prompts per batch" }),
  rolloutsPerPrompt: integer({
    default: 16,
    min: 2,
    max: 65_536, // beyond it a group would meet the noise of its prompt's next pass (rl/rollout.ts)
    unit: "rollouts",
    meaning: "completions per prompt; they are the group that an advantage compares with",
  }),
  maxNewTokens: integer({ default: 128, min: 1, unit: "tokens", meaning: "maximum length of an answer, per turn" }),
  temperature: number({
    default: 1,
    min: lowestTemperature,
    meaning:
      "sampling temperature of the training rollouts; log-probabilities, ratios, KL and entropy of training are at this temperature too",
  }),
  topK: integer({
    default: 0,
    min: 0,
    unit: "tokens",
    meaning:
      "training rollouts sample from this many of the likeliest tokens; 0: from all; ratios stay those of the whole distribution",
  }),
  topP: number({
    default: 1,
    above: 0,
    max: 1,
    meaning:
      "training rollouts sample from the likeliest tokens that together have this probability; 1: from all; ratios stay those of the whole distribution",
  }),
  learningRate: number({
    default: 6e-6,
    above: 0,
    meaning: "AdamW's learning rate; with a schedule other than constant, the highest one",
  }),
  schedule: choice({
    default: "constant",
    options: scheduleKinds,
    meaning:
      "course of the learning rate over the updates of the run, under transformers' names; polynomial has the setting schedulePower too, cosine_with_restarts scheduleCycles",
  }),
  warmupSteps: number({
    default: 0,
    min: 0,
    unit: "updates",
    meaning: "updates in which the learning rate rises from 0 in a line; below 1: a share of all updates, rounded up",
  }),
  floorShare: number({
    default: 0,
    min: 0,
    below: 1,
    meaning: "schedules cosine and polynomial: the last learning rate, as a share of the highest",
  }),
  scheduleCycles: integer({
    default: 1,
    min: 1,
    unit: "cycles",
    meaning: "schedule cosine_with_restarts: how many times the rate falls from the highest to 0",
  }),
  schedulePower: number({ default: 1, above: 0, meaning: "schedule polynomial: its exponent; 1 is a straight line" }),
  precision: precisionSetting,
  beta1: number({ default: 0.9, min: 0, below: 1, meaning: "AdamW's beta1: decay rate of the mean of the gradients" }),
  beta2: number({
    default: 0.999,
    min: 0,
    below: 1,
    meaning: "AdamW's beta2: decay rate of the mean of the squared gradients",
  }),
  epsilon: number({
    default: 1e-8,
    above: 0,
    meaning: "AdamW's epsilon, added to the square root of the second moment",
  }),
  weightDecay: number({ default: 0.01, min: 0, meaning: "AdamW's weight decay, applied to every tensor" }),
  maxGradientNorm: number({
    default: 1,
    above: 0,
    meaning: "a gradient with a larger global norm is scaled down to this norm",
  }),
  advantage: choice({
    default: "grpo",
    options: advantageKinds,
    meaning:
      "how a reward r becomes an advantage: grpo (r − group mean) / group deviation; grpo_sample the same with the deviation over n − 1; batch with that of the whole batch; dr_grpo r − group mean; leave_one_out r − mean of the others",
  }),
  advantageEpsilon: number({
    default: usualAdvantageEpsilon,
    above: 0,
    meaning:
      "added to the deviation that an advantage is divided by (grpo, grpo_sample, batch); J of the landscape, whose advantages are grpo, uses it too",
  }),
  normalisation: choice({
    default: "group-token",
    options: normalisations,
    meaning:
      "how the loss is averaged over tokens: group-token within each group, then over groups; batch-token over the batch; sequence within each rollout, then over rollouts; rollout-sum: sum within each rollout, then mean over rollouts; constant: sum / (rollouts × maxNewTokens)",
  }),
  equalGroups: choice({
    default: "keep",
    options: ["keep", "drop"],
    meaning:
      "groups whose rewards are all equal: keep them, with advantages 0, among the tokens that the loss is averaged over, or drop them",
  }),
  maxRedraws: integer({
    default: 0,
    min: 0,
    unit: "rounds",
    meaning:
      "dynamic sampling: rounds per step that draw further prompts in place of dropped groups; groups still missing then stay missing",
  }),
  maskTruncated: boolean({
    default: false,
    meaning: "leave rollouts with an answer cut off at maxNewTokens out of the loss; their rewards stay in their group",
  }),
  updatesPerBatch: integer({
    default: 1,
    min: 1,
    unit: "updates",
    meaning: "optimiser updates per batch of rollouts; from the second one on, ratios differ from 1",
  }),
  asyncLevel: integer({
    default: 0,
    min: 0,
    max: 1,
    unit: "updates",
    meaning:
      "age of the weights that sample a step's rollouts: 0, the weights that the step trains; 1, those of one update before, as in an asynchronous trainer; ratios then differ from 1 from step 2 on",
  }),
  loss: choice({
    default: "clipped",
    options: policyLossKinds,
    meaning:
      "policy loss: PPO's clipped one; ratio times advantage without tokens outside ratioLow and ratioHigh; cispo, with ratios up to ratioCap as constant weights; or sapo, with a soft gate in place of the clip; while ratios are 1 (asyncLevel 0, one update per batch) all have the same gradient",
  }),
  importanceLevel: choice({
    default: "token",
    options: importanceLevels,
    meaning:
      "whose ratio the loss uses: each token's, or that of the whole rollout, e^(mean log-ratio of its tokens), as in GSPO",
  }),
  clipLow: number({
    default: 0.2,
    min: 0,
    below: 1,
    meaning:
      "clipped loss: ratios below 1 − clipLow are clipped; without effect in training while ratios are 1 (asyncLevel 0, one update per batch), used by J of the landscape",
  }),
  clipHigh: number({
    default: 0.2,
    min: 0,
    meaning: "clipped loss: ratios above 1 + clipHigh are clipped; has effect where clipLow has",
  }),
  ratioLow: number({
    default: 0.125,
    min: 0,
    max: 1,
    meaning: "masked-importance loss: tokens with a ratio below this are dropped; without effect while ratios are 1",
  }),
  ratioHigh: number({
    default: 8,
    min: 1,
    meaning: "masked-importance loss: tokens with a ratio above this are dropped; without effect while ratios are 1",
  }),
  ratioCap: number({
    default: 0,
    min: 0,
    meaning:
      "clipped loss: with a negative advantage a ratio counts as at most this (two-sided clipping, TRL's delta); cispo: the largest weight of a token; 0: none",
  }),
  sapoPositive: number({
    default: 1,
    above: 0,
    meaning: "loss sapo: temperature of the gate for positive advantages; a higher one fades ratios out faster",
  }),
  sapoNegative: number({
    default: 1.05,
    above: 0,
    meaning: "loss sapo: temperature of the gate for the other advantages",
  }),
  klCoefficient: number({
    default: 0,
    min: 0,
    meaning:
      "weight of the KL penalty (k3 per token, from the starting model); above 0 the starting model stays in memory, as a second set of weights, and klTimesRatio can be set",
  }),
  klTimesRatio: boolean({
    default: false,
    meaning: "whether the KL penalty of a token is multiplied by its ratio (TRL's use_bias_correction_kl)",
  }),
  entropyCoefficient: number({
    default: 0,
    min: 0,
    meaning: "entropy bonus: the loss is lowered by this times the mean entropy of the tokens",
  }),
  topEntropyQuantile: number({
    default: 1,
    min: 0,
    max: 1,
    meaning:
      "share of the tokens, those of highest entropy, whose policy loss counts; below 1 each update scores the batch once more",
  }),
  checkpoints: integers({
    default: [0, 150],
    min: 0,
    unit: "steps",
    changes: addsLater,
    meaning: "steps after which a checkpoint is kept; 0 is the starting model",
  }),
  conversationsEvery: integer({
    default: 0,
    min: 0,
    unit: "steps",
    changes: "free",
    isRecorded: true,
    meaning:
      "the report shows sample conversations of every step that is a multiple of this; 0 for none; rollouts/ has all conversations of all steps",
  }),
  resumeEvery: integer({
    default: 10,
    min: 1,
    unit: "steps",
    changes: "free",
    meaning: "steps between two saves of the optimiser state that a restart needs",
  }),
  keepState: choice({
    default: "all",
    options: keptStates,
    changes: "free",
    meaning:
      "what a finished run keeps of its two optimiser states, each three times the weights: both, the last, or none; without one the run cannot be trained further",
  }),
  evolve: evolveSettings,
} as const;

export const evaluateSettings = {
  every: integer({
    default: 10,
    min: 1,
    unit: "steps",
    meaning: "steps between two evaluations; the starting model and the last step are evaluated too",
  }),
  episodes: integer({
    default: 128,
    min: 1,
    unit: "episodes",
    meaning: "episodes per evaluation, one rollout each; the same ones every time",
  }),
  episodeSeed: integer({ default: 2001, min: 0, meaning: "random seed for the evaluation episodes" }),
  temperature: number({ default: 0.7, min: 0, meaning: "sampling temperature of evaluations; 0 for greedy" }),
  drafts: choice({
    options: ["on", "off"],
    default: "on",
    changes: "free",
    meaning:
      "whether the answers of the evaluation before are proposed to the next one, which verifies many tokens in one forward pass; the results are the same bits",
  }),
} as const;

export const batchSettings = {
  rows: integer({
    default: 512,
    min: 1,
    unit: "conversations",
    changes: "free",
    meaning: "maximum conversations generated in parallel",
  }),
  tokens: integer({
    default: 8192,
    min: 1,
    unit: "tokens",
    changes: "free",
    meaning: "maximum tokens per forward pass when generating and scoring",
  }),
  trainTokens: integer({
    default: 4096,
    min: 1,
    unit: "tokens",
    meaning: "maximum tokens per forward and backward pass (micro-batch); a longer rollout runs by itself",
  }),
  recompute: boolean({
    default: false,
    changes: "free",
    meaning:
      "gradient checkpointing: recompute each layer in the backward pass, for a third more work and much less memory",
  }),
} as const;
