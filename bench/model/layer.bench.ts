// One whole layer as a training step runs it, by the model's own code, between an embedding of few ids and the final
// norm: Qwen2.5-0.5B's with one sequence of 256 tokens, and the embedded tiny model's with a micro-batch.
//
// The check uses that attention is causal: the outputs of the first 16 tokens depend on no later token, and the
// upstream gradient is zero past them. So plain loops in float64 compute outputs and gradients in a second.
import { record } from "../../engine/autograd.ts";
import type { Backend } from "../../engine/backends/backend.ts";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import { scope, scopeAsync } from "../../engine/scope.ts";
import { fromArray, sizeOf, type Tensor } from "../../engine/tensor.ts";
import { makeWeights, packSequences, parameterShapes, type Qwen2Model, qwen2Model } from "../../model/index.ts";
import type { BenchCase, BenchWork } from "../harness.ts";
import { unit } from "../operands.ts";

const seededTokens = 16;

interface Size {
  config: Qwen2Model;
  lengths: readonly number[];
}

const common = { numHiddenLayers: 1, maxPositionEmbeddings: 4096, rmsNormEps: 1e-6, tieWordEmbeddings: true } as const;
const half = qwen2Model({
  ...common,
  vocabSize: 512,
  hiddenSize: 896,
  intermediateSize: 4864,
  numAttentionHeads: 14,
  numKeyValueHeads: 2,
  headDim: 64,
  ropeTheta: 1e6,
  eosTokenIds: [],
});
const tiny = qwen2Model({
  ...common,
  vocabSize: 371,
  hiddenSize: 64,
  intermediateSize: 192,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 16,
  ropeTheta: 1e4,
  eosTokenIds: [],
});

function sequences({ config, lengths }: Size): Uint32Array[] {
  return lengths.map((length) => Uint32Array.from({ length }, (_, t) => (t * 37) % config.vocabSize));
}

function weightsOf(backend: Backend, config: Qwen2Model, dtype: "f32" | "f64") {
  const weights = makeWeights(backend, config, { trainable: true, dtype });
  let seed = 1;
  for (const [name, shape] of parameterShapes(config)) {
    const scale = shape.length === 2 ? shape[1] ** -0.5 : 0.5;
    const centre = name.endsWith("norm.weight") ? 1 : 0;
    const own = seed++;
    weights.load(
      name,
      Float32Array.from({ length: sizeOf(shape) }, (_, i) => centre + scale * (2 * unit(i, own) - 1)),
    );
  }
  weights.refreshCopies();
  return weights;
}

const upstream = (count: number, nonZero: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => (i < nonZero ? 2 * unit(i, 99) - 1 : 0));

/** Output of the first tokens of the first sequence, and gradients of all weights, by plain loops in float64. */
async function exact(config: Qwen2Model, ids: Uint32Array): Promise<Map<string, ArrayLike<number>>> {
  const backend = new CpuBackend();
  return scopeAsync(async () => {
    const weights = weightsOf(backend, config, "f64");
    const batch = packSequences(backend, [ids]);
    const recording = record(() => config.forward(weights, batch, null));
    const dy = fromArray(
      backend,
      upstream(recording.result.size, recording.result.size),
      recording.result.shape,
      "f64",
    );
    recording.backward(new Map([[recording.result, dy]]), weights.gradients);
    const found = new Map<string, ArrayLike<number>>([["y", await recording.result.read()]]);
    for (const name of weights.names) found.set(name, await weights.gradient(name).read());
    weights.free();
    return found;
  });
}

function expectClose(name: string, found: ArrayLike<number>, wanted: ArrayLike<number>): void {
  let scale = 0;
  for (let i = 0; i < wanted.length; i++) scale = Math.max(scale, Math.abs(wanted[i]));
  for (let i = 0; i < wanted.length; i++)
    if (!(Math.abs(found[i] - wanted[i]) <= 1e-4 * scale))
      throw new Error(`${name}[${i}]: expected ${wanted[i]}, got ${found[i]}`);
}

function setUp(backend: Backend, size: Size, withGradients: boolean): BenchWork {
  const { config } = size;
  const weights = weightsOf(backend, config, "f32");
  const ids = sequences(size);
  const batch = packSequences(backend, ids);
  const tokens = batch.ids.tensor.rows;
  const dy = fromArray(backend, upstream(tokens * config.hiddenSize, seededTokens * config.hiddenSize), [
    tokens,
    config.hiddenSize,
  ]);
  const call = (): Tensor => config.forward(weights, batch, null);
  const run = (): void =>
    scope(() => {
      if (!withGradients) return void call();
      const recording = record(call);
      weights.clearGradients();
      recording.backward(new Map([[recording.result, dy]]), weights.gradients);
    });
  const check = (): Promise<void> =>
    scopeAsync(async () => {
      const wanted = await exact(config, ids[0].subarray(0, seededTokens));
      expectClose("y", await call().read(), wanted.get("y") ?? []);
      if (!withGradients) return;
      for (const name of weights.names) expectClose(name, await weights.gradient(name).read(), wanted.get(name) ?? []);
    });
  return { run, check };
}

function flopsOf({ config, lengths }: Size, withGradients: boolean): number {
  const { hiddenSize: C, intermediateSize: F, numAttentionHeads: H, numKeyValueHeads: K, headDim: D } = config;
  const tokens = lengths.reduce((sum, n) => sum + n, 0);
  const pairs = lengths.reduce((sum, n) => sum + (n * (n + 1)) / 2, 0) * H;
  const products = 2 * tokens * (2 * C * H * D + 2 * C * K * D + 3 * C * F);
  return withGradients ? 3 * products + 2 * pairs * D * (2 + 7) : products + 2 * pairs * D * 2;
}

const sizes: Record<string, Size & { heavy?: boolean }> = {
  "0.5B, 256 tokens": { config: half, lengths: [256] },
  "0.5B, 1024 tokens": { config: half, lengths: [512, 512], heavy: true },
  "tiny, 448 tokens": { config: tiny, lengths: new Array(7).fill(64) },
};

export const cases: readonly BenchCase[] = Object.entries(sizes).flatMap(([name, { heavy, ...size }]) =>
  [false, true].map((withGradients) => {
    const weights = [...parameterShapes(size.config).values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
    return {
      name: `layer ${withGradients ? "forward and backward" : "forward"} ${name}`,
      flops: flopsOf(size, withGradients),
      // Each of three products reads the weights; their gradients are written once.
      bytes: 4 * weights * (withGradients ? 3 : 1),
      heavy,
      setUp: (backend: Backend) => setUp(backend, size, withGradients),
    };
  }),
);
