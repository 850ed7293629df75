import * as assert from "uvu/assert";
import { GradientMap, record } from "../../../../engine/autograd.ts";
import { gatherRows, gatherRowsOp } from "../../../../engine/ops/gather/gather.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, type Tensor } from "../../../../engine/tensor.ts";
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

  test("gradients of a row that occurs several times add up", async () => {
    const [rows, width] = [5, 12];
    const places = Array.from({ length: 300 }, (_, i) => (i * i) % rows); // 2 and 3 do not occur
    const upstream = Float32Array.from(normals(2, places.length * width));
    const expected = new Float64Array(rows * width);
    const magnitude = new Float64Array(rows * width);
    places.forEach((row, i) => {
      for (let c = 0; c < width; c++) {
        expected[row * width + c] += upstream[i * width + c];
        magnitude[row * width + c] += Math.abs(upstream[i * width + c]);
      }
    });
    for (const { name, backend } of await testBackends())
      for (const shape of [
        [rows, width],
        [rows, 3, 4],
      ])
        await scopeAsync(async () => {
          const x = fromArray(backend, normals(1, rows * width), shape);
          x.requiresGradient = true;
          const recording = record(() => gatherRows(x, places));
          const { result } = recording;
          assert.equal([...result.shape], [places.length, ...shape.slice(1)]);
          const seed = fromArray(backend, upstream, result.shape);
          const gradients = recording.backward(new Map([[result, seed]]), new GradientMap());
          const found = await (gradients.get(x) as Tensor).read();
          gradients.free();
          // A sum of n numbers errs by at most n − 1 roundings of half a unit each, of partial sums below Σ |numbers|.
          const most = (places.length / rows) * 2 * 2 ** -24;
          expected.forEach((value, i) => {
            assert.ok(Math.abs(found[i] - value) <= most * magnitude[i], `${name}: ${i}: ${found[i]}, not ${value}`);
          });
        });
  });

  test("refuses rows that are not there", async () => {
    await scopeAsync(async () => {
      const x = fromArray(reference, normals(1, 12), [4, 3], "f64");
      await throwsMessage(() => gatherRows(x, [0, 4]), "index 4", "[4,3]");
      await throwsMessage(() => gatherRows(x, [-1]), "index -1");
      await throwsMessage(() => gatherRows(x, [0.5]), "index 0.5");
      x.requiresGradient = true;
      await throwsMessage(() => record(() => gatherRows(x, [1, 1, 4])), "index 4");
    });
  });
});
