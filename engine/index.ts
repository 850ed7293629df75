// The engine's public face: all that the floors above may use.
export type { Backend, BackendStatistics } from "./backend.ts";
export { backward, GradientMap, type GradientStore, noGradient, record, recompute, reshape } from "./autograd.ts";
export { CpuBackend } from "./cpu/backend.ts";
export type { DType, NumberArray } from "./dtype.ts";
export * from "./dtype-conversion.ts";
export * from "./errors.ts";
export { defineKernel } from "./kernel.ts";
export { type BackendOptions, openBackend, type OpenedBackend } from "./open.ts";
export { defineOp } from "./op.ts";
export { add, scale } from "./ops/elementwise.ts";
export { type BatchRows, forEachGroup, type Parameter, type RowGroup, type Weights, type WeightTensors } from "./parameters.ts";
export { run } from "./run.ts";
export { keep, scope, scopeAsync } from "./scope.ts";
export { empty, fromArray, readTensors, type Shape, sizeOf, Tensor } from "./tensor.ts";
