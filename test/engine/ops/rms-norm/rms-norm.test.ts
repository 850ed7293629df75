import * as assert from "uvu/assert";
import { GradientMap, record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { WebGpuBackend } from "../../../../engine/backends/webgpu/backend.ts";
import type { DType, NumberArray } from "../../../../engine/dtype.ts";
import { rmsNorm, rmsNormOp } from "../../../../engine/ops/rms-norm/rms-norm.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, sizeOf } from "../../../../engine/tensor.ts";
import { reference, type TestBackend, testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";
import { elementCases } from "../elementwise/element-sizes.ts";
import { checkKnownOps } from "../known-ops.ts";

/** Lanes of a row with and without a column of their own; and 300 rows, three chunks of dw, cut inside them at 16 KiB. */
const shapes = [
  [3, 61],
  [65, 7],
  [7, 1025],
  [300, 60],
];

// A sum of up to 1025 positive terms errs by at most 1025 · 2⁻²⁴ = 6e-5 relative and in practice by its root, 2e-6;
// division and root 2.5 ULP each. Gradients have two such factors; dw sums up to 300 rows. dx is a difference of terms of
// order |dy·w·r|, of which nothing is left in a row of one: 8 roundings of 2⁻²⁴ of those.
const tolerance = { forward: { ofScale: 4e-6 }, gradient: { ofScale: 8e-6, absolute: 5e-7 } };

/** The same devices taken for GPUs, so that the tree runs where the adapter would have one invocation take a row. */
function treeBackends(found: readonly TestBackend[]): TestBackend[] {
  return found.map(({ name, backend }) => {
    assert.ok(backend instanceof WebGpuBackend);
    const { description, device, limits } = backend;
    const taken = new WebGpuBackend(device, {
      description,
      style: "gpu",
      memory: "host",
      maxBufferBytes: limits.maxBufferBytes,
    });
    return { name: `${name}, tree`, backend: taken };
  });
}

/** Output and gradients, and the gradients again with the same ones added. */
function passes(backend: Backend, dtype: DType, rows: number, width: number): Promise<Record<string, NumberArray>> {
  return scopeAsync(async () => {
    const make = (seed: number, shape: number[]) => fromArray(backend, normals(seed, sizeOf(shape)), shape, dtype);
    const leaves = { dx: make(1, [rows, width]), dWeight: make(2, [width]) };
    for (const leaf of Object.values(leaves)) leaf.requiresGradient = true;
    const recording = record(() => rmsNormOp({ x: leaves.dx, weight: leaves.dWeight }, { eps: 1e-6 }).y);
    const store = new GradientMap(Object.values(leaves));
    const seeds = new Map([[recording.result, make(3, [rows, width])]]);
    const results: Record<string, NumberArray> = { y: await recording.result.read() };
    for (const suffix of ["", "Added"]) {
      recording.backward(seeds, store);
      for (const [name, leaf] of Object.entries(leaves))
        results[name + suffix] = (await store.get(leaf)?.read()) ?? new Float64Array();
    }
    store.free();
    return results;
  });
}

describe("engine/ops/rms-norm/rms-norm", (test) => {
  checkOp(test, rmsNormOp, {
    settings: { eps: 1e-6 },
    cases: {
      "one element": { x: [1, 1], weight: [1] },
      "prime sizes": { x: [3, 61], weight: [61] },
      "as many rows as a workgroup": { x: [64, 7], weight: [7] },
      "one row more than a workgroup": { x: [65, 7], weight: [7] },
      "as many rows as a chunk of dw": { x: [128, 5], weight: [5] },
      "one row more than a chunk of dw": { x: [129, 5], weight: [5] },
      ...elementCases((rows, width) => ({ x: [rows, width], weight: [width] })),
      "row wider than a group": { x: [2, 1025], weight: [1025] },
      "no rows": { x: [0, 64], weight: [64] },
      "tensors in several segments": { x: [97, 64], weight: [64] },
      "huge values": { inputs: { x: { shape: [5, 33], scale: 1e15 }, weight: { shape: [33], scale: 1e3 } } },
      "values whose squares are nothing": { inputs: { x: { shape: [5, 33], scale: 1e-25 }, weight: [33] } },
      "tiny values, where eps counts": { inputs: { x: { shape: [5, 33], scale: 1e-3 }, weight: [33] } },
    },
    tolerance,
  });

  checkKnownOps(test, "rmsNorm", ({ x, weight }, { eps }) => ({
    y: rmsNorm(x, { kind: "tensor", tensor: weight, panels: null }, Number(eps), null),
  }));

  test("slots: each run of rows takes its own weight, with the bits of a plain one", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const x = fromArray(backend, normals(1, 12 * 20), [12, 20]);
        const weights = [0, 1, 2].map((k) => fromArray(backend, normals(10 + k, 20), [20]));
        const slots = new Map(weights.map((rows, point) => [point, { rows, panels: null }]));
        const groups = [0, 1, 2, 0].map((point, i) => ({ point, start: 3 * i, count: 3 }));
        const y = await rmsNorm(x, { kind: "slots", shape: [20], slots }, 1e-6, groups).read();
        for (const { point, start, count } of groups) {
          const own = rmsNorm(
            x.sliceRows(start, count),
            { kind: "tensor", tensor: weights[point], panels: null },
            1e-6,
            null,
          );
          sameBits(`${name}: rows from ${start}`, y.slice(start * 20, (start + count) * 20), await own.read());
        }
      });
  });

  for (const [rows, width] of shapes)
    test(`both variants, [${rows}, ${width}]: cuts change no bit, nor do the rows beside one`, async () => {
      const expected = await passes(reference, "f64", rows, width);
      const [plain, ...drivers] = await testBackends();
      // Of one row's sum the order is its variant's own: bits are compared within a variant.
      for (const variant of [[plain], drivers, treeBackends(drivers)]) {
        let whole: Record<string, NumberArray> | undefined;
        for (const { name, backend } of variant) {
          const before = backend.statistics().liveBuffers;
          const found = await passes(backend, "f32", rows, width);
          assert.is(backend.statistics().liveBuffers, before, `${name}: buffers left behind`);
          for (const [what, values] of Object.entries(expected))
            assertClose(`${name}: ${what}`, found[what], values, what === "y" ? tolerance.forward : tolerance.gradient);
          whole ??= found;
          for (const [what, values] of Object.entries(whole)) sameBits(`${name}: ${what}`, found[what], values);

          await scopeAsync(async () => {
            const x = fromArray(backend, normals(1, rows * width), [rows, width]);
            const weight = fromArray(backend, normals(2, width), [width]);
            for (const [start, count] of [
              [0, 1],
              [rows - 1, 1],
              [rows >> 1, Math.min(7, rows >> 1)],
            ]) {
              const { y } = rmsNormOp({ x: x.sliceRows(start, count), weight }, { eps: 1e-6 });
              const among = found["y"].slice(start * width, (start + count) * width);
              sameBits(`${name}: ${count} rows from ${start}`, await y.read(), among);
            }
          });
        }
      }
    });

  test("refuses a weight of another width", () =>
    throwsMessage(() => rmsNormOp.definition.shapes({ x: [2, 3], weight: [4] }, { eps: 0 }), "expected [3], got [4]"));
});
