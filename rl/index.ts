// The rl floor's public face.
export { type AdvantageKind, advantageKinds, groupAdvantages } from "./advantage.ts";
export { expectTrainable, loadState, saveState, settleState, trainedSteps } from "./checkpoint.ts";
export {
  type AlphabetSortOptions,
  alphabetSort,
  alphabetSortDefaults,
  alphabetSortSeed,
} from "./environments/alphabet-sort.ts";
export type { OpenContext } from "./environments/data.ts";
export {
  type ChatMessage,
  type Draws,
  type Environment,
  type EnvironmentFile,
  type EnvironmentKind,
  type Episode,
  EpisodeList,
  episodeList,
  episodeProblems,
  isWorked,
  openingMessages,
  type Reward,
  type RewardParts,
  type Score,
  turnsOf,
  verdictOf,
  type WorkedEnvironment,
  type WorkedEpisode,
  type WorkedTurn,
} from "./environments/environment.ts";
export { environmentFile } from "./environments/environment-file.ts";
export { type EnvironmentLimits, limitsOf, usualLimits } from "./environments/limits.ts";
export {
  firstNames,
  generatedNames,
  lastNames,
  listedNames,
  type NameRows,
  readNameRows,
} from "./environments/names.ts";
export { labelledRandom } from "./environments/python/random.ts";
export {
  environmentApplies,
  environmentDescription,
  environmentFiles,
  environmentProblems,
  formerEnvironmentKeys,
  openEnvironment,
  registerEnvironment,
} from "./environments/registry.ts";
export { loadEnvironmentModule, loadModuleOf } from "./environments/user-module.ts";
export { type RewardFunction, weightedScore } from "./environments/weighted-score.ts";
export { workedDialogue } from "./environments/worked-dialogues.ts";
export { type Evaluation, evaluate, summariseRollouts } from "./evaluate.ts";
export { checkpointFolder, expectSound, isKept, stepName } from "./kept-checkpoints.ts";
export {
  type Example,
  type PolicyExample,
  policyStep,
  supervisedStep,
  type TrainableModel,
} from "./learn.ts";
export { expectPrecision } from "./loss-scale.ts";
export { openMetrics } from "./metrics-file.ts";
export { boundsOfRollouts, expectedTokensOf, openingOf } from "./openings.ts";
export { answerToOtherNames } from "./other-names.ts";
export { expectTrainingMemory, type MemoryCheck } from "./plan.ts";
export type { PolicyLoss } from "./policy-loss.ts";
export { policyProbe, probeRates, trainingShare, type WorkRates, type WorkSizes } from "./probe.ts";
export {
  dialoguesOf,
  expectTemplate,
  type Rollout,
  type RolloutRequest,
  type RolloutSettings,
  rollOut,
  rollOutEach,
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
export { type Normalisation, tokenWeights } from "./token-weights.ts";
export { type TrainingContext, type TrainingSettings, train } from "./trainer.ts";
export { trainingAlters, trainingApplies, trainingProblems } from "./training-settings.ts";
export { attentionFlops, forwardFlops, headFlops } from "./work.ts";
