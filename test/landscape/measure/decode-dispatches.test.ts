// The dispatches of a layer in a decode step: on a GPU each costs microseconds that no arithmetic hides. The kernels
// are listed by name, so that an additional one is noticed.
import assert from "node:assert/strict";
import type { Backend, Dispatch } from "../../../engine/backends/backend.ts";
import { CpuBackend } from "../../../engine/backends/cpu.ts";
import { WebGpuBackend } from "../../../engine/backends/webgpu/backend.ts";
import { fromArray, noGradient, type OperandPrecision, scopeAsync, type Weights } from "../../../engine/index.ts";
import { matrixUnits } from "../../../engine/ops/shared/matrix-units.ts";
import { PerturbedWeights } from "../../../landscape/measure/perturbed-weights.ts";
import { RoundedWeights } from "../../../landscape/measure/rounded-weights.ts";
import { type Batch, KvCache, makeHalfWeights, makeWeights, qwen2Model } from "../../../model/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { describe } from "../../support.ts";

/** The plain backend, which notes the kernels that are dispatched. */
class NotingBackend extends CpuBackend {
  readonly kernels: string[] = [];
  override dispatch(work: Dispatch): void {
    this.kernels.push(work.kernel.name);
    super.dispatch(work);
  }
}

/** An adapter's device, which notes the kernels too. */
class NotingWebGpu extends WebGpuBackend {
  readonly kernels: string[] = [];
  override dispatch(work: Dispatch): void {
    this.kernels.push(work.kernel.name);
    super.dispatch(work);
  }
}

const modelOf = (layers: number, intermediateSize = 48) =>
  qwen2Model({
    ...{ vocabSize: 40, hiddenSize: 32, numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 8, intermediateSize },
    ...{ numHiddenLayers: layers, maxPositionEmbeddings: 64, rmsNormEps: 1e-6, ropeTheta: 1e4 },
    ...{ tieWordEmbeddings: true, eosTokenIds: [] },
  });
type Model = ReturnType<typeof modelOf>;

/** The kernels of a decode step of 4 rows, in order. */
async function kernelsOf(
  model: Model,
  weightsOf: (backend: Backend) => Weights,
  rows: Batch["rows"],
  backend: Backend & { readonly kernels: string[] } = new NotingBackend(),
) {
  await scopeAsync(async () => {
    const weights = weightsOf(backend);
    const cache = new KvCache(backend, model, 16, weights.operands);
    const ids = Uint32Array.of(1, 2, 3, 4);
    const batch: Batch = {
      ids: { tensor: fromArray(backend, ids, [4], "u32"), host: ids },
      positions: Uint32Array.of(3, 3, 3, 3),
      spans: fromArray(
        backend,
        [0, 4, 8, 12].flatMap((start) => [0, 0, start, 4]),
        [4, 4],
        "u32",
      ),
      querySpans: null,
      rows,
    };
    const slots = fromArray(backend, [3, 7, 11, 15], [4], "u32");
    backend.kernels.length = 0;
    noGradient(() => model.forward(weights, batch, { keys: cache.keys, values: cache.values, slots }));
    cache.free();
  });
  return [...backend.kernels];
}

/** The kernels that the last layer adds. */
async function layerOf(
  weightsOf: (model: Model) => (backend: Backend) => Weights,
  rows: Batch["rows"],
  intermediateSize?: number,
  backend?: NotingWebGpu,
): Promise<string[]> {
  const [one, two] = [modelOf(1, intermediateSize), modelOf(2, intermediateSize)];
  const shorter = await kernelsOf(one, weightsOf(one), rows, backend);
  const longer = await kernelsOf(two, weightsOf(two), rows, backend);
  const start = shorter.findIndex((name) => name.startsWith("rmsNorm"));
  const count = longer.length - shorter.length;
  assert.deepEqual(longer.slice(start, start + count), longer.slice(start + count, start + 2 * count));
  return longer.slice(start, start + count);
}

const plain = (model: Model) => (backend: Backend) => {
  const arena = makeWeights(backend, model, {});
  arena.refreshCopies();
  return arena;
};

