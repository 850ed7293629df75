// AdamW on a whole arena: two dispatches per buffer and one more, whatever the number of tensors. Nothing is read back
// before the step is done.
//
// Gradients are clipped by their global norm, which is summed on the device. A norm or loss that is NaN or infinite
// sets a flag beside the clip factor. The update reads the flag and then writes nothing: the weights are not changed,
// and the host can find out which tensor caused it.
//
// Source: Loshchilov & Hutter 2019, algorithm 2, as in PyTorch: decay comes first and is scaled by the learning rate, ε
// is added after the bias correction. Decay applies to every tensor, norms and biases too.

import { accumulateKernel } from "../accumulate.ts";
import type { NumberArray } from "../dtype.ts";
import { SettingsError } from "../host/errors.ts";
import { type Constants, defineKernel } from "../kernel.ts";
import type { ParameterArena } from "../parameter-arena.ts";
import { run } from "../run.ts";
import { scope } from "../scope.ts";
import { empty, type Tensor } from "../tensor.ts";
import * as cpu from "./adamw.cpu.ts";

/** Elements of one partial sum of squares: 8 terms in sequence, then a tree of 1024. */
const chunk = 8192;

/**
 * How many invocations share the 256 lanes of a sum of squares: barriers between many are expensive on software
 * drivers.
 */
const manyInvocations: Constants = { INVOCATIONS: 256, SHARE: 1 };
const fewInvocations: Constants = { INVOCATIONS: 16, SHARE: 16 };

const sumOfSquaresKernel = defineKernel({
  name: "sumOfSquares",
  bindings: { x: { access: "read" }, sums: { access: "write" } },
  params: { size: "u32", chunk: "u32", firstChunk: "u32" },
  cpu: cpu.sumOfSquares,
  wgsl: new URL("./sum-of-squares.wgsl", import.meta.url),
  uses: ["flat-workgroup", "lane-sums"],
  constants: { LANES: 256, ...manyInvocations },
  variants: [fewInvocations],
  form: (_, style) => (style === "gpu" ? manyInvocations : fewInvocations),
  workgroups: (params) => [Math.ceil(params.size / params.chunk)],
});

const clipFactorKernel = defineKernel({
  name: "clipFactor",
  bindings: { sums: { access: "read" }, losses: { access: "read" }, control: { access: "write" } },
  params: { chunks: "u32", lossCount: "u32", maxGradientNorm: "f32", unscale: "f32" },
  cpu: cpu.clipFactor,
  wgsl: new URL("./clip-factor.wgsl", import.meta.url),
  uses: ["tree-sum", "is-finite"],
  constants: { LANES: 256 },
  workgroups: () => [1],
});

