// What can be set about a study: a training run and the landscapes around its checkpoints.
import {
  boolean,
  choice,
  defineSettings,
  integer,
  integers,
  number,
  text,
  texts,
  type Values,
} from "../engine/host/index.ts";
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
  isBeside,
  isFixedKl,
} from "./direction-settings.ts";
import { nestedIndices } from "./grid.ts";
import { addressProblems } from "./queue/address.ts";
import { lineSettings, rayAlters, rayApplies, rayProblems, raySettings } from "./ray-settings.ts";
import { shardProblems } from "./shard.ts";

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
    changes: "extends",
    meaning: "grid points per side; with an odd number the checkpoint itself is a grid point",
  }),
  radius: number({
    default: 0.05,
    above: 0,
    changes: "extends",
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
  weights: choice({
    options: ["auto", "slots", "in-tile"],
    default: "auto",
    changes: "free",
    meaning:
      "where the weights of grid points are: slots, a copy for each point at once; in-tile, no copy: a tile is perturbed each time " +
      "a product needs it, which takes much longer; auto, as many slots as fit, and in-tile if not even one does; the results are the " +
      "same bits",
  }),
  precision: choice({
    default: "f32",
    options: ["f32", "f16"],
    meaning:
      "number format of the perturbed matrices, KV cache and what they are multiplied with; perturbation, sums and " +
      "statistics are f32 always",
  }),
  refill: choice({
    options: ["on", "off"],
    default: "on",
    changes: "free",
    meaning:
      "whether the next grid point takes the place of one as soon as its last conversation ends, and the checkpoint's completions are read in the passes of the rollouts; off: pointsAtOnce points begin and end together, and then are scored; the results are the same bits",
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
      changes: "extends",
      meaning: "prompts for the checkpoint's own completions, on which J and KL are measured",
    }),
    rollouts: integer({
      default: 16,
      min: 2,
      unit: "rollouts",
      changes: "extends",
      meaning: "completions per prompt for J and KL; J needs at least two, since with one every advantage is 0",
    }),
  },
  rollouts: {
    prompts: integer({
      default: 64,
      min: 2,
      unit: "prompts",
      changes: "extends",
      meaning: "prompts for the reward R, which is measured on new completions at every grid point",
    }),
    rollouts: integer({
      default: 16,
      min: 1,
      unit: "rollouts",
      changes: "extends",
      meaning: "completions per prompt for R",
    }),
  },
  klFrom: integers({
    default: [],
    min: 0,
    unit: "steps",
    changes: "extends",
    meaning:
      "checkpoints whose policies each cell's KL is taken from too, each on completions of its own, beside the KL from the checkpoint in the centre; empty for none",
  }),
  updates: {
    rank: integer({
      default: 0,
      min: 0,
      unit: "singular vectors",
      changes: () => true,
      meaning:
        "k: the share of each update between the checkpoints of landscape.steps that lies in the top-k singular subspaces of the weights before it, for claim T3; 0 for none",
    }),
  },
  pairs: boolean({
    default: false,
    changes: "extends",
    meaning:
      "whether KL and reward are compared between all pairs of checkpoints in landscape.steps: each one's completions are scored under the others",
  }),
  noiseFloor: integer({
    default: 0,
    min: 0,
    unit: "draws",
    changes: "extends",
    meaning:
      "other noise seeds with which the checkpoint's own rollouts are drawn again: the spread of its reward that is rollout noise alone; 0 for none",
  }),
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
    checkpoints: texts({
      default: [],
      changes: "free",
      isRecorded: true,
      meaning:
        "checkpoints of another training to measure instead of training: folders, patterns as out/checkpoint-*, ORG/NAME@REVISION " +
        "of the hub; =STEP behind a name gives its step (landscape/sweep.ts)",
    }),
    shard: text({
      default: "",
      meaning:
        "the part of every map that this command measures, i/n with i from 0: 0/2 and 1/2 for two machines; landscape/merge.ts joins the folders; empty for all",
    }),
    queue: text({
      default: "",
      changes: "free",
      isFlagOnly: true,
      meaning:
        "a Valkey or Redis server, redis://HOST:PORT or rediss://USER:PASSWORD@HOST:PORT: workers (landscape/work.ts) measure all that is around checkpoints instead of this command; empty for none",
    }),
    "allow-mixed": boolean({
      default: false,
      changes: "free",
      isFlagOnly: true,
      meaning:
        "with queue: take grid points from workers with another driver or version of the program; every figure is marked",
    }),
    model: modelSettings,
    environment: environmentSettings,
    train: trainSettings,
    evaluate: evaluateSettings,
    landscape: landscapeSettings,
    batch: batchSettings,
  },
  ({ checkpoints, shard, queue, environment, train, evaluate, landscape }) => [
    ...shardProblems(shard),
    ...addressProblems(queue),
    ...(shard !== "" && queue !== "" ? ["shard: workers of a queue share all cells; give --shard or --queue"] : []),
    ...(checkpoints.length > 0 ? [] : landscape.steps)
      .filter((step) => step > train.steps || !train.checkpoints.includes(step))
      .map(
        (step) =>
          `landscape.steps: step ${step} has no checkpoint; ${
            step > train.steps
              ? `the last step is train.steps = ${train.steps}`
              : `add it to train.checkpoints (${train.checkpoints.join(", ")})`
          }`,
      ),
    ...(checkpoints.length > 0 ? [] : directionProblems(landscape, train.checkpoints)),
    ...rayProblems(landscape, checkpoints.length > 0 ? null : train.checkpoints),
    ...(checkpoints.length > 0 ? [] : klFromProblems(landscape.klFrom, train.checkpoints)),
    ...(landscape.noiseFloor === 1
      ? ["landscape.noiseFloor: one draw has no spread; expected 0 for none, or at least 2"]
      : []),
    ...runProblems({ environment, train, evaluate }),
  ],
  {
    ...runRules,
    applies: (key, values) =>
      runRules.applies(key, values) &&
      (key !== "shard" || values.shard !== "") &&
      (key !== "landscape.updates.rank" || values.landscape.updates.rank > 0) &&
      (key !== "landscape.klFrom" || values.landscape.klFrom.length > 0) &&
      (key !== "allow-mixed" || values.queue !== "") &&
      (values.checkpoints.length === 0 ? key !== "checkpoints" : !isOfTraining(key)) &&
      (key !== "landscape.pairs" || values.landscape.pairs) &&
      (key !== "landscape.noiseFloor" || values.landscape.noiseFloor > 0) &&
      (!key.startsWith("landscape.") ||
        (directionApplies(key.slice("landscape.".length), values.landscape.directions) &&
          rayApplies(key.slice("landscape.".length), values.landscape))),
    altersIn: (key, before, after) => {
      const { directions, centre } = before.landscape;
      if (key.startsWith("landscape.") && rayAlters(key.slice("landscape.".length), before.landscape, after.landscape))
        return true;
      // A centre beside the checkpoint is in units of the radius.
      if (key === "landscape.radius" && isBeside(centre)) return true;
      // Directions scaled to a KL at the edge follow its place, and the completions that KL is measured on.
      if (isFixedKl(directions) && (key === "landscape.radius" || key.startsWith("landscape.reference."))) return true;
      if (key === "landscape.points" || key === "landscape.radius")
        return nestedIndices(before.landscape, after.landscape) === null;
      return (
        runRules.altersIn(key, before, after) ||
        ((key === "train.checkpoints" || key === "checkpoints") && followsTrajectory(directions))
      );
    },
  },
);

/** @param checkpoints  the steps that have one */
export function klFromProblems(klFrom: readonly number[], checkpoints: readonly number[]): string[] {
  return klFrom
    .filter((step) => !checkpoints.includes(step))
    .map(
      (step) => `landscape.klFrom: step ${step} has no checkpoint; there are those of steps ${checkpoints.join(", ")}`,
    );
}

/** Whether a setting has no effect on maps around checkpoints of another training. */
function isOfTraining(key: string): boolean {
  const ofObjective = ["train.clipLow", "train.clipHigh", "train.advantageEpsilon"];
  return /^(train|evaluate|model)\./.test(key) && !ofObjective.includes(key);
}

export type StudySettings = Values<(typeof studySettings)["tree"]>;
