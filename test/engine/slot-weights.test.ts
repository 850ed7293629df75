// Rows of several grid points in one dispatch: the bits of one dispatch per run of rows, and as few dispatches as one point has.
import assert from "node:assert/strict";
import type { Backend, Dispatch } from "../../engine/backends/backend.ts";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import type { NumberArray } from "../../engine/dtype.ts";
import { MovedWeights, type PointWeights } from "../../engine/moved-weights.ts";
import { embedding } from "../../engine/ops/embedding/embedding.ts";
import { head } from "../../engine/ops/head/head.ts";
import { gatedLinear } from "../../engine/ops/matmul/gated-linear.ts";
import { linear } from "../../engine/ops/matmul/linear.ts";
import { linearTriple } from "../../engine/ops/matmul/linear-triple.ts";
import type { DirectionStep } from "../../engine/ops/perturbation/along.ts";
import { rmsNorm } from "../../engine/ops/rms-norm/rms-norm.ts";
import { type ArenaEntry, ParameterArena } from "../../engine/parameter-arena.ts";
import type { OperandPrecision, Parameter, RowGroup } from "../../engine/parameters.ts";
import { scopeAsync } from "../../engine/scope.ts";
import { SlotWeights } from "../../engine/slot-weights.ts";
import { fromArray, readTensors, type Tensor } from "../../engine/tensor.ts";
import { testBackends, webgpuBackend } from "../backends.ts";
import { describe, throwsMessage } from "../support.ts";
import { normals, sameBits } from "./check-op.ts";

interface Sizes {
  readonly V: number;
  readonly C: number;
  readonly F: number;
  readonly outputs: readonly [number, number, number];
}

const sizes: Readonly<Record<string, Sizes>> = {
  "everything in fours": { V: 40, C: 12, F: 24, outputs: [16, 8, 8] },
  "odd widths": { V: 29, C: 7, F: 10, outputs: [9, 5, 3] },
};

/** The weights of a layer, an embedding that is also the head, and a head of its own. */
function arenaOf(backend: Backend, { V, C, F, outputs }: Sizes): ParameterArena {
  const inLayer = { isLinear: true, forwardCopy: true };
  const entries = new Map<string, ArenaEntry>([
    ["table", { shape: [V, C], forwardCopy: true }],
    ["norm", { shape: [C] }],
    ["o", { shape: [C, outputs[0]], ...inLayer }],
    ["gate", { shape: [F, C], ...inLayer, group: "gated" }],
    ["up", { shape: [F, C], ...inLayer, group: "gated" }],
    ["down", { shape: [C, F], ...inLayer }],
  ]);
  ["q", "k", "v"].forEach((name, i) => {
    entries.set(name, { shape: [outputs[i], C], ...inLayer, group: "triple" });
    entries.set(`${name}.bias`, { shape: [outputs[i]], group: "biases" });
  });
  const arena = new ParameterArena(backend, entries);
  arena.names.forEach((name, i) => {
    arena.load(name, normals(30 + i, arena.value(name).size));
  });
  arena.refreshCopies();
  return arena;
}

const slotCount = 5;

/** Five points, none of them the origin: along two Gaussians; or along three and a tensor. */
function placed<W extends PointWeights>(weights: W, arena: ParameterArena, isMixed = false): W {
  const gaussian = (key: readonly [number, number], coefficient: number): DirectionStep => ({
    ...{ kind: "gaussian", key, coefficient },
  });
  weights.placeAlong(
    Array.from({ length: slotCount }, (_, point) => (name) => [
      gaussian([1, 2], 0.1 * (point + 1)),
      ...(isMixed ? [{ kind: "explicit" as const, tensor: arena.value(name), coefficient: 0.01 * point }] : []),
      gaussian([3, 4], -0.07 * point),
      ...(isMixed ? [gaussian([5, 6], 0.03)] : []),
    ]),
  );
  return weights;
}

const slotsOf = (arena: ParameterArena, precision: OperandPrecision, isMixed = false): SlotWeights =>
  placed(new SlotWeights(arena, slotCount, precision), arena, isMixed);

/** Without its stack an op runs once for each run of rows: the reference. */
function looped(parameter: Parameter): Parameter {
  if (parameter.kind !== "slots") throw new Error("expected slots");
  return { kind: "slots", shape: parameter.shape, slots: parameter.slots };
}

const groupsOf = (...runs: readonly (readonly [point: number, count: number])[]): RowGroup[] => {
  let start = 0;
  return runs.map(([point, count]) => {
    start += count;
    return { start: start - count, count, point };
  });
};

