// The parts of a layer before and after attention in one dispatch: the bits of the separate ops.
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { gatedLinear } from "../../../../engine/ops/matmul/gated-linear.ts";
import { afterAttention, beforeAttention } from "../../../../engine/ops/matmul/layer-parts.ts";
import { linear } from "../../../../engine/ops/matmul/linear.ts";
import { linearTriple } from "../../../../engine/ops/matmul/linear-triple.ts";
import { rmsNorm } from "../../../../engine/ops/rms-norm/rms-norm.ts";
import { rotaryTables } from "../../../../engine/ops/rope/rope.ts";
import { ropeIntoCache } from "../../../../engine/ops/rope/rope-pair.ts";
import { type ArenaEntry, ParameterArena } from "../../../../engine/parameter-arena.ts";
import type { Weights } from "../../../../engine/parameters.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { SlotWeights } from "../../../../engine/slot-weights.ts";
import { fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { generate, loadModel } from "../../../../model/index.ts";
import { testBackends } from "../../../backends.ts";
import { describe } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

interface Sizes {
  /** Tokens, width, heads, heads of keys, size of a head, width of the MLP. */
  readonly T: number;
  readonly C: number;
  readonly H: number;
  readonly K: number;
  readonly D: number;
  readonly F: number;
}

const tiny = { C: 64, H: 4, K: 2, D: 16, F: 192 } as const;
const sizes: readonly Sizes[] = [
  ...[1, 4, 5, 16, 17, 33, 64].map((T) => ({ T, ...tiny })),
  { T: 19, C: 96, H: 4, K: 1, D: 32, F: 64 }, // attention is wider than the layer and the MLP
];

const eps = 1e-6;

function arenaOf(backend: Backend, { C, H, K, D, F }: Sizes): ParameterArena {
  const matrix = (outputs: number, inputs: number, group?: string): ArenaEntry => {
    return { shape: [outputs, inputs], isLinear: true, forwardCopy: true, group };
  };
  const heads = { q: H, k: K, v: K };
  const entries = new Map<string, ArenaEntry>([
    ...Object.entries(heads).map(([name, count]) => [name, matrix(count * D, C, "qkv")] as const),
    ...Object.entries(heads).map(([name, count]) => [`${name}.bias`, { shape: [count * D], group: "biases" }] as const),
    ["output", matrix(C, H * D)],
    ["gate", matrix(F, C, "gated")],
    ["up", matrix(F, C, "gated")],
    ["down", matrix(C, F)],
    ["norm", { shape: [C] }],
  ]);
  const arena = new ParameterArena(backend, entries);
  arena.names.forEach((name, i) => void arena.load(name, normals(40 + i, arena.value(name).size)));
  arena.refreshCopies();
  return arena;
}

/** Everything that the parts are given. */
function givenTo(backend: Backend, arena: Pick<Weights, "get">, { T, C, H, K, D }: Sizes) {
  const make = (seed: number, shape: readonly number[]): Tensor =>
    fromArray(
      backend,
      normals(
        seed,
        shape.reduce((product, n) => product * n, 1),
      ),
      shape,
    );
  const angles = rotaryTables(
    Array.from({ length: T }, (_, t) => 3 * t),
    D,
    1e4,
  );
  const both = fromArray(backend, [...angles.cos, ...angles.sin], [2 * T, D / 2]);
  // The first token's slot is beyond the cache: it is skipped.
  const slots = Uint32Array.from({ length: T }, (_, t) => (t === 0 ? 0xffffffff : 2 * t));
  const of = (name: string) => arena.get(name);
  return {
    inputs: {
      ...{ x: make(1, [T, C]), norm: of("norm"), eps, cos: both.sliceRows(0, T), sin: both.sliceRows(T, T) },
      weights: [of("q"), of("k"), of("v")] as const,
      biases: [of("q.bias"), of("k.bias"), of("v.bias")] as const,
    },
    cache: () => ({
      slots: fromArray(backend, slots, [T], "u32"),
      keys: make(2, [2 * T + 3, K, D]),
      values: make(3, [2 * T + 3, K, D]),
    }),
    outputs: {
      ...{ mixed: make(4, [T, H * D]), x: make(1, [T, C]), norm: of("norm"), eps },
      ...{ output: of("output"), gate: of("gate"), up: of("up"), down: of("down") },
    },
  };
}

/** The plain backend, and lavapipe if it is there: with buffers that hold a layer. */
async function backends(): Promise<{ name: string; backend: Backend }[]> {
  return (await testBackends()).filter(
    ({ backend: { style, limits } }) => (style === "plain" || style === "lavapipe") && limits.maxBufferBytes > 2 ** 20,
  );
}

describe("engine/ops/matmul/layer-parts", (test) => {
  for (const size of sizes)
    test(`${JSON.stringify(size)}: one dispatch each, the bits of separate ops`, async () => {
      for (const { name, backend } of await backends())
        await scopeAsync(async () => {
          const { T, H, K, D } = size;
          const arena = arenaOf(backend, size);
          const { inputs, cache, outputs } = givenTo(backend, arena, size);
          const [own, apart] = [cache(), cache()];
          const before = backend.statistics().dispatches;
          const q = beforeAttention(inputs, own, true);
          const y = afterAttention(outputs, true);
          assert.ok(q !== null && y !== null, name);
          assert.equal(backend.statistics().dispatches - before, 2);

          const { x, norm, weights, biases, cos, sin } = inputs;
          const three = linearTriple(rmsNorm(x, norm, eps), weights, biases);
          const heads = three.map((rows, i) => rows.view([T, i === 0 ? H : K, D]));
          ropeIntoCache(heads[0], heads[1], heads[2], cos, sin, apart);
          const { mixed, output, gate, up, down } = outputs;
          const a = linear(mixed, output, null, null, { residual: outputs.x });
          const inner = gatedLinear(rmsNorm(a, norm, eps), gate, up);
          const wanted = linear(inner, down, null, null, { residual: a });

          const found = await readTensors([q, own.keys, own.values, y]);
          const expected = await readTensors([heads[0], apart.keys, apart.values, wanted]);
          found.forEach((values, i) => {
            sameBits(`${name}: tensor ${i}`, values, expected[i]);
          });
          arena.free();
        });
    });

  test("rows of one grid point have the kernels and the bits of its weights; rows of two have their own", async () => {
    for (const { name, backend } of await backends())
      await scopeAsync(async () => {
        const size = { T: 5, ...tiny };
        const arena = arenaOf(backend, size);
        const slots = new SlotWeights(arena, 2);
        slots.placeAlong([0, 0.1].map((coefficient) => () => [{ kind: "gaussian", key: [7, 8], coefficient }]));
        const { inputs, cache, outputs } = givenTo(backend, slots, size);
        const rows = [
          { start: 0, count: 0, point: 1 },
          { start: 0, count: 5, point: 0 },
        ];
        // The slot of point 0 has θ itself.
        const [own, apart] = [cache(), cache()];
        const q = beforeAttention({ ...inputs, rows }, own, true);
        const y = afterAttention({ ...outputs, rows }, true);
        const plain = givenTo(backend, arena, size);
        const wantedQ = beforeAttention(plain.inputs, apart, true);
        const wantedY = afterAttention(plain.outputs, true);
        assert.ok(q !== null && y !== null && wantedQ !== null && wantedY !== null, name);
        const found = await readTensors([q, own.keys, own.values, y]);
        const wanted = await readTensors([wantedQ, apart.keys, apart.values, wantedY]);
        found.forEach((values, i) => {
          sameBits(`${name}: tensor ${i}`, values, wanted[i]);
        });
        const two = [
          { start: 0, count: 3, point: 1 },
          { start: 3, count: 2, point: 0 },
        ];
        assert.equal(beforeAttention({ ...inputs, rows: two }, cache(), true), null);
        assert.equal(afterAttention({ ...outputs, rows: two }, true), null);
        slots.free();
        arena.free();
      });
  });

  test("not for many rows, odd sizes, several policies, or under a tape", async () => {
    for (const { backend } of await backends())
      await scopeAsync(async () => {
        const nothing = (size: Sizes, isJoined?: boolean): void => {
          const arena = arenaOf(backend, size);
          const { inputs, cache, outputs } = givenTo(backend, arena, size);
          assert.equal(beforeAttention(inputs, cache(), isJoined), null);
          assert.equal(afterAttention(outputs, isJoined), null);
          arena.free();
        };
        nothing({ T: 65, ...tiny });
        nothing({ T: 5, C: 72, H: 3, K: 1, D: 8, F: 40 }, true);
        nothing({ T: 5, C: 512, H: 16, K: 8, D: 32, F: 512 }, true);
        record(() => nothing({ T: 5, ...tiny }));
        const size = { T: 5, ...tiny };
        const arena = arenaOf(backend, size);
        const { inputs, cache, outputs } = givenTo(backend, arena, size);
        const norm = { kind: "slots" as const, shape: [size.C], slots: new Map() };
        assert.equal(beforeAttention({ ...inputs, norm }, cache(), true), null);
        assert.equal(afterAttention({ ...outputs, norm }, true), null);
        arena.free();
      });
  });

  test("a decode step of the tiny model has 12 dispatches on lavapipe", async () => {
    const folder = fileURLToPath(new URL("../../../../rl/presets/tiny/checkpoint", import.meta.url));
    for (const { backend } of (await backends()).filter(({ backend: { style } }) => style === "lavapipe")) {
      const { config, weights } = await loadModel(backend, folder);
      let last = 0;
      let steps = 0;
      const dialogues = [0, 1, 2, 3, 4].map((rollout) => ({
        ...{ policy: 0, prompt: [1, 2, 3 + rollout], noise: { rollout, prompt: 0 }, expectedTokens: 6 },
        answered: () => null,
      }));
      await generate({ backend, config, weights }, dialogues, {
        ...{ maxNewTokens: 5, temperature: 1, noiseKey: [1, 2], stopIds: [], maxRows: 5, maxTokens: 100 },
        onPass: () => {
          const { dispatches } = backend.statistics();
          if (steps++ > 0) assert.equal(dispatches - last, 12);
          last = dispatches;
        },
      });
      assert.equal(steps, 5);
      weights.free();
    }
  });
});