const adamwKernel = defineKernel({
  name: "adamw",
  bindings: {
    value: { access: "update" },
    moment1: { access: "update" },
    moment2: { access: "update" },
    gradient: { access: "read" },
    control: { access: "read" },
  },
  params: {
    size: "u32",
    decay: "f32",
    beta1: "f32",
    oneMinusBeta1: "f32",
    beta2: "f32",
    oneMinusBeta2: "f32",
    stepSize: "f32",
    rootCorrection: "f32",
    epsilon: "f32",
  },
  cpu: cpu.adamw,
  wgsl: new URL("./adamw.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: ({ size }) => [Math.ceil(size / 1024)],
});

export interface AdamwSettings {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  /** Above 0. */
  readonly epsilon: number;
  readonly weightDecay: number;
  /** Gradients whose global norm is larger are scaled down to this norm; Infinity leaves them unchanged. */
  readonly maxGradientNorm: number;
}

export interface AdamwOutcome {
  /** Norm of all gradients as one vector, before clipping. */
  readonly gradientNorm: number;
  /** Whether norm and losses were finite. If not, the step changed nothing. */
  readonly finite: boolean;
}

export interface AdamwStep {
  result(): Promise<AdamwOutcome>;
  /**
   * The first tensor whose gradient is not finite, or so large that the sum of its squares is not. Null if all are
   * finite: then it was the loss. Call it before the gradients are cleared or written again.
   */
  nameOfNonFinite(): Promise<string | null>;
}

/**
 * One step on all tensors of an arena, with the gradients that it holds (zero if none was written):
 *   g = gradient · min(1, maxGradientNorm / (‖gradient‖ + 1e-6))
 *   m = β1·m + (1 − β1)·g,   v = β2·v + (1 − β2)·g²
 *   p = p·(1 − lr·weightDecay) − lr / (1 − β1^step) · m / (sqrt(v) / sqrt(1 − β2^step) + ε)
 * Then the copies for the forward product are updated.
 * Defaults: β1 0.9, β2 0.999, ε 1e-8, no weight decay, no clipping.
 * @param step       counts from 1
 * @param losses     [1] each; if one of them is not finite, nothing is changed either
 * @param lossScale  a power of two: the gradients are those of loss · lossScale and are divided by it first. Default 1
 * @throws SettingsError when ε is not above 0
 */
export function adamwStep(
  arena: ParameterArena,
  settings: Pick<AdamwSettings, "learningRate"> &
    Partial<AdamwSettings> & {
      readonly step: number;
      readonly losses?: readonly Tensor[];
      readonly lossScale?: number;
    },
): AdamwStep {
  const {
    learningRate,
    beta1 = 0.9,
    beta2 = 0.999,
    epsilon = 1e-8,
    weightDecay = 0,
    maxGradientNorm = Number.POSITIVE_INFINITY,
    step,
    losses = [],
    lossScale = 1,
  } = settings;
  if (!(epsilon > 0))
    throw new SettingsError(`adamw: epsilon: expected a number above 0, got ${epsilon}. If v is 0, it is the divisor.`);
  arena.completeGradients();
  const outcome = scope(() => {
    const gradients = arena.buffers("gradients");
    const control = empty(arena.backend, [3], arena.dtype, "adamw.control"); // clip factor, norm, 1 if finite
    const { sums, counts } = sumsOfSquares(gradients, arena);
    run(
      clipFactorKernel,
      { sums, losses: sumOf(losses) ?? sums, control },
      {
        chunks: counts.reduce((sum, n) => sum + n, 0),
        lossCount: losses.length > 0 ? 1 : 0,
        // A shader cannot rely on infinity.
        maxGradientNorm: Math.min(maxGradientNorm, 3e38),
        unscale: 1 / lossScale,
      },
    );
    arena.buffers("values").forEach((value, i) => {
      run(
        adamwKernel,
        {
          value,
          moment1: arena.buffers("moment1")[i],
          moment2: arena.buffers("moment2")[i],
          gradient: gradients[i],
          control,
        },
        {
          size: value.size,
          decay: 1 - learningRate * weightDecay,
          beta1,
          oneMinusBeta1: 1 - beta1,
          beta2,
          oneMinusBeta2: 1 - beta2,
          stepSize: learningRate / (1 - beta1 ** step),
          rootCorrection: Math.sqrt(1 - beta2 ** step),
          epsilon,
        },
      );
    });
    arena.valuesChanged();
    // The copy to the host is queued when this returns, so the tensor itself may be freed.
    return control.read();
  });
  // result() throws the error. Without this line, a failure before result() is called would end the process.
  outcome.catch(() => {});
  return {
    result: async () => {
      const [, gradientNorm, finite] = await outcome;
      return { gradientNorm, finite: finite === 1 };
    },
    nameOfNonFinite: () => nameOfNonFinite(arena),
  };
}

/** Partial sums of squares of tensors that have one segment each, one after another, and how many each tensor has. */
function sumsOfSquares(
  tensors: readonly Tensor[],
  { backend, dtype }: ParameterArena,
): { sums: Tensor; counts: number[] } {
  const counts = tensors.map(({ size }) => Math.ceil(size / chunk));
  const sums = empty(backend, [counts.reduce((sum, n) => sum + n, 0)], dtype, "adamw.sumsOfSquares");
  let firstChunk = 0;
  tensors.forEach((x, i) => {
    run(sumOfSquaresKernel, { x, sums }, { size: x.size, chunk, firstChunk });
    firstChunk += counts[i];
  });
  return { sums, counts };
}

/** A sum of numbers is finite only if all of them are. */
function sumOf(losses: readonly Tensor[]): Tensor | null {
  if (losses.length === 0) return null;
  const y = empty(losses[0].backend, [1], losses[0].dtype, "adamw.loss");
  losses.forEach((x, i) => {
    run(accumulateKernel, { x, y: { tensor: y, add: i > 0 } }, { rowSize: 1, factor: 1 });
  });
  return y;
}

async function nameOfNonFinite(arena: ParameterArena): Promise<string | null> {
  const pieces: Tensor[] = [];
  const names: string[] = [];
  for (const name of arena.names) {
    const gradient = arena.gradient(name);
    let start = 0;
    for (const { rows } of gradient.segments) {
      pieces.push(gradient.sliceRows(start, rows));
      names.push(name);
      start += rows;
    }
  }
  const { reading, counts } = scope(() => {
    const { sums, counts } = sumsOfSquares(pieces, arena);
    return { reading: sums.read(), counts };
  });
  const sums: NumberArray = await reading;
  let next = 0;
  for (const [i, name] of names.entries()) {
    const own = sums.subarray(next, next + counts[i]);
    if (!own.every(Number.isFinite)) return name;
    next += counts[i];
  }
  return null;
}