const batches: Readonly<Record<string, RowGroup[]>> = {
  "one row each": groupsOf([0, 1], [1, 1], [2, 1], [3, 1], [4, 1]),
  "interleaved and uneven": groupsOf([2, 3], [0, 1], [2, 5], [4, 40], [1, 2], [0, 70]),
  "runs without rows": groupsOf([3, 0], [1, 4], [0, 0], [2, 9], [4, 0]),
  "many rows each": groupsOf([1, 130], [3, 67]),
};

/** Results of all ops that read weights, for rows of several points. */
function resultsOf(
  get: (name: string) => Parameter,
  rows: RowGroup[],
  backend: Backend,
  size: Sizes,
  precision: OperandPrecision,
): Tensor[] {
  const { V, C, outputs } = size;
  const T = rows.reduce((sum, { count }) => sum + count, 0);
  const x = fromArray(backend, normals(1, T * C), [T, C]);
  const wide = fromArray(backend, normals(2, T * outputs[0]), [T, outputs[0]]);
  const ids = fromArray(
    backend,
    Uint32Array.from({ length: T }, (_, t) => (7 * t) % V),
    [T],
    "u32",
  );
  const all = [get("q"), get("k"), get("v")] as const;
  const biases = [get("q.bias"), get("k.bias"), get("v.bias")] as const;
  const scores = head(x, get("table"), ids, { temperature: 0.7 }, rows);
  return [
    embedding({ tensor: ids, host: null }, get("table"), rows),
    rmsNorm(x, get("norm"), 1e-6, rows),
    ...linearTriple(x, all, biases, rows),
    linear(x, get("q"), get("q.bias"), rows),
    linear(wide, get("o"), null, rows, { residual: x }),
    gatedLinear(x, get("gate"), get("up"), rows),
    linear(gatedLinear(x, get("gate"), get("up"), rows, precision), get("down"), null, rows),
    scores.logProbs,
    scores.entropy,
  ];
}

