// What can be set about a training run of its own. A study has the same settings and those of the landscape besides
// (landscape/settings.ts), so one settings file serves both: rl/train.ts leaves the section [landscape] out.
import { backendSettings, defineSettings, text, texts, type Values } from "../engine/host/index.ts";
import { temperatureProblems } from "../model/index.ts";
import { environmentApplies, environmentProblems, formerEnvironmentKeys } from "./environments/registry.ts";
import type { RunDeclaration } from "./files/run-settings.ts";
import { answerToOtherNames } from "./other-names.ts";
import { batchSettings, environmentSettings, evaluateSettings, modelSettings, trainSettings } from "./settings.ts";
import { trainingAlters, trainingApplies, trainingProblems } from "./training-settings.ts";

/** The settings of a run as a whole. */
export const generalSettings = {
  extends: text({
    default: "",
    changes: "free",
    meaning:
      "a preset or settings file that this one builds on: its settings apply unless they are set here; empty for none",
  }),
  out: text({
    default: "",
    changes: "free",
    meaning: "run folder; empty for runs/NAME, where NAME is that of the settings file",
  }),
  notes: texts({
    default: [],
    changes: "free",
    isRecorded: true,
    meaning:
      "sentences that the report shows at its head: what a reader must know about this study, and must not conclude from it",
  }),
  ...backendSettings,
} as const;

const tree = {
  ...generalSettings,
  model: modelSettings,
  environment: environmentSettings,
  train: trainSettings,
  evaluate: evaluateSettings,
  batch: batchSettings,
} as const;

export type RunValues = Values<typeof tree>;

/** Combinations that a run refuses, each as one sentence. */
export function runProblems({ environment, train, evaluate }: Pick<RunValues, "environment" | "train" | "evaluate">) {
  return [
    ...temperatureProblems("evaluate.temperature", evaluate.temperature),
    ...train.checkpoints
      .filter((step) => step > train.steps)
      .map((step) => `train.checkpoints: step ${step} is after the last one, train.steps = ${train.steps}`),
    ...trainingProblems(train),
    ...environmentProblems(environment),
  ];
}

/** Names from elsewhere, which settings have an effect, and what a longer run changes. */
export const runRules = {
  names: { renamed: formerEnvironmentKeys, answer: answerToOtherNames },
  applies: (key: string, { environment, train }: Pick<RunValues, "environment" | "train">): boolean =>
    environmentApplies(key, environment) && trainingApplies(key, train),
  altersIn: (key: string, before: Pick<RunValues, "train">, after: Pick<RunValues, "train">): string | false =>
    trainingAlters(key, before.train, after.train),
} as const;

export const runSettings = defineSettings(tree, runProblems, {
  ...runRules,
  names: { ...runRules.names, elsewhere: new Map([["landscape", "node landscape/run.ts"]]) },
});

/** The sections that every complete config.toml of a training run has. */
export const runDeclaration: RunDeclaration<typeof tree> = {
  settings: runSettings,
  sections: () => ["environment", "train", "evaluate", "batch"],
};
