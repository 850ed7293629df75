// The model floor's public face.
export { readAdapterConfig } from "./adapter-config.ts";
export { settleFolders, writeFolderAtomically } from "./atomic-folder.ts";
export { type Batch, distinctTokens, packSequences } from "./batch.ts";
export { Chat, type ChatMessage, type GlueOptions, loadChat } from "./chat.ts";
export {
  Checkpoint,
  isModelFile,
  modelFiles,
  openCheckpoint,
  openConfig,
  readModelJson,
  tokenizerFiles,
} from "./checkpoint-files.ts";
export { temperatureProblems } from "./commands/sampling-settings.ts";
export { parseConfig, type Qwen2Config } from "./config.ts";
export type { Answer, Dialogue, Text } from "./dialogue.ts";
export { BoundsCollector, boundsOf, type DialogueBounds } from "./dialogue-bounds.ts";
export type { Draft } from "./drafts.ts";
export { openLanguageModel, registerModelFamily } from "./families.ts";
export type { GenerateSettings, Model, Pass, ReadStates, StatesUse } from "./generate-settings.ts";
export { generate } from "./generation.ts";
export { notNumbers } from "./generation-pass.ts";
export { type LocatedModel, type LocateOptions, locateModel, withoutDownload } from "./hub.ts";
export { type DatasetPart, isHubName, type LocatedDataset, locateDataset, NotAtHandError } from "./hub-dataset.ts";
export type { FetchOptions } from "./hub-snapshot.ts";
export { KvCache } from "./kv-cache.ts";
export {
  type ForwardOptions,
  headWeight,
  type LanguageModel,
  type LayerCaches,
  type ModelFacts,
  type ModelFamily,
  type ParameterDescription,
  type ParameterRole,
  parameterShapes,
  runLayers,
} from "./language-model.ts";
export {
  describePlan,
  emptyModel,
  expectMemory,
  halve,
  type MemoryLimit,
  type MemoryPlan,
  type MemorySetting,
  memoryLimit,
  planMemory,
  rehearseGeneration,
  rehearseScoring,
} from "./plan.ts";
export { publishedConfigOf } from "./published-shapes.ts";
export { type Qwen2Model, qwen2Model } from "./qwen2.ts";
export { initialise } from "./random-weights.ts";
export { openSafetensors, writeSafetensors } from "./safetensors.ts";
export {
  answerScores,
  answerStates,
  type DistinctAnswers,
  distinctAnswers,
  distinctStates,
  microBatches,
  type Sequence,
  type SequenceScores,
  score,
  scoredPositions,
  scoreWhole,
  type WholeScores,
} from "./scoring.ts";
export { standInChat } from "./stand-in-chat.ts";
export { loadTokenizer, Tokenizer } from "./tokenizer.ts";
export type { WeightDtype } from "./weight-source.ts";
export {
  halfEntries,
  type InferenceModel,
  loadForInference,
  loadModel,
  loadWeights,
  makeHalfWeights,
  makeWeights,
  openMergedConfig,
  saveWeights,
  type WeightOptions,
} from "./weights.ts";
export { type CheckpointToWrite, type NamedTensor, writeCheckpoint } from "./write-checkpoint.ts";
