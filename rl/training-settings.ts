// What follows from several training settings together: which combinations are refused, which settings have an effect,
// and what a longer run changes.
import type { Values } from "../engine/host/index.ts";
import { noWarping, type Warping } from "../engine/index.ts";
import { dependsOnLength, scheduleProblems } from "./learning-rate.ts";
import type { trainSettings } from "./settings.ts";

export type TrainValues = Values<typeof trainSettings>;

/** How the training rollouts are sampled. */
export function rolloutSampling({ temperature, topK, topP }: Pick<TrainValues, "temperature" | "topK" | "topP">): {
  temperature: number;
  warping?: Warping;
} {
  return topK === 0 && topP === 1 ? { temperature } : { temperature, warping: { ...noWarping, topK, topP } };
}

/** Rollouts of a step: of each prompt under the same weights, and of all prompts and weights. */
export function rolloutsOfStep({ method, promptsPerStep, rolloutsPerPrompt, evolve }: TrainValues): {
  readonly perPrompt: number;
  readonly all: number;
} {
  return method === "evolve"
    ? { perPrompt: evolve.rollouts, all: evolve.population * promptsPerStep * evolve.rollouts }
    : { perPrompt: rolloutsPerPrompt, all: promptsPerStep * rolloutsPerPrompt };
}

/** How many times the weights a saved training state holds: with GRPO, AdamW's two moments besides. */
export function stateTensors({ method }: Pick<TrainValues, "method">): number {
  return method === "grpo" ? 3 : 1;
}

/** Combinations that are refused, each as one sentence. */
export function trainingProblems(train: TrainValues): string[] {
  if (train.method === "evolve") return evolutionProblems(train);
  const problems = [...scheduleProblems(train), ...lossProblems(train)];
  if (train.maxRedraws > 0 && train.equalGroups === "keep")
    problems.push(
      `train.maxRedraws: ${train.maxRedraws} rounds of redraws need dropped groups to replace; set train.equalGroups to "drop"`,
    );
  return problems;
}

function evolutionProblems({ precision, evolve }: TrainValues): string[] {
  const problems: string[] = [];
  if (evolve.antithetic && evolve.population % 2 === 1)
    problems.push(
      `train.evolve.population: expected an even number of members, since they come in pairs, got ${evolve.population}; or set ` +
        "train.evolve.antithetic to false",
    );
  if (precision !== "f32")
    problems.push(
      `train.precision: expected "f32" with train.method "evolve", got "${precision}": it rounds the operands of gradients, and ` +
        "there are none",
    );
  return problems;
}

function lossProblems({ loss, ratioCap, clipHigh }: TrainValues): string[] {
  const problems: string[] = [];
  if (loss === "cispo" && ratioCap > 0 && ratioCap < 1)
    problems.push(
      `train.ratioCap: expected at least 1 with train.loss "cispo", got ${ratioCap}: it is the largest weight itself, not its ` +
        "distance from 1, and would lower the weight of every token",
    );
  if (loss === "cispo" && ratioCap === 0)
    problems.push(
      'train.ratioCap: train.loss "cispo" needs the largest weight of a token; set train.ratioCap, to 5 for example',
    );
  if (loss === "clipped" && ratioCap > 0 && ratioCap <= 1 + clipHigh)
    problems.push(
      `train.ratioCap: expected more than the upper clip bound, 1 + train.clipHigh = ${1 + clipHigh}, got ${ratioCap}: it would ` +
        "take the place of that bound. Set 0 for no cap",
    );
  if ((loss === "masked-importance" || loss === "sapo") && ratioCap > 0)
    problems.push(
      `train.ratioCap: train.loss "${loss}" ${loss === "sapo" ? "has a gate" : "drops tokens above train.ratioHigh"} and caps no ` +
        `ratio; set train.ratioCap to 0, got ${ratioCap}`,
    );
  return problems;
}

/** Settings of gradients, groups of rollouts and their loss, which evolution strategies do not have. */
const ofGradients = new Set(
  [
    ...["rolloutsPerPrompt", "learningRate", "schedule", "warmupSteps", "floorShare", "maxGradientNorm", "advantage"],
    ...[
      "equalGroups",
      "maxRedraws",
      "maskTruncated",
      "updatesPerBatch",
      "asyncLevel",
      "loss",
      "importanceLevel",
      "ratioLow",
      "ratioHigh",
    ],
    ...["ratioCap", "klCoefficient", "entropyCoefficient", "topEntropyQuantile", "scheduleCycles", "schedulePower"],
    ...["sapoPositive", "sapoNegative", "klTimesRatio"],
  ].map((name) => `train.${name}`),
);

/** Conditions of settings that have no effect unless another setting has a certain value. */
const conditions: { readonly [key: string]: (train: TrainValues) => boolean } = {
  "train.rewardProbability": ({ reward }) => reward === "random",
  "train.scheduleCycles": ({ schedule }) => schedule === "cosine_with_restarts",
  "train.sapoPositive": ({ loss }) => loss === "sapo",
  "train.sapoNegative": ({ loss }) => loss === "sapo",
  "train.klTimesRatio": ({ klCoefficient }) => klCoefficient > 0,
  "train.schedulePower": ({ schedule }) => schedule === "polynomial",
};

/** Whether a setting has any effect, given the values of the others. True for a setting without a condition. */
export function trainingApplies(key: string, train: TrainValues): boolean {
  if (key.startsWith("train.evolve.")) return train.method === "evolve";
  if (train.method === "evolve" && ofGradients.has(key)) return false;
  return !Object.hasOwn(conditions, key) || conditions[key](train);
}

/** Why a run of another length has other learning rates from its start: if the schedule depends on the number of all updates. */
export function trainingAlters(key: string, before: TrainValues, after: TrainValues): string | false {
  if (key !== "train.steps" || after.method !== "grpo" || !(dependsOnLength(before) || dependsOnLength(after)))
    return false;
  return `with train.schedule ${after.schedule} a run of another length has other learning rates from its first step on`;
}
