// The rl floor's public face.
export { type AdvantageKind, advantageKinds, groupAdvantages } from "./advantage.ts";
export {
  expectTrainable,
  loadState,
  openMoments,
  type SavedMoments,
  saveState,
  settleState,
  trainedSteps,
} from "./checkpoint.ts";
export { type Answers, answersOf, proposal, type RolloutDraft, type SaidAnswers } from "./drafts.ts";
export {
  type PlannedMemory,
  type PlannedModel,
  plannedModel,
  printDisk,
  printMemory,
  printModel,
  printTime,
  workTable,
} from "./dry-run.ts";
export {
  type AlphabetSortOptions,
  alphabetSort,
  alphabetSortDefaults,
  alphabetSortSeed,
} from "./environments/alphabet-sort.ts";
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
  type WorkedEnvironment,
  type WorkedEpisode,
  type WorkedTurn,
} from "./environments/environment.ts";
export { environmentFile } from "./environments/environment-file.ts";
export { type EnvironmentLimits, expectFewFailures, limitsOf, usualLimits } from "./environments/limits.ts";
export {
  firstNames,
  generatedNames,
  lastNames,
  listedNames,
  type NameRows,
  readNameRows,
} from "./environments/names.ts";
export type { OpenContext } from "./environments/open-context.ts";
export { labelledRandom } from "./environments/python/random.ts";
export {
  environmentDescription,
  environmentFiles,
  openEnvironment,
  registerEnvironment,
} from "./environments/registry.ts";
export { loadEnvironmentModule, loadModuleOf } from "./environments/user-module.ts";
export { verdictOf } from "./environments/verdict.ts";
export { type RewardFunction, weightedScore } from "./environments/weighted-score.ts";
export { workedDialogue } from "./environments/worked-dialogues.ts";
export { type Evaluation, evaluate, summariseRollouts } from "./evaluation.ts";
export { configPath, metricsPath, provenancePath, stateFolder } from "./files/layout.ts";
export { readMetrics } from "./files/metrics.ts";
export {
  checkModel,
  checkOrigin,
  checkSettings,
  claimFolder,
  embeddedModel,
  hasProvenance,
  modelDigest,
  openRunFolder,
  originOf,
  type Provenance,
  programVersion,
  readProvenance,
  runName,
  versionText,
} from "./files/run-folder.ts";
export { type RunDeclaration, readSettings } from "./files/run-settings.ts";
export { Timings } from "./files/timings.ts";
export { readTrainingSamples } from "./files/training-samples.ts";
export { conversationBytes, type DiskPlan, trainingDisk, writtenPrompts } from "./folder-size.ts";
export { checkpointFolder, expectSound, isKept, keptSums, stepName } from "./kept-checkpoints.ts";
export {
  type Example,
  gradientOfLogProbs,
  type PolicyExample,
  policyStep,
  supervisedStep,
  type TrainableModel,
} from "./learn.ts";
export { expectPrecision } from "./loss-scale.ts";
export { openMetrics } from "./metrics-file.ts";
export { Occupancy } from "./occupancy.ts";
export {
  boundsOfRollouts,
  type ExpectedConversation,
  expectedConversation,
  expectedTokensOf,
  longestConversation,
  openingOf,
} from "./openings.ts";
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
export { generalSettings, runProblems, runRules } from "./run-settings.ts";
export { learningRate, type Schedule } from "./schedule.ts";
export {
  batchSettings,
  environmentSettings,
  evaluateSettings,
  modelSettings,
  trainSettings,
} from "./settings.ts";
export { filesOf, filesOfCommand, folderOfCommand, notesThatHold, presetNames } from "./settings-files.ts";
export {
  normalCumulative,
  normalDensity,
  normalQuantile,
  reachOfMean,
  solveIncreasing,
  studentQuantile,
} from "./statistics/distributions.ts";
export {
  coverAt,
  coverAtOf,
  floorShare,
  floorShareOf,
  passAtK,
  passAtKOf,
  successesOf,
  zerosOf,
} from "./statistics/pass-at-k.ts";
export { openTensorBoard } from "./tensorboard.ts";
export { type Normalisation, tokenWeights } from "./token-weights.ts";
export { probeSizes, trainingMemory } from "./train-plan.ts";
export { train } from "./trainer.ts";
export type { TrainingContext, TrainingSettings } from "./training-context.ts";
export { randomRewardNote } from "./training-notes.ts";
export {
  type EpisodeUse,
  evaluationLine,
  expectRoomForTraining,
  isTrained,
  type OpenedRun,
  sayStopped,
  settleRun,
  trainRun,
  withRun,
} from "./training-run.ts";
export {
  flopsOf,
  generationWork,
  type Lengths,
  lengthsOf,
  scoringWork,
  secondsOf,
  trainingWork,
  type WorkPart,
} from "./work-parts.ts";
