// What can be set about a training run. The landscape's settings stand on these (landscape/settings.ts).
import { boolean, choice, integer, integers, number, text } from "../engine/host/index.ts";
import { advantageKinds } from "./advantage.ts";
import { alphabetSortDefaults, alphabetSortSeed } from "./environments/alphabet-sort.ts";

/** A longer list goes on from what a run has: what it adds must come after all that was there. */
function addsLater(before: readonly number[], after: readonly number[]): boolean {
  const [had, has] = [new Set(before), new Set(after)];
  const last = before.reduce((most, step) => Math.max(most, step), Number.NEGATIVE_INFINITY);
  return before.every((step) => has.has(step)) && after.every((step) => had.has(step) || step > last);
}

export const modelSettings = {
  path: text({
    default: "",
    changes: "free",
    meaning:
      "the model to start from: a folder in Hugging Face's layout, or ORG/NAME or ORG/NAME@REVISION of its hub; empty for the tiny one that comes with the program",
  }),
} as const;

export const environmentSettings = {
  name: choice({ default: "alphabet-sort", options: ["alphabet-sort"], meaning: "the task" }),
  minTurns: integer({ default: 2, min: 1, max: 8, unit: "turns", meaning: "fewest turns of an episode" }),
  maxTurns: integer({ default: 2, min: 1, max: 8, unit: "turns", meaning: "most turns of an episode" }),
  minNamesPerTurn: integer({
    default: alphabetSortDefaults.minNamesPerTurn,
    min: 1,
    unit: "names",
    meaning: "fewest names that a turn adds",
  }),
  maxNamesPerTurn: integer({
    default: alphabetSortDefaults.maxNamesPerTurn,
    min: 1,
    unit: "names",
    meaning: "most names that a turn adds",
  }),
  similarityPower: number({
    default: alphabetSortDefaults.similarityPower,
    above: 0,
    meaning: "exponent on the similarity of answer and truth",
  }),
  powerPerTurn: boolean({
    default: alphabetSortDefaults.powerPerTurn,
    meaning: "take the power of each turn, then the mean; else the other way round",
  }),
  names: text({
    default: "",
    changes: "free",
    meaning: "rows of names: a .json, .jsonl or .parquet file; empty for the built-in generator",
  }),
  namesPerRow: integer({ default: 12, min: 1, unit: "names", meaning: "names in a row of the built-in generator" }),
  turn2Template: choice({
    default: "standard",
    options: ["standard", "upstream"],
    meaning: "how later user turns are templated: with the whole conversation, or alone as the study's code did",
  }),
} as const;

export const precisionSetting = choice({
  default: "f32",
  options: ["f32", "mixed"],
  meaning: "mixed: linear layers take operands in f16, everything else stays f32; needs an adapter with f16",
});

export const trainSettings = {
  seed: integer({ default: 1, min: 0, meaning: "names the sampling noise of training" }),
  episodeSeed: integer({ default: alphabetSortSeed, min: 0, meaning: "seed of the training episodes" }),
  steps: integer({ default: 150, min: 0, unit: "steps", changes: "extends", meaning: "optimiser steps; one a batch" }),
  promptsPerStep: integer({ default: 32, min: 1, unit: "prompts", meaning: "prompts of a batch" }),
  rolloutsPerPrompt: integer({
    default: 16,
    min: 2,
    unit: "rollouts",
    meaning: "completions of one prompt: the group that advantages are relative to",
  }),
  maxNewTokens: integer({ default: 128, min: 1, unit: "tokens", meaning: "longest answer of one turn" }),
  learningRate: number({ default: 6e-6, above: 0, meaning: "AdamW's rate, constant" }),
  precision: precisionSetting,
  beta1: number({ default: 0.9, min: 0, below: 1, meaning: "AdamW's decay of the first moment" }),
  beta2: number({ default: 0.999, min: 0, below: 1, meaning: "AdamW's decay of the second moment" }),
  epsilon: number({ default: 1e-8, above: 0, meaning: "AdamW's addend to the root of the second moment" }),
  weightDecay: number({ default: 0.01, min: 0, meaning: "AdamW's decay, on every tensor" }),
  maxGradientNorm: number({ default: 1, above: 0, meaning: "the gradient's global norm is clipped to this" }),
  advantage: choice({ default: "grpo", options: advantageKinds, meaning: "how a group's rewards become advantages" }),
  normalisation: choice({
    default: "group-token",
    options: ["group-token", "batch-token", "sequence", "constant"],
    meaning: "what a token's surrogate is divided by; constant: rollouts × maxNewTokens, whatever their lengths",
  }),
  clipLow: number({ default: 0.2, min: 0, below: 1, meaning: "ratios below 1 − this are clipped" }),
  clipHigh: number({ default: 0.2, min: 0, meaning: "ratios above 1 + this are clipped" }),
  checkpoints: integers({
    default: [0, 150],
    min: 0,
    unit: "steps",
    changes: addsLater,
    meaning: "steps after which a checkpoint is kept",
  }),
  resumeEvery: integer({
    default: 10,
    min: 1,
    unit: "steps",
    changes: "free",
    meaning: "how often the state that a restart needs is saved",
  }),
} as const;

export const evaluateSettings = {
  every: integer({
    default: 10,
    min: 1,
    unit: "steps",
    meaning: "how often the policy is evaluated; also before the first step and after the last",
  }),
  episodes: integer({ default: 128, min: 1, unit: "episodes", meaning: "episodes of an evaluation, one rollout each" }),
  episodeSeed: integer({ default: 2001, min: 0, meaning: "seed of the evaluation's episodes" }),
  temperature: number({ default: 0.7, min: 0, meaning: "sampling temperature of evaluations; 0 is greedy" }),
} as const;

export const batchSettings = {
  rows: integer({
    default: 512,
    min: 1,
    unit: "conversations",
    changes: "free",
    meaning: "conversations generated at once",
  }),
  tokens: integer({
    default: 8192,
    min: 1,
    unit: "tokens",
    changes: "free",
    meaning: "tokens in one pass of the model when generating and scoring",
  }),
  trainTokens: integer({ default: 4096, min: 1, unit: "tokens", meaning: "tokens in one forward and backward pass" }),
  recompute: boolean({
    default: false,
    changes: "free",
    meaning: "run each layer again in the backward pass: a third more work, a fraction of the memory",
  }),
} as const;
