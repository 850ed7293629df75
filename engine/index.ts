// The engine's public face: all that the floors above may use.

export {
  backward,
  GradientMap,
  type GradientStore,
  isRecording,
  noGradient,
  recompute,
  record,
  reshape,
} from "./autograd.ts";
export type { Backend, BackendStatistics } from "./backend.ts";
export { CpuBackend } from "./cpu/backend.ts";
export type { DType, NumberArray } from "./dtype.ts";
export * from "./dtype-conversion.ts";
export * from "./errors.ts";
export { defineKernel } from "./kernel.ts";
export { defineOp } from "./op.ts";
export { type BackendOptions, type OpenedBackend, openBackend } from "./open.ts";
export { attention, causalSpans } from "./ops/attention.ts";
export { add, scale } from "./ops/elementwise.ts";
export { embedding } from "./ops/embedding.ts";
export { gatherRows } from "./ops/gather.ts";
export { head } from "./ops/head.ts";
export { klAndScore } from "./ops/kl-divergence.ts";
export { appendToCache } from "./ops/kv-append.ts";
export { linear } from "./ops/linear.ts";
export { preferredTiles, preferTiles, sumOrder, type TilePlan } from "./ops/matmul-tiles.ts";
export { rmsNorm } from "./ops/norm.ts";
export { norm, normOfDirection } from "./ops/norms.ts";
export { perturbFromDirections, perturbIntoSlot } from "./ops/perturb.ts";
export { writeNormals } from "./ops/random.ts";
export { rope, rotaryTables } from "./ops/rope.ts";
export { sampleTokens } from "./ops/sample-tokens.ts";
export { noSample } from "./ops/sampling.ts";
export { type SurrogateSettings, surrogate } from "./ops/surrogate.ts";
export { type Normalisation, normalisationWeights, surrogateStatistics } from "./ops/surrogate-tokens.ts";
export { swiglu } from "./ops/swiglu.ts";
export { markSeen, noWarping, seenWords, type Warping } from "./ops/warp.ts";
export { weightedSum } from "./ops/weighted-sum.ts";
export { type AdamwSettings, adamwStep } from "./optim/adamw.ts";
export { type ArenaMemory, arenaMemory, ParameterArena } from "./parameter-arena.ts";
export {
  type BatchRows,
  forEachGroup,
  type Parameter,
  type RowGroup,
  type Weights,
  type WeightTensors,
} from "./parameters.ts";
export { PlanningBackend, spareLabel } from "./planning-backend.ts";
export { directionNormals, keyOf, philox, wordsOf } from "./random.ts";
export { run } from "./run.ts";
export { keep, scope, scopeAsync } from "./scope.ts";
export { empty, fromArray, readTensors, type Shape, sizeOf, Tensor } from "./tensor.ts";
export { tilePlanSchema } from "./webgpu/tune.ts";
