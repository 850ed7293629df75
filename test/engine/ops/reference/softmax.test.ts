import assert from "node:assert/strict";
import { fromArray, scopeAsync } from "../../../../engine/index.ts";
import { logSoftmax, logSoftmaxOp, softmax, softmaxOp } from "../../../../engine/ops/reference/softmax.ts";
import { testBackends } from "../../../backends.ts";
import { describe } from "../../../support.ts";
import { checkOp } from "../../check-op.ts";
import { normals } from "../../normals.ts";
import { checkKnownOps } from "../known-ops.ts";

describe("engine/ops/reference/softmax", (test) => {
  for (const op of [softmaxOp, logSoftmaxOp])
    checkOp(test, op, {
      settings: {},
      cases: {
        "one element": { x: [1, 1] },
        "prime sizes": { x: [7, 61] },
        "leading axes": { x: [2, 3, 17] },
        "no rows": { x: [0, 5] },
        "as many rows as a workgroup": { x: [64, 3] },
        "one row more than a workgroup": { x: [65, 3] },
        "tensors in several segments": { x: [150, 61] },
        "tiny inputs": { inputs: { x: { shape: [4, 33], scale: 1e-20 } } },
        "inputs in the hundreds": { inputs: { x: { shape: [4, 33], scale: 200 } } },
      },
      // exp errs by 3 + 2|x| ULP where terms count (|x| < 20): 5e-6; sums of up to 61 terms by 2⁻²⁴ each. At inputs in the
      // hundreds log-softmax is of that size, and x − max exact to 2⁻²⁴ of it.
      tolerance: { forward: { ofScale: 2e-6, absolute: 2e-6 }, gradient: { ofScale: 5e-6, absolute: 2e-6 } },
    });
  test("a row with a NaN is NaN, and no other", async () => {
    for (const op of [softmax, logSoftmax])
      for (const bad of [[1], [0, 1, 2, 3]])
        for (const { backend, name } of await testBackends())
          await scopeAsync(async () => {
            const x = normals(1, 10);
            for (const column of bad) x[column] = Number.NaN;
            const y = [...(await op(fromArray(backend, x, [2, 5])).read())];
            assert.deepEqual(
              y.map(Number.isNaN),
              Array.from({ length: 10 }, (_, i) => i < 5),
              `${name}: ${y}`,
            );
          });
  });

  checkKnownOps(test, "softmax", ({ x }) => ({ y: softmax(x) }));
  checkKnownOps(test, "logSoftmax", ({ x }) => ({ y: logSoftmax(x) }));
});
