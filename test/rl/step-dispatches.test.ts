// The dispatches of a layer in a training step: forward, backward and the new copies of its weights. Mixed precision adds the
// rounding of operands and nothing else: bias, residual, SwiGLU and the three projections are parts of its products.
import assert from "node:assert/strict";
import type { Dispatch } from "../../engine/backends/backend.ts";
import { WebGpuBackend } from "../../engine/backends/webgpu/backend.ts";
import { matrixUnits } from "../../engine/ops/shared/matrix-units.ts";
import { makeWeights, qwen2Model } from "../../model/index.ts";
import { supervisedStep } from "../../rl/learn.ts";
import { webgpuBackend } from "../backends.ts";
import { normals } from "../engine/normals.ts";
import { describe } from "../support.ts";

/** A backend that notes the kernels that are dispatched. */
class NotingBackend extends WebGpuBackend {
  readonly kernels: string[] = [];
  override dispatch(work: Dispatch): void {
    this.kernels.push(work.kernel.name);
    super.dispatch(work);
  }
}

const modelOf = (layers: number) =>
  qwen2Model({
    ...{ vocabSize: 40, hiddenSize: 32, numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 8, intermediateSize: 48 },
    ...{ numHiddenLayers: layers, maxPositionEmbeddings: 64, rmsNormEps: 1e-6, ropeTheta: 1e4 },
    ...{ tieWordEmbeddings: true, eosTokenIds: [] },
  });
const optimiser = {
  ...{ learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
  ...{ weightDecay: 0, maxGradientNorm: 1 },
};
const examples = [40, 30, 23].map((length, s) => ({
  ids: Array.from({ length }, (_, i) => (7 * i + s) % 40),
  tokenWeight: 0.01,
}));

const { backend: opened } = await webgpuBackend();
assert.ok(opened instanceof WebGpuBackend);
const { device, description, memory, abilities } = opened;

/** How often each kernel runs in a step, without the name of its tile. */
async function stepOf(layers: number, precision: "f32" | "mixed"): Promise<Map<string, number>> {
  const backend = new NotingBackend(device, { description, style: "gpu", memory, abilities });
  const config = modelOf(layers);
  const weights = makeWeights(backend, config, { trainable: true, precision });
  weights.names.forEach((name, i) => void weights.load(name, normals(i + 1, weights.value(name).size, 0.1)));
  weights.refreshCopies();
  backend.kernels.length = 0;
  await supervisedStep({ backend, config, weights }, examples, { optimiser, maxTokens: 4096, step: 1 });
  weights.free();
  const counts = new Map<string, number>();
  for (const kernel of backend.kernels) {
    const name = /^multiply(Forward|Triple|Gated|Input|Weight)|^attention(Matrix)?|^toHalf|^pack/.exec(kernel)?.[0];
    const kind = (name ?? kernel).replace("Matrix", "");
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

/** What one layer more adds. */
async function layerOf(precision: "f32" | "mixed"): Promise<Record<string, number>> {
  const [two, three] = [await stepOf(2, precision), await stepOf(3, precision)];
  const added = [...three].map(([name, count]) => [name, count - (two.get(name) ?? 0)] as const);
  return Object.fromEntries(added.filter(([, count]) => count > 0));
}

describe("rl/step-dispatches", (test) => {
  const where = matrixUnits(opened) === null ? "without matrix units" : "on matrix units";
  test(`a layer of a training step, with the kernels of GPUs ${where}: 46 dispatches in f32, 64 in mixed precision`, async () => {
    const f32 = await layerOf("f32");
    const mixed = await layerOf("mixed");
    const sum = (counts: Record<string, number>): number =>
      Object.values(counts).reduce((total, one) => total + one, 0);
    assert.equal(sum(f32), 46, JSON.stringify(f32));
    for (const [name, count] of [
      ["multiplyTriple", 1],
      ["multiplyGated", 1],
      ["multiplyForward", 2],
    ] as const)
      assert.equal(mixed[name], count, name);
    // Four inputs, seven gradients and seven copies of weights are rounded.
    assert.deepEqual(mixed, { ...f32, toHalf: 18 });
  });
});
