// The rl floor's public face.
export { type AdvantageKind, advantageKinds, batchAdvantages, groupAdvantages } from "./advantage.ts";
export { loadState, saveState, trainedSteps } from "./checkpoint.ts";
export {
  type AlphabetSortOptions,
  alphabetSort,
  alphabetSortDefaults,
  alphabetSortSeed,
} from "./environments/alphabet-sort.ts";
export {
  type Environment,
  type Episode,
  EpisodeList,
  type Reward,
  scoreEpisode,
  type WorkedEnvironment,
} from "./environments/environment.ts";
export {
  firstNames,
  generatedNames,
  lastNames,
  listedNames,
  type NameRows,
  readNameRows,
} from "./environments/names.ts";
export { openEnvironment } from "./environments/open.ts";
export { workedDialogue } from "./environments/worked-dialogues.ts";
export { type Evaluation, evaluate, summariseRollouts } from "./evaluate.ts";
export { checkpointFolder, expectSound, isKept } from "./kept-checkpoints.ts";
export { type Example, type PolicyExample, policyStep, supervisedStep, type TrainableModel } from "./learn.ts";
export { expectPrecision } from "./loss-scale.ts";
export { openMetrics } from "./metrics-file.ts";
export { expectTrainingMemory } from "./plan.ts";
export {
  dialoguesOf,
  expectTemplate,
  type Rollout,
  type RolloutRequest,
  type RolloutSettings,
  rollOut,
} from "./rollout.ts";
export { learningRate, type Schedule } from "./schedule.ts";
export {
  batchSettings,
  environmentSettings,
  evaluateSettings,
  modelSettings,
  trainSettings,
} from "./settings.ts";
export { openTensorBoard } from "./tensorboard.ts";
export { type TrainingContext, type TrainingSettings, tokenWeights, train } from "./trainer.ts";
