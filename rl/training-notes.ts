// What a training says of itself in the terminal.
import type { Values } from "../engine/host/index.ts";
import type { trainSettings } from "./settings.ts";
import type { DraftCounts } from "./training-context.ts";
import { rolloutsOfStep, type TrainValues } from "./training-settings.ts";

/** The end of a step's progress line. */
export function describeStep(record: Readonly<Record<string, number>>): string {
  const evaluated = record["eval/reward"];
  const failed = record["completions/failed"] + (record["eval/completions/failed"] ?? 0);
  return (
    `reward ${record["reward"].toFixed(2)}${evaluated === undefined ? "" : `, evaluated ${evaluated.toFixed(2)}`}` +
    (failed > 0 ? `, ${failed} rollouts failed` : "")
  );
}

/** A line about the effect of clipping in this run, printed once at its start. */
export function ratioNote({ asyncLevel, updatesPerBatch, loss }: Values<typeof trainSettings>): string {
  const bounds = {
    clipped: "train.clipLow and train.clipHigh",
    "masked-importance": "train.ratioLow and train.ratioHigh",
    cispo: "train.ratioCap and train.importanceLevel",
    sapo: "train.sapoPositive and train.sapoNegative",
  }[loss];
  if (asyncLevel === 1)
    return updatesPerBatch === 1
      ? `Rollouts come from the weights of one update before: from step 2 on, ${bounds} limit the effect of a ratio.`
      : `Rollouts come from the weights of the step before, ${updatesPerBatch} updates per batch: from the second update on, ${bounds} ` +
          "limit the effect of a ratio.";
  if (updatesPerBatch > 1)
    return `${updatesPerBatch} updates per batch: from the second one on, ${bounds} limit the effect of a ratio.`;
  return (
    `One update per batch: every ratio is 1, so ${bounds} have no effect in training. They have an effect with ` +
    "--train.updatesPerBatch 2 or more, or with --train.asyncLevel 1."
  );
}

/** What a step computes, printed once at the start of a run. */
export function evolutionNote(train: TrainValues): string {
  const { population, sigma, learningRate, antithetic, fitness, rollouts } = train.evolve;
  return (
    `Evolution strategies: ${population} members a step${antithetic ? `, ${population / 2} pairs` : ""}, sigma ${sigma}, ` +
    `learning rate ${learningRate}, fitness ${fitness}; ${population} × ${train.promptsPerStep} prompts × ${rollouts} ` +
    `${rollouts === 1 ? "rollout" : "rollouts"} = ${rolloutsOfStep(train).all} rollouts a step. There are no gradients.`
  );
}

/** What a reader must know of a training whose rewards are coins; null if they are the environment's. */
export function randomRewardNote({
  reward,
  rewardProbability,
}: Pick<TrainValues, "reward" | "rewardProbability">): string | null {
  return reward === "environment"
    ? null
    : `Random rewards: a rollout's reward is 1 with probability ${rewardProbability}, else 0, whatever it says. This training is a ` +
        "control: it is told nothing of the task. Evaluation and landscape keep the environment's reward.";
}

export function failureNote(step: number, failure: string): string {
  return (
    `Step ${step}: a rollout failed in the environment and is left out of its group: ${failure}\nThis is said once: ` +
    "completions/failed in metrics.jsonl is the number in each step, and rollouts/ has the reasons."
  );
}

/** What drafts were worth in the evaluations of this process. */
export class DraftedShare {
  readonly #sums = { tokens: 0, drafted: 0, spared: 0 };

  add({ tokens, drafted, spared }: DraftCounts): void {
    this.#sums.tokens += tokens;
    this.#sums.drafted += drafted;
    this.#sums.spared += spared;
  }

  /** A line for the end; null if no evaluation had drafts. */
  get note(): string | null {
    const { tokens, drafted, spared } = this.#sums;
    if (tokens === 0) return null;
    const percent = (part: number): string => `${((100 * part) / tokens).toFixed(0)}%`;
    return (
      `Evaluations: ${percent(drafted)} of ${tokens} assistant tokens were as the evaluation before had said them; ` +
      `${percent(spared)} needed no decode step (--evaluate.drafts).`
    );
  }
}

export function occupancyNote(share: number, rows: number): string {
  return (
    `Rollouts: on average ${(100 * share).toFixed(0)}% of the generation batch's places were in use. It has --batch.rows ` +
    `(${rows}) places, or as many as a step has conversations if these are fewer.`
  );
}
