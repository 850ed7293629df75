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
      "one row more than a workgroup": { x: [65, 7], weight: [7] },
      "row wider than a group": { x: [2, 1025], weight: [1025] },
      "no rows": { x: [0, 64], weight: [64] },
      "tensors in several segments": { x: [97, 64], weight: [64] },
      "tiny values, where eps counts": { inputs: { x: { shape: [5, 33], scale: 1e-3 }, weight: [33] } },
    },
    // A sum of up to 1025 positive terms errs by at most 1025 · 2⁻²⁴ = 6e-5 relative and in practice by its root, 2e-6;
    // division and root 2.5 ULP each. Gradients have two such factors; dw sums up to 97 rows. dx is a difference of terms of
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

  test("refuses a weight of another width", () =>
    throwsMessage(() => rmsNormOp.definition.shapes({ x: [2, 3], weight: [4] }, { eps: 0 }), "expected [3], got [4]"));
});
