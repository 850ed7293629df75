// Warnings about a training, each said once, in words for somebody who has not trained a policy before: what was seen, what it
// means, which metric shows it in every step, what to try. Each names its number, so a reader can decide that it is meant so.
import type { TrainValues } from "./training-settings.ts";

/** prime-rl admits a run to training if sampler and scorer differ by less, in its mismatch KL (nats per token). */
export const admittedMismatch = 0.015;
/** Entropy below this part of the first step's, or below this number of nats per token, counts as collapsed. */
const collapsed = { part: 0.1, nats: 0.01 };
/** From this share of rollouts on, answers that are cut off are worth a warning. */
const muchTruncated = 0.5;
/** From this share of clipped tokens on, most of an update is thrown away. */
const muchClipped = 0.3;

export interface HealthStep {
  readonly step: number;
  readonly metrics: Readonly<Record<string, number>>;
  /** Whether any rollout gives a gradient. */
  readonly hasSignal: boolean;
  /** Groups whose rewards differ. */
  readonly groups: number;
}

type Rule = (seen: HealthStep, settings: TrainValues, firstEntropy: number) => string | null;

/** Watches the steps of a run. One per run; a run that continues may say a warning again. */
export class Health {
  readonly #settings: TrainValues;
  #waiting: readonly Rule[] = [noSignal, missingGroups, collapsedEntropy, truncation, clipping, mismatch];
  #firstEntropy: number | null;
  #worstMismatch = 0;

  /** @param past  the records of the run's earlier steps, if it continues */
  constructor(settings: TrainValues, past: readonly Readonly<Record<string, unknown>>[]) {
    this.#settings = settings;
    const numbers = (metric: string): number[] =>
      past.map((record) => record[metric]).filter((value) => typeof value === "number");
    this.#firstEntropy = numbers("entropy").at(0) ?? null;
    this.#worstMismatch = numbers("mismatch_kl/mean").reduce((most, one) => Math.max(most, one), 0);
  }

  /** The warnings that this step is the first to deserve. */
  check(seen: HealthStep): string[] {
    this.#firstEntropy ??= seen.metrics["entropy"] ?? null;
    this.#worstMismatch = Math.max(this.#worstMismatch, seen.metrics["mismatch_kl/mean"] ?? 0);
    const first = this.#firstEntropy ?? 0;
    const found = this.#waiting.map((rule) => ({ rule, line: rule(seen, this.#settings, first) }));
    this.#waiting = found.flatMap(({ rule, line }) => (line === null ? [rule] : []));
    return found.flatMap(({ line }) => line ?? []);
  }

  /** How much sampler and scorer differed, for the end of a run. */
  admission(): string {
    const worst = this.#worstMismatch;
    const { asyncLevel, updatesPerBatch } = this.#settings;
    const between = asyncLevel === 0 ? "" : ` (${updatesOfStep(updatesPerBatch)} apart)`;
    return (
      `Sampler and scorer${between}: mismatch KL ${worst === 0 ? "0" : worst.toExponential(1)} nats per token at most ` +
      `(prime-rl admits less than ${admittedMismatch}).`
    );
  }
}

/** What lies between sampler and scorer at level 1. */
const updatesOfStep = (updatesPerBatch: number): string =>
  updatesPerBatch === 1 ? "one update" : `the ${updatesPerBatch} updates of a step`;

const percent = (share: number): string => `${(100 * share).toFixed(0)}%`;

function noSignal({ step, metrics, hasSignal }: HealthStep, { method }: TrainValues): string | null {
  if (hasSignal) return null;
  if (method === "evolve")
    return (
      `Step ${step}: all members have the same reward, so the weights stay as they are. This is said once: ` +
      "evolve/member_reward_std in metrics.jsonl is 0 in such steps. More prompts (--train.promptsPerStep) or a larger " +
      "--train.evolve.sigma make members differ."
    );
  const [cause, share] =
    metrics["frac_reward_zero_std"] === 1
      ? [
          "within every group all rewards are equal",
          "frac_reward_zero_std in metrics.jsonl is the share of such groups",
        ]
      : [
          "every rollout with an advantage has an answer that was cut off, and train.maskTruncated leaves it out",
          "completions/truncated_share in metrics.jsonl is the share of such rollouts",
        ];
  return (
    `Step ${step}: ${cause}, so there is nothing to learn from. The backward pass is ` +
    "skipped; only the optimiser's momentum and weight decay change the weights. This is said once: " +
    `${share} in each step.`
  );
}

