import { record } from "../../../../engine/autograd.ts";
import { gatherRows, gatherRowsOp } from "../../../../engine/ops/gather/gather.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";
import { elementCases } from "../elementwise/element-sizes.ts";

const indices = (...list: number[]) => ({ indices: Uint32Array.from(list) });

describe("engine/ops/gather/gather", (test) => {
  checkOp(test, gatherRowsOp, {
    settings: indices(0),
    cases: {
      "one element": { x: [1, 1] },
      "some rows, out of order": { inputs: { x: [7, 5] }, settings: indices(3, 0, 6) },
      "no rows": { inputs: { x: [7, 5] }, settings: indices() },
      "all rows": { inputs: { x: [3, 67] }, settings: indices(2, 1, 0) },
      ...elementCases((rows, width) => ({
        inputs: { x: [rows, width] },
        settings: indices(...Array.from({ length: rows }, (_, i) => rows - 1 - i)),
      })),
      "huge and tiny numbers": {
        inputs: { x: { shape: [4, 3], values: normals(1, 12).map((v, i) => Math.fround(v * (i % 2 ? 1e37 : 1e-30))) } },
        settings: indices(3, 1),
      },
      "rows of nothing": { inputs: { x: [3, 0] }, settings: indices(2, 0) },
      "three axes": { inputs: { x: [4, 3, 2] }, settings: indices(1, 3) },
      "source and result in segments": {
        inputs: { x: [1000, 33] },
        settings: indices(...Array.from({ length: 500 }, (_, i) => (i * 607 + 11) % 1000)),
      },
    },
    // Copies: exact. Central differences of a linear map err by rounding alone.
    tolerance: { forward: {}, gradient: {} },
  });

  test("rows may repeat where no gradient is wanted", async () => {
    const values = Float32Array.from(normals(1, 4 * 3));
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const y = await gatherRows(fromArray(backend, values, [4, 3]), [2, 2, 0]).read();
        sameBits(name, y, Float32Array.from([2, 2, 0].flatMap((row) => [...values.subarray(3 * row, 3 * row + 3)])));
      });
  });

  test("refuses rows that are not there, and repeated ones under a tape", async () => {
    await scopeAsync(async () => {
      const x = fromArray(reference, normals(1, 12), [4, 3], "f64");
      await throwsMessage(() => gatherRows(x, [0, 4]), "index 4", "[4,3]");
      await throwsMessage(() => gatherRows(x, [-1]), "index -1");
      await throwsMessage(() => gatherRows(x, [0.5]), "index 0.5");
      x.requiresGradient = true;
      await throwsMessage(() => record(() => gatherRows(x, [1, 1])), "occurs twice");
    });
  });
});
