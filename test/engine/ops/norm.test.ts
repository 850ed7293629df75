import { backward, GradientMap, record } from "../../../engine/autograd.ts";
import type { Backend } from "../../../engine/backend.ts";
import { rmsNorm, rmsNormOp } from "../../../engine/ops/norm.ts";
import { scopeAsync } from "../../../engine/scope.ts";
import { fromArray } from "../../../engine/tensor.ts";
import { testBackends } from "../../backends.ts";
import { describe, throwsMessage } from "../../support.ts";
import { checkOp, normals, sameBits } from "../check-op.ts";
import { checkKnownOps } from "./known-ops.ts";

describe("engine/ops/norm", (test) => {
  checkOp(test, rmsNormOp, {
    settings: { eps: 1e-6 },
    skipUpstream: ["inverseRms"],
    cases: {
      "one element": { x: [1, 1], weight: [1] },
      "prime sizes": { x: [3, 61], weight: [61] },
      "as many rows as a workgroup": { x: [64, 7], weight: [7] },
      "one row more than a workgroup": { x: [65, 7], weight: [7] },
      "as many rows as a chunk of dw": { x: [128, 5], weight: [5] },
      "one row more than a chunk of dw": { x: [129, 5], weight: [5] },
      "row wider than a group": { x: [2, 1025], weight: [1025] },
      "no rows": { x: [0, 64], weight: [64] },
      "tensors in several segments": { x: [97, 64], weight: [64] },
      "tiny values, where eps counts": { inputs: { x: { shape: [5, 33], scale: 1e-3 }, weight: [33] } },
    },
    // A sum of up to 1025 positive terms errs by at most 1025 · 2⁻²⁴ = 6e-5 relative and in practice by its root, 2e-6;
    // division and root 2.5 ULP each. Gradients have two such factors; dw sums up to 129 rows. dx is a difference of terms of
    // order |dy·w·r|, of which nothing is left in a row of one: 8 roundings of 2⁻²⁴ of those.
    tolerance: { forward: { ofScale: 4e-6 }, gradient: { ofScale: 8e-6, absolute: 5e-7 } },
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

  // 300 rows are three chunks of dw, and at 16 KiB several segments whose ends lie inside chunks.
  const rows = 300;
  const width = 60;
  const passes = (backend: Backend) =>
    scopeAsync(async () => {
      const x = fromArray(backend, normals(1, rows * width), [rows, width]);
      const weight = fromArray(backend, normals(2, width), [width]);
      for (const leaf of [x, weight]) leaf.requiresGradient = true;
      const recording = record(() => rmsNormOp({ x, weight }, { eps: 1e-6 }));
      const store = new GradientMap([x, weight]);
      const dy = fromArray(backend, normals(3, rows * width), [rows, width]);
      backward(recording, new Map([[recording.result.y, dy]]), store);
      const found = [recording.result.y, store.get(x), store.get(weight)].map((t) => t?.read());
      const [y, dx, dWeight] = await Promise.all(found);
      store.free();
      return { y, dx, dWeight };
    });

  test("cuts change no bit of outputs and gradients", async () => {
    const [, whole, ...cut] = await testBackends();
    const expected = await passes(whole.backend);
    for (const { name, backend } of cut)
      for (const [what, values] of Object.entries(await passes(backend)))
        sameBits(`${name}: ${what}`, values, expected[what as keyof typeof expected] ?? new Float32Array());
  });

  test("a row alone and among 7 has the bits that it has in the batch", async () => {
    for (const { name, backend } of await testBackends()) {
      const { y: whole } = await passes(backend);
      await scopeAsync(async () => {
        const x = fromArray(backend, normals(1, rows * width), [rows, width]);
        const weight = fromArray(backend, normals(2, width), [width]);
        for (const [start, count] of [
          [0, 1],
          [64, 1],
          [299, 1],
          [62, 7],
        ]) {
          const { y } = rmsNormOp({ x: x.sliceRows(start, count), weight }, { eps: 1e-6 });
          const own = whole?.slice(start * width, (start + count) * width);
          sameBits(`${name}: rows from ${start}`, await y.read(), own ?? new Float32Array());
        }
      });
    }
  });

  test("refuses a weight of another width", () =>
    throwsMessage(() => rmsNormOp.definition.shapes({ x: [2, 3], weight: [4] }, { eps: 0 }), "expected [3], got [4]"));
});
