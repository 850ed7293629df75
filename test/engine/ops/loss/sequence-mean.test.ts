import assert from "node:assert/strict";
import { sequenceMean, sequenceMeanOp } from "../../../../engine/ops/loss/sequence-mean.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";

describe("engine/ops/loss/sequence-mean", (test) => {
  const case_ = (...lengths: number[]) => ({
    inputs: { x: [lengths.reduce((a, b) => a + b, 0)] },
    settings: { lengths },
  });
  checkOp(test, sequenceMeanOp, {
    settings: { lengths: [] },
    cases: {
      "one token": case_(1),
      "one sequence of prime size": case_(61),
      "several, some without tokens": case_(0, 7, 1, 0, 64, 65, 200, 0),
      "more sequences than a workgroup has invocations": case_(...Array.from({ length: 300 }, (_, i) => i % 4)),
      "sequences over several segments": case_(3000, 5000, 1, 1000),
      "no tokens": case_(0, 0),
    },
    // 5000 / 64 + 6 additions of terms of order one, divided by their number.
    tolerance: { forward: { absolute: 2e-6 }, gradient: { ofScale: 2e-6 } },
  });

  test("values by hand, and the same bits wherever a sequence lies in the batch", async () => {
    const own = normals(3, 77, 1, 0.5);
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const small = sequenceMean(fromArray(backend, [1, 3, 5, 7, 9, -2]), [2, 3, 0, 1]);
        assertClose(`${name}: by hand`, await small.read(), [2, 2, 7, 7, 7, -2], {});
        const alone = await sequenceMean(fromArray(backend, own), [77]).read();
        const amid = sequenceMean(fromArray(backend, [...normals(4, 500), ...own, ...normals(5, 9)]), [499, 1, 77, 9]);
        sameBits(`${name}: amid others`, (await amid.read()).slice(500, 577), alone);
      });
  });

  test("refuses lengths that do not sum to the tokens", async () => {
    const { shapes } = sequenceMeanOp.definition;
    await throwsMessage(() => shapes({ x: [5] }, { lengths: [2, 2] }), "sum to 5, got 4");
    await throwsMessage(() => shapes({ x: [5, 1] }, { lengths: [5] }), "expected [N], got [5,1]");
    assert.deepEqual(shapes({ x: [4] }, { lengths: [2, 2] }), { y: [4] });
  });
});
