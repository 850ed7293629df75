// What can be set about a study: a training run and the landscapes around its checkpoints.
import { choice, defineSettings, integer, integers, number, type Values } from "../engine/host/index.ts";
import {
  batchSettings,
  environmentSettings,
  evaluateSettings,
  generalSettings,
  modelSettings,
  runProblems,
  runRules,
  trainSettings,
} from "../rl/index.ts";
import {
  centreSettings,
  directionApplies,
  directionProblems,
  directionSettings,
  followsTrajectory,
} from "./direction-settings.ts";
import { lineSettings, rayAlters, rayApplies, rayProblems, raySettings } from "./ray-settings.ts";

export const landscapeSettings = {
  seed: integer({ default: 1, min: 0, meaning: "random seed for the directions and for sampling in the landscape" }),
  steps: integers({
    default: [0, 150],
    min: 0,
    unit: "steps",
    changes: "extends",
    meaning: "checkpoints whose landscape is measured; each must be in train.checkpoints",
  }),
  slices: integer({
    default: 1,
    min: 1,
    unit: "slices",
    changes: "extends",
    meaning: "slices per checkpoint, each along its own pair of random directions",
  }),
  points: integer({
    default: 21,
    min: 2,
    unit: "points",
    meaning: "grid points per side; with an odd number the checkpoint itself is a grid point",
  }),
  radius: number({
    default: 0.05,
    above: 0,
    meaning: "half width of the grid: alpha and beta run from −radius to +radius, in units of each tensor's norm",
  }),
  episodeSeed: integer({
    default: 12345,
    min: 0,
    meaning: "random seed for the prompts, which are the same at every grid point",
  }),
  maxNewTokens: integer({ default: 512, min: 1, unit: "tokens", meaning: "maximum length of an answer, per turn" }),
  pointsAtOnce: integer({
    default: 8,
    min: 1,
    unit: "points",
    changes: "free",
    meaning: "maximum number of grid points whose perturbed weights are in memory at the same time",
  }),
  precision: choice({
    default: "f32",
    options: ["f32", "f16"],
    meaning:
      "number format of the perturbed matrices, KV cache and what they are multiplied with; perturbation, sums and " +
      "statistics are f32 always",
  }),
  drafts: choice({
    options: ["on", "off"],
    default: "on",
    changes: "free",
    meaning:
      "whether the answers of neighbouring grid points are proposed to a point's rollouts, which verify many tokens in one forward pass; the results are the same bits",
  }),
  directions: directionSettings,
  centre: centreSettings,
  rays: raySettings,
  line: lineSettings,
  reference: {
    prompts: integer({
      default: 64,
      min: 2,
      unit: "prompts",
      meaning: "prompts for the checkpoint's own completions, on which J and KL are measured",
    }),
    rollouts: integer({
      default: 16,
      min: 2,
      unit: "rollouts",
      meaning: "completions per prompt for J and KL; J needs at least two, since with one every advantage is 0",
    }),
  },
  rollouts: {
    prompts: integer({
      default: 64,
      min: 2,
      unit: "prompts",
      meaning: "prompts for the reward R, which is measured on new completions at every grid point",
    }),
    rollouts: integer({ default: 16, min: 1, unit: "rollouts", meaning: "completions per prompt for R" }),
  },
  conversations: integer({
    default: 3,
    min: 0,
    unit: "prompts",
    meaning: "prompts whose conversations are kept for reading, at every grid point",
  }),
  simulations: integer({
    default: 200,
    min: 0,
    meaning: "simulated studies that measure how often the intervals cover the true value; 0 for none",
  }),
} as const;

export const studySettings = defineSettings(
  {
    ...generalSettings,
    model: modelSettings,
    environment: environmentSettings,
    train: trainSettings,
    evaluate: evaluateSettings,
    landscape: landscapeSettings,
    batch: batchSettings,
  },
  ({ environment, train, evaluate, landscape }) => [
    ...landscape.steps
      .filter((step) => !train.checkpoints.includes(step))
      .map(
        (step) =>
          `landscape.steps: step ${step} has no checkpoint; add it to train.checkpoints (${train.checkpoints.join(", ")})`,
      ),
    ...directionProblems(landscape, train.checkpoints),
    ...rayProblems(landscape, train.checkpoints),
    ...runProblems({ environment, train, evaluate }),
  ],
  {
    ...runRules,
    applies: (key, values) =>
      runRules.applies(key, values) &&
      (!key.startsWith("landscape.") ||
        (directionApplies(key.slice("landscape.".length), values.landscape.directions) &&
          rayApplies(key.slice("landscape.".length), values.landscape))),
    altersIn: (key, before, after) =>
      runRules.altersIn(key, before, after) ||
      (key === "train.checkpoints" && followsTrajectory(before.landscape.directions)) ||
      (key.startsWith("landscape.") && rayAlters(key.slice("landscape.".length), before.landscape)),
  },
);

export type StudySettings = Values<(typeof studySettings)["tree"]>;