function missingGroups({ step, groups }: HealthStep, { maxRedraws, promptsPerStep }: TrainValues): string | null {
  if (maxRedraws === 0 || groups >= promptsPerStep) return null;
  return (
    `Step ${step}: after ${maxRedraws} ${maxRedraws === 1 ? "round" : "rounds"} of redraws, ${groups} of ${promptsPerStep} groups ` +
    "have rewards that differ; the step learns from these. This is said once: groups/drawn less groups/dropped in " +
    "metrics.jsonl is their number in each step. More rounds: --train.maxRedraws."
  );
}

function collapsedEntropy(
  { step, metrics }: HealthStep,
  { method, entropyCoefficient }: TrainValues,
  first: number,
): string | null {
  const entropy = metrics["entropy"];
  // A step whose updates use no token has none.
  if (entropy === undefined) return null;
  if (entropy >= collapsed.nats && entropy >= collapsed.part * first) return null;
  return (
    `Step ${step}: the model is almost certain of every token (entropy ${entropy.toPrecision(2)} nats per token; in the first step ` +
    `${first.toPrecision(2)}). The answers to a prompt become alike, so their rewards do too, and little is left to learn from. ` +
    "This is said once: entropy in metrics.jsonl is its value in each step. " +
    (method === "evolve"
      ? "A lower --train.evolve.learningRate or a higher --train.temperature keeps it up."
      : `A lower --train.learningRate, ${entropyCoefficient > 0 ? "a larger" : "an"} entropy bonus (--train.entropyCoefficient) or a higher --train.temperature keeps it up.`)
  );
}

function truncation(
  { step, metrics }: HealthStep,
  { method, maxNewTokens, maskTruncated }: TrainValues,
): string | null {
  const share = metrics["completions/truncated_share"] ?? 0;
  if (share < muchTruncated) return null;
  return (
    `Step ${step}: ${percent(share)} of the rollouts have an answer that was cut off at ${maxNewTokens} tokens. ` +
    `${method === "grpo" && maskTruncated ? "They are left out of the loss, so the step learns from the others alone." : "A cut answer is seldom right, so the model learns to be short rather than right."} ` +
    "This is said once: completions/truncated_share in metrics.jsonl " +
    "is the share in each step. Longer answers: --train.maxNewTokens" +
    `${method === "grpo" && !maskTruncated ? "; cut ones left out of the loss: --train.maskTruncated" : ""}.`
  );
}

function clipping(
  { step, metrics }: HealthStep,
  { asyncLevel, updatesPerBatch, importanceLevel }: TrainValues,
): string | null {
  const share = metrics["clip_ratio/region_mean"] ?? 0;
  if (share < muchClipped) return null;
  const remedies = [
    "A lower --train.learningRate",
    ...(updatesPerBatch > 1 ? ["fewer --train.updatesPerBatch"] : []),
    ...(asyncLevel > 0 ? ["--train.asyncLevel 0"] : []),
  ];
  return (
    `Step ${step}: ${percent(share)} of the ${importanceLevel === "sequence" ? "rollouts" : "tokens"} are clipped: the weights have moved so far from those that sampled the batch that ` +
    "much of it teaches nothing any more. This is said once: clip_ratio/region_mean in metrics.jsonl is the share in each " +
    `step. ${remedies.join(" or ")} keeps them close.`
  );
}

function mismatch({ step, metrics }: HealthStep, { asyncLevel, updatesPerBatch }: TrainValues): string | null {
  const found = metrics["mismatch_kl/mean"] ?? 0;
  if (found < admittedMismatch) return null;
  const size = `(mismatch KL ${found.toPrecision(2)} nats per token; prime-rl admits less than ${admittedMismatch})`;
  const always = "This is said once: mismatch_kl/mean in metrics.jsonl is its value in each step. ";
  // At level 1 an update lies between sampler and scorer, and its effect is far larger than that of a number format.
  if (asyncLevel > 0)
    return (
      `Step ${step}: ${updatesOfStep(updatesPerBatch)} changed the probabilities of the sampled tokens much ${size}. The step learns from rollouts of a policy ` +
      `that it no longer has. ${always}A lower --train.learningRate or --train.asyncLevel 0 keeps them close.`
    );
  return (
    `Step ${step}: sampler and scorer give the same tokens different probabilities ${size}. The gradient is then that of another ` +
    `policy than the one that was sampled. ${always}--train.precision f32 makes both the same.`
  );
}
