// What can be set about a training run. The landscape's settings stand on these (landscape/settings.ts).
import { boolean, choice, integer, integers, number, text } from "../engine/host/index.ts";
import { advantageKinds } from "./advantage.ts";
import { alphabetSortSeed } from "./environments/alphabet-sort.ts";

export { environmentSettings } from "./environments/registry.ts";

/** A longer list goes on from what a run has: what it adds must come after all that was there. */
function addsLater(before: readonly number[], after: readonly number[]): boolean {
  return (
    before.every((step) => after.includes(step)) &&
    after.every((step) => before.includes(step) || step > Math.max(...before))
  );
}

export const modelSettings = {
  path: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning:
      "the model to start from: a folder in Hugging Face's layout, or ORG/NAME or ORG/NAME@REVISION of its hub; empty for the tiny one that comes with the program",
  }),
  sha256: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning:
      "SHA-256 over the model's files, as a run's config.toml has it; a model with another one is refused; empty for any",
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