describe("engine/slot-weights", (test) => {
  for (const precision of ["f32", "f16"] as const)
    for (const [form, size] of Object.entries(sizes))
      for (const [what, rows] of Object.entries(batches))
        test(`${precision}, ${form}, ${what}: the bits of one dispatch per run of rows`, async () => {
          for (const { name, backend } of await testBackends())
            await scopeAsync(async () => {
              const arena = arenaOf(backend, size);
              const slots = slotsOf(arena, precision);
              const grouped = await readTensors(resultsOf((one) => slots.get(one), rows, backend, size, precision));
              const moved = placed(new MovedWeights(arena, precision), arena);
              const tiles = await readTensors(resultsOf((one) => moved.get(one), rows, backend, size, precision));
              const apart = await readTensors(
                resultsOf((one) => looped(slots.get(one)), rows, backend, size, precision),
              );
              assert.equal(grouped.length, 11);
              grouped.forEach((values, i) => {
                sameBits(`${name}: result ${i}`, values, apart[i]);
                sameBits(`${name}: result ${i}, weights made a tile at a time`, tiles[i], apart[i]);
              });
              slots.free();
              moved.free();
              arena.free();
            });
        });

  test("weights made a tile at a time along tensors and Gaussians have the bits of slots", async () => {
    for (const { name, backend } of await testBackends())
      for (const precision of ["f32", "f16"] as const)
        await scopeAsync(async () => {
          const size = sizes["odd widths"];
          const rows = batches["runs without rows"];
          const arena = arenaOf(backend, size);
          const slots = slotsOf(arena, precision, true);
          const moved = placed(new MovedWeights(arena, precision), arena, true);
          const [found, wanted] = await Promise.all(
            [moved, slots].map((weights) =>
              readTensors(resultsOf((one) => weights.get(one), rows, backend, size, precision)),
            ),
          );
          found.forEach((values, i) => {
            sameBits(`${name}, ${precision}: result ${i}`, values, wanted[i]);
          });
          slots.free();
          arena.free();
        });
  });

  test("a head in several chunks of columns: each chunk's tile has the Gaussians of its own rows", async () => {
    for (const { name, backend } of await testBackends())
      for (const precision of ["f32", "f16"] as const)
        await scopeAsync(async () => {
          const size = { V: 2053, C: 5, F: 8, outputs: [8, 8, 8] } as const;
          const rows = groupsOf([1, 2], [0, 1]);
          const arena = arenaOf(backend, size);
          const [slots, moved] = [slotsOf(arena, precision), placed(new MovedWeights(arena, precision), arena)];
          const x = fromArray(backend, normals(1, 15), [3, 5]);
          const targets = fromArray(backend, Uint32Array.of(2052, 7, 1030), [3], "u32");
          const scoresOf = (table: Parameter): Promise<NumberArray> =>
            head(x, table, targets, { temperature: 1, columnChunk: 1024 }, rows).logProbs.read();
          const wanted = await scoresOf(looped(slots.get("table")));
          sameBits(`${name}, ${precision}: grouped`, await scoresOf(slots.get("table")), wanted);
          sameBits(`${name}, ${precision}: in tiles`, await scoresOf(moved.get("table")), wanted);
          slots.free();
          arena.free();
        });
  });

  test("several points take no more dispatches than one", async () => {
    for (const { backend } of [{ backend: new CpuBackend() }, await webgpuBackend()])
      for (const precision of ["f32", "f16"] as const)
        await scopeAsync(async () => {
          const size = sizes["everything in fours"];
          const arena = arenaOf(backend, size);
          const slots = slotsOf(arena, precision);
          const dispatchesOf = (rows: RowGroup[], get = (one: string) => slots.get(one)): number => {
            const before = backend.statistics().dispatches;
            resultsOf(get, rows, backend, size, precision);
            return backend.statistics().dispatches - before;
          };
          const one = dispatchesOf(groupsOf([2, 5]));
          // SwiftShader's tile for one row stores f16, and its others do not: two dispatches fewer.
          const fewer = backend.style === "swiftshader" && precision === "f16" ? 2 : 0;
          assert.equal(dispatchesOf(batches["one row each"]), one - fewer);
          assert.equal(dispatchesOf(batches["interleaved and uneven"]), one);
          assert.ok(dispatchesOf(batches["one row each"], (name) => looped(slots.get(name))) > 3 * (one - fewer));
          slots.free();
          arena.free();
        });
  });

  test("slots that do not fit one buffer are multiplied point by point, to the same bits", async () => {
    const size = sizes["everything in fours"];
    // One slot of the table has 40 · 12 · 4 bytes: two fit, five do not. Slots of the smaller weights do.
    const small = new NotingBackend({ maxBufferBytes: 4096 });
    const whole = new NotingBackend();
    const [found, wanted] = await Promise.all(
      [small, whole].map((backend) =>
        scopeAsync(async () => {
          const slots = slotsOf(arenaOf(backend, size), "f32");
          backend.kernels.length = 0;
          return readTensors(
            resultsOf((one) => slots.get(one), groupsOf([4, 2], [0, 2], [3, 2]), backend, size, "f32"),
          );
        }),
      ),
    );
    found.forEach((values, i) => {
      sameBits(`result ${i}`, values, wanted[i]);
    });
    const count = (backend: NotingBackend, kernel: string): number =>
      backend.kernels.filter((name) => name === kernel).length;
    assert.deepEqual([count(small, "embedding"), count(small, "embeddingSlots")], [3, 0]);
    assert.deepEqual([count(whole, "embedding"), count(whole, "embeddingSlots")], [0, 1]);
    assert.deepEqual([count(small, "rmsNormSlotsTree"), count(whole, "rmsNormSlotsTree")], [1, 1]);
  });

  test("a table is made once for the same runs of rows, and again for other slots", async () => {
    const backend = new CpuBackend();
    await scopeAsync(async () => {
      const arena = arenaOf(backend, sizes["everything in fours"]);
      const slots = slotsOf(arena, "f32");
      const x = fromArray(backend, normals(1, 24), [2, 12]);
      const normOf = (...points: number[]): Tensor =>
        rmsNorm(x, slots.get("norm"), 1e-6, groupsOf(...points.map((point) => [point, 1] as const)));
      const [first] = await readTensors([normOf(0, 1)]);
      const before = backend.statistics().liveBuffers;
      const y = normOf(0, 1);
      assert.equal(backend.statistics().liveBuffers, before + 1, "the result alone");
      sameBits("the same runs", (await readTensors([y]))[0], first);
      const [other] = await readTensors([normOf(1, 0)]);
      assert.notDeepEqual(other, first);
    });
  });

  test("rows must belong to points that have slots, and all of them to one", async () => {
    const backend = new CpuBackend();
    await scopeAsync(async () => {
      const slots = slotsOf(arenaOf(backend, sizes["everything in fours"]), "f32");
      const x = fromArray(backend, normals(1, 36), [3, 12]);
      const normOf = (rows: RowGroup[]) => () => rmsNorm(x, slots.get("norm"), 1e-6, rows);
      await throwsMessage(normOf(groupsOf([0, 1], [9, 2])), "no weights for grid point 9");
      await throwsMessage(normOf(groupsOf([0, 1], [1, 1])), "rows 2 to 3 belong to no grid point");
      await throwsMessage(
        normOf([
          { start: 0, count: 1, point: 0 },
          { start: 2, count: 1, point: 1 },
        ]),
        "rows 1 to 2 belong to no grid point",
      );
    });
  });
});

/** The plain backend, which notes the kernels that are dispatched. */
class NotingBackend extends CpuBackend {
  readonly kernels: string[] = [];
  override dispatch(work: Dispatch): void {
    this.kernels.push(work.kernel.name);
    super.dispatch(work);
  }
}
