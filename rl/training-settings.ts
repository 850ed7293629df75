// What follows from several training settings together: which combinations are refused, which settings have an effect,
// and what a longer run changes.
import type { Values } from "../engine/host/index.ts";
import { noWarping, type Warping } from "../engine/index.ts";
import { dependsOnLength, scheduleProblems } from "./learning-rate.ts";
import type { trainSettings } from "./settings.ts";

export type TrainValues = Values<typeof trainSettings>;

/** How the training rollouts are sampled. */
export function samplingOf({ temperature, topK, topP }: Pick<TrainValues, "temperature" | "topK" | "topP">): {
  temperature: number;
  warping?: Warping;
} {
  return topK === 0 && topP === 1 ? { temperature } : { temperature, warping: { ...noWarping, topK, topP } };
}

/** Combinations that are refused, each as one sentence. */
export function trainingProblems(train: TrainValues): string[] {
  return scheduleProblems(train);
}

/** Conditions of settings that have no effect unless another setting has a certain value. */
const conditions: { readonly [key: string]: (train: TrainValues) => boolean } = {
  "train.scheduleCycles": ({ schedule }) => schedule === "cosine_with_restarts",
  "train.schedulePower": ({ schedule }) => schedule === "polynomial",
};

/** Whether a setting has any effect, given the values of the others. Settings of other sections have. */
export function trainingApplies(key: string, train: TrainValues): boolean {
  return !Object.hasOwn(conditions, key) || conditions[key](train);
}

/** A longer run has other learning rates from its start if the schedule depends on the number of all updates. */
export function trainingAlters(key: string, before: TrainValues, after: TrainValues): boolean {
  return key === "train.steps" && (dependsOnLength(before) || dependsOnLength(after));
}
