// The engine's public face: everything that the floors above may use.

export { adapterLine } from "./adapter-line.ts";
export {
  GradientMap,
  type GradientStore,
  isRecording,
  noGradient,
  type Recording,
  recompute,
  record,
  reshape,
  type Seeds,
} from "./autograd.ts";
export type { Backend, BackendStatistics } from "./backends/backend.ts";
export { CpuBackend } from "./backends/cpu.ts";
export { PlanningBackend } from "./backends/planning.ts";
export type { DType, NumberArray } from "./dtype.ts";
export * from "./dtype-conversion.ts";
export * from "./errors.ts";
export {
  allocateForward,
  type HalfEntry,
  HalfWeights,
  halfMemory,
  smallestBeyondHalf,
  writeElements,
} from "./half-weights.ts";
export { CheckpointError, FileError, RunFolderError, SettingsError, UserError } from "./host/errors.ts";
export { type AdapterStyle, type Constants, defineKernel, type Kernel, type KernelDefinition } from "./kernel.ts";
export { type MemoryPurpose, memoryLabel, purposeOf } from "./memory-purpose.ts";
export { MovedWeights, type PointWeights } from "./moved-weights.ts";
export { defineOp, expectRank, expectShape, type Op, type OpDefinition } from "./op.ts";
export { type BackendOptions, type OpenedBackend, openBackend } from "./open.ts";
export { attention, causalSpans } from "./ops/attention/attention.ts";
export { appendToCache } from "./ops/attention/kv-append.ts";
export { repeatSlots } from "./ops/attention/repeat-slots.ts";
export { add, mul, scale, sub } from "./ops/elementwise/elementwise.ts";
export { embedding } from "./ops/embedding/embedding.ts";
export { gatherRows } from "./ops/gather/gather.ts";
export { head } from "./ops/head/head.ts";
export { klAndScore, klReader, noRowOfP } from "./ops/head/kl-divergence.ts";
export { lowestTemperature } from "./ops/head/logits.ts";
export { type LogitsReader, readLogits } from "./ops/head/read-logits.ts";
export { sequenceMean } from "./ops/loss/sequence-mean.ts";
export { type Surrogate, type SurrogateSettings, surrogate } from "./ops/loss/surrogate.ts";
export { mean, sum, weightedSum } from "./ops/loss/weighted-sum.ts";
export { gatedLinear } from "./ops/matmul/gated-linear.ts";
export { type AttentionInputs, afterAttention, beforeAttention } from "./ops/matmul/layer-parts.ts";
export { linear } from "./ops/matmul/linear.ts";
export { linearTriple } from "./ops/matmul/linear-triple.ts";
export { preferredTiles, preferTiles, sumOrder, type TileChoice } from "./ops/matmul/tiles.ts";
export { tileChoiceSchema } from "./ops/matmul/tune.ts";
export { type DirectionStep, moveIntoSlot } from "./ops/perturbation/along.ts";
export { addDirection, rowProducts, scaleRows } from "./ops/perturbation/explicit.ts";
export { norm, normOfDirection } from "./ops/perturbation/frobenius-norm.ts";
export { writeNormals } from "./ops/perturbation/normals.ts";
export { perturbIntoSlot } from "./ops/perturbation/perturb.ts";
export { type WeightedStream, writeWeightedNormals } from "./ops/perturbation/weighted-normals.ts";
export { logSoftmax, softmax } from "./ops/reference/softmax.ts";
export { rmsNorm } from "./ops/rms-norm/rms-norm.ts";
export { rope, rotaryTables } from "./ops/rope/rope.ts";
export { type CacheTarget, ropeIntoCache, ropePair } from "./ops/rope/rope-pair.ts";
export { type SampledTokens, sampleTokens, tokenSampler } from "./ops/sampling/sample-tokens.ts";
export { noSample } from "./ops/sampling/sampling.ts";
export { largestPenalty, markSeen, noWarping, seenWords, type Warping } from "./ops/sampling/warp.ts";
export { matrixUnits } from "./ops/shared/matrix-units.ts";
export { swiglu } from "./ops/swiglu/swiglu.ts";
export { type AdamwSettings, adamwStep } from "./optim/adamw.ts";
export { type ArenaMemory, allocateGroups, arenaMemory, ParameterArena } from "./parameter-arena.ts";
export {
  type BatchRows,
  forEachGroup,
  type OperandPrecision,
  type Parameter,
  type RowGroup,
  type SelectedRows,
  type Weights,
  type WeightTensors,
} from "./parameters.ts";
export { directionNormals, philox, philoxKey, tokenCounterRow, tokenKey, type WordPair, wordsOf } from "./random.ts";
export { fromHost, Replay } from "./replay.ts";
export { type GradientTarget, type Run, run } from "./run.ts";
export { keep, keepAll, scope, scopeAsync } from "./scope.ts";
export { SlotWeights } from "./slot-weights.ts";
export { copyElements, empty, fromArray, readTensors, type Shape, sizeOf, Tensor } from "./tensor.ts";
