// What can be set about a study: a training run and the landscapes around its checkpoints.
import { backendSettings, defineSettings, integer, integers, number, text, type Values } from "../engine/host/index.ts";
import { temperatureProblems } from "../model/index.ts";
import {
  answerToOtherNames,
  batchSettings,
  environmentApplies,
  environmentProblems,
  environmentSettings,
  evaluateSettings,
  formerEnvironmentKeys,
  modelSettings,
  trainSettings,
} from "../rl/index.ts";

export const landscapeSettings = {
  seed: integer({ default: 1, min: 0, meaning: "names the directions and the sampling noise of the landscape" }),
  steps: integers({
    default: [0, 150],
    min: 0,
    unit: "steps",
    changes: "extends",
    meaning: "checkpoints to sweep; each must be among train.checkpoints",
  }),
  slices: integer({
    default: 1,
    min: 1,
    unit: "slices",
    changes: "extends",
    meaning: "independent pairs of random directions around each checkpoint",
  }),
  points: integer({
    default: 21,
    min: 2,
    unit: "points",
    meaning: "grid points a side; only an odd number puts the checkpoint itself on the grid",
  }),
  radius: number({
    default: 0.05,
    above: 0,
    meaning: "alpha and beta run from minus this to this, in units of each tensor's norm",
  }),
  episodeSeed: integer({ default: 12345, min: 0, meaning: "seed of the fixed prompt set" }),
  maxNewTokens: integer({ default: 512, min: 1, unit: "tokens", meaning: "longest answer of one turn" }),
  pointsAtOnce: integer({
    default: 8,
    min: 1,
    unit: "points",
    changes: "free",
    meaning: "grid points whose perturbed weights are held at once",
  }),
  reference: {
    prompts: integer({
      default: 64,
      min: 2,
      unit: "prompts",
      meaning: "prompts of the reference completions, on which J and KL are taken",
    }),
    rollouts: integer({
      default: 16,
      min: 2,
      unit: "rollouts",
      meaning: "reference completions of each prompt; with one every advantage is 0, and J needs advantages",
    }),
  },
  rollouts: {
    prompts: integer({
      default: 64,
      min: 2,
      unit: "prompts",
      meaning: "prompts on which R is measured, fresh at every grid point",
    }),
    rollouts: integer({ default: 16, min: 1, unit: "rollouts", meaning: "rollouts of each prompt" }),
  },
  conversations: integer({
    default: 3,
    min: 0,
    unit: "prompts",
    meaning: "prompts whose conversations are kept at every grid point, to read",
  }),
  simulations: integer({
    default: 200,
    min: 0,
    meaning: "simulated studies for the coverage of the intervals; 0 for none",
  }),
} as const;

export const studySettings = defineSettings(
  {
    extends: text({
      default: "",
      changes: "free",
      meaning:
        "a preset or settings file that this one builds on: what it sets holds unless it is set here; empty for none",
    }),
    out: text({
      default: "",
      changes: "free",
      meaning: "the run folder; empty for runs/ and the name of the settings file",
    }),
    ...backendSettings,
    model: modelSettings,
    environment: environmentSettings,
    train: trainSettings,
    evaluate: evaluateSettings,
    landscape: landscapeSettings,
    batch: batchSettings,
  },
  ({ environment, train, evaluate, landscape }) => [
    ...temperatureProblems("evaluate.temperature", evaluate.temperature),
    ...landscape.steps
      .filter((step) => !train.checkpoints.includes(step))
      .map(
        (step) =>
          `landscape.steps: step ${step} has no checkpoint; add it to train.checkpoints (${train.checkpoints.join(", ")})`,
      ),
    ...train.checkpoints
      .filter((step) => step > train.steps)
      .map((step) => `train.checkpoints: step ${step} is after the last one, train.steps = ${train.steps}`),
    ...environmentProblems(environment),
  ],
  {
    names: { renamed: formerEnvironmentKeys, answer: answerToOtherNames },
    applies: (key, { environment }) => environmentApplies(key, environment),
  },
);

export type StudySettings = Values<(typeof studySettings)["tree"]>;