/** Slots of `points` grid points away from the centre. */
const slotsOf = (points: number, precision?: OperandPrecision) => (model: Model) => (backend: Backend) => {
  const arena = makeWeights(backend, model, {});
  const weights = new PerturbedWeights(arena, points, precision);
  const gaussian = (key: readonly [number, number]) =>
    new Map(arena.names.map((name) => [name, { kind: "gaussian" as const, key, scale: 1 }]));
  const centre = { alpha: 0, beta: 0, third: null };
  weights.place(
    Array.from({ length: points }, (_, i) => ({ i, j: 0, alpha: 0.1 * (i + 1), beta: 0.2, squaredSteps: 1 })),
    { seed: 1, slice: 0, delta: gaussian([1, 2]), eta: gaussian([3, 4]), centre, digest: "", free: () => {} },
  );
  return weights;
};

const eight = [
  "rmsNormTree",
  "multiplyTriple",
  "ropeIntoCache",
  "attention",
  "multiplyForward",
  "rmsNormTree",
  "multiplyGated",
  "multiplyForward",
];

const { backend: opened } = await webgpuBackend();
assert.ok(opened instanceof WebGpuBackend);
const { device, description, memory, abilities } = opened;
/** Backends whose kernels the counts are for: a GPU's on any adapter, and the adapter's own if it has matrix units. */
const places = [
  { where: "the kernels of GPUs", style: "gpu" as const },
  ...(matrixUnits(opened) === null ? [] : [{ where: "matrix units of this adapter", style: opened.style }]),
];

describe("landscape/measure/decode-dispatches", (test) => {
  test("a layer of a decode step is 8 dispatches", async () => {
    assert.deepEqual(await layerOf(plain, null), eight);
  });

  test("so it is with the slots of grid points, of one as of two", async () => {
    assert.deepEqual(await layerOf(slotsOf(1), [{ start: 0, count: 4, point: 0 }]), eight);
    const rows = [
      { start: 0, count: 3, point: 0 },
      { start: 3, count: 1, point: 1 },
    ];
    const ofSlots = ["rmsNormSlotsTree", "multiplyTripleSlots", "ropeIntoCache", "attention", "multiplyForwardSlots"];
    assert.deepEqual(await layerOf(slotsOf(2), rows), [
      ...ofSlots,
      ...["rmsNormSlotsTree", "multiplyGatedSlots", "multiplyForwardSlots"],
    ]);
  });

  test("a whole step of four points, embedding and last norm included, has as many dispatches as one of one point", async () => {
    const model = modelOf(2);
    const one = await kernelsOf(model, slotsOf(1)(model), [{ start: 0, count: 4, point: 0 }]);
    const four = [0, 1, 2, 3].map((point) => ({ start: point, count: 1, point }));
    assert.equal((await kernelsOf(model, slotsOf(4)(model), four)).length, one.length);
  });

  for (const { where, style } of places)
    test(`f16, ${where}: a layer of a decode step is 8 dispatches, with the slots of several points too`, async () => {
      const backend = new NotingWebGpu(device, { description, style, memory, abilities });
      const onUnits = matrixUnits(backend) !== null;
      const rows = [
        { start: 0, count: 3, point: 0 },
        { start: 3, count: 1, point: 1 },
      ];
      const of = (weightsOf: (model: Model) => (backend: Backend) => Weights, own: Batch["rows"]) =>
        layerOf(weightsOf, own, undefined, backend);
      const found = {
        "loaded in f16": await of((model) => (own) => makeHalfWeights(own, model), null),
        "rounded from f32": await of((model) => (own) => new RoundedWeights(makeWeights(own, model, {})), null),
        "slots of one point": await of(slotsOf(1, "f16"), [{ start: 0, count: 4, point: 0 }]),
        "slots of two points": await of(slotsOf(2, "f16"), rows),
      };
      for (const [what, kernels] of Object.entries(found)) {
        assert.equal(kernels.length, 8, `${what}: ${kernels.join(", ")}`);
        const products = kernels.filter((name) => name.startsWith("multiply"));
        assert.deepEqual(
          products.map((name) => /Triple|Gated|Forward/.exec(name)?.[0]),
          ["Triple", "Forward", "Gated", "Forward"],
          what,
        );
        for (const name of products) assert.equal(name.endsWith("Matrix"), onUnits, name);
      }
    });

  test("outputs that are no multiple of 8 are multiplied apart", async () => {
    const apart = ["multiplyForward", "multiplyForward", "swiglu"];
    assert.deepEqual(
      await layerOf(plain, null, 44),
      eight.flatMap((name) => (name === "multiplyGated" ? apart : [name])),
    );
  });
});
