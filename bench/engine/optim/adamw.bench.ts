// One optimiser step over all tensors: those of the embedded tiny model, and those of one layer of Qwen2.5-0.5B (the
// whole model is 33 times as large and needs 8 GB). Gradients are longer than the clip norm, as they are early in
// training.
import type { Backend } from "../../../engine/backends/backend.ts";
import { adamwStep } from "../../../engine/optim/adamw.ts";
import { sizeOf } from "../../../engine/tensor.ts";
import { makeWeights, parameterShapes, type Qwen2Config, type Qwen2Model, qwen2Model } from "../../../model/index.ts";
import type { BenchCase, BenchWork } from "../../harness.ts";
import { expectSome, unit } from "../../operands.ts";

const settings = {
  learningRate: 1e-3,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  maxGradientNorm: 1,
} as const;
const gradientScale = 0.1;

function shared(sizes: Pick<Qwen2Config, "vocabSize" | "hiddenSize" | "intermediateSize" | "headDim">): Qwen2Model {
  const isTiny = sizes.hiddenSize === 64;
  return qwen2Model({
    ...sizes,
    numHiddenLayers: isTiny ? 2 : 1,
    numAttentionHeads: isTiny ? 4 : 14,
    numKeyValueHeads: 2,
    maxPositionEmbeddings: 4096,
    ropeTheta: 1e6,
    rmsNormEps: 1e-6,
    tieWordEmbeddings: true,
    eosTokenIds: [],
  });
}

const sizes: Record<string, Qwen2Model> = {
  "all of tiny": shared({ vocabSize: 371, hiddenSize: 64, intermediateSize: 192, headDim: 16 }),
  "one layer of 0.5B": shared({ vocabSize: 8, hiddenSize: 896, intermediateSize: 4864, headDim: 64 }),
};

function setUp(backend: Backend, config: Qwen2Model): BenchWork {
  const arena = makeWeights(backend, config, { trainable: true });
  const shapes = [...parameterShapes(config)];
  const value = (tensor: number, i: number): number => Math.fround(2 * unit(i, 2 * tensor) - 1);
  const gradient = (tensor: number, i: number): number =>
    Math.fround(gradientScale * (2 * unit(i, 2 * tensor + 1) - 1));
  let squares = 0;
  shapes.forEach(([name, shape], tensor) => {
    const gradients = Float32Array.from({ length: sizeOf(shape) }, (_, i) => gradient(tensor, i));
    for (const element of gradients) squares += element ** 2;
    arena.load(
      name,
      Float32Array.from({ length: sizeOf(shape) }, (_, i) => value(tensor, i)),
    );
    arena.load(name, gradients, "gradients");
    arena.gradients.mark(arena.value(name));
  });
  const clip = Math.min(1, settings.maxGradientNorm / (Math.sqrt(squares) + 1e-6));
  const { learningRate, beta1, beta2, epsilon, weightDecay } = settings;
  let step = 0;
  return {
    run: () => void adamwStep(arena, { ...settings, step: ++step }),
    // After the first step m = (1 − β1)·g and v = (1 − β2)·g², and both corrections undo the factors.
    check: async () => {
      for (const [tensor, [name]] of shapes.entries())
        await expectSome(name, arena.value(name), (i) => {
          const g = clip * gradient(tensor, i);
          const m = ((1 - beta1) * g) / (1 - beta1);
          const v = ((1 - beta2) * g * g) / (1 - beta2);
          return value(tensor, i) * (1 - learningRate * weightDecay) - (learningRate * m) / (Math.sqrt(v) + epsilon);
        });
      // The largest value is 1 and a step is a thousandth: so the moments are compared separately.
      for (const [tensor, [name]] of shapes.entries())
        await expectSome(`${name}, moment`, arena.moment1(name), (i) => (1 - beta1) * clip * gradient(tensor, i));
    },
  };
}

export const cases: readonly BenchCase[] = Object.entries(sizes).map(([name, config]) => {
  const all = [...parameterShapes(config)].reduce((sum, [, shape]) => sum + sizeOf(shape), 0);
  const copied = [...parameterShapes(config)]
    .filter(([tensor]) => tensor.endsWith("_proj.weight") || tensor.includes("embed"))
    .reduce((sum, [, shape]) => sum + sizeOf(shape), 0);
  return {
    name: `adamw ${name}, ${(all / 1e6).toFixed(1)} million parameters`,
    flops: 17 * all,
    // The gradient twice (its norm comes first), value and moments read and written; then the panel copies are written.
    bytes: 4 * 8 * all + 4 * 2 * copied,
    setUp: (backend: Backend) => setUp(backend, config),
  };
});
