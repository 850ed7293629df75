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
export type { Backend, BackendStatistics } from "./backends/backend.ts";
export { CpuBackend } from "./backends/cpu.ts";
export { PlanningBackend, spareLabel } from "./backends/planning.ts";
export type { DType, NumberArray } from "./dtype.ts";
export * from "./dtype-conversion.ts";
export * from "./errors.ts";
export { defineKernel } from "./kernel.ts";
export { defineOp } from "./op.ts";
export { type BackendOptions, type OpenedBackend, openBackend } from "./open.ts";
export { attention, causalSpans } from "./ops/attention/attention.ts";
export { appendToCache } from "./ops/attention/kv-append.ts";
export { add, scale } from "./ops/elementwise/elementwise.ts";
export { embedding } from "./ops/embedding/embedding.ts";
export { gatherRows } from "./ops/gather/gather.ts";
export { head } from "./ops/head/head.ts";
export { klAndScore } from "./ops/head/kl-divergence.ts";
export { type SurrogateSettings, surrogate } from "./ops/loss/surrogate.ts";
export { weightedSum } from "./ops/loss/weighted-sum.ts";
export { linear } from "./ops/matmul/linear.ts";
export { preferredTiles, preferTiles, sumOrder, type TilePlan } from "./ops/matmul/tiles.ts";
export { tilePlanSchema } from "./ops/matmul/tune.ts";
export { norm, normOfDirection } from "./ops/perturbation/frobenius-norm.ts";
export { writeNormals } from "./ops/perturbation/normals.ts";
export { perturbIntoSlot } from "./ops/perturbation/perturb.ts";
export { rmsNorm } from "./ops/rms-norm/rms-norm.ts";
export { rope, rotaryTables } from "./ops/rope/rope.ts";
export { sampleTokens } from "./ops/sampling/sample-tokens.ts";
export { noSample } from "./ops/sampling/sampling.ts";
export { markSeen, noWarping, seenWords, type Warping } from "./ops/sampling/warp.ts";
export { type Normalisation, normalisationWeights, surrogateStatistics } from "./ops/surrogate-tokens.ts";
export { swiglu } from "./ops/swiglu/swiglu.ts";
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
export { directionNormals, keyOf, philox, wordsOf } from "./random.ts";
export { run } from "./run.ts";
export { keep, scope, scopeAsync } from "./scope.ts";
export { empty, fromArray, readTensors, type Shape, sizeOf, Tensor } from "./tensor.ts";
