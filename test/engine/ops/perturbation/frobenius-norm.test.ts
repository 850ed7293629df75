import assert from "node:assert/strict";
import { directionSquaresKernel, norm, normOfDirection } from "../../../../engine/ops/perturbation/frobenius-norm.ts";
import { writeNormals } from "../../../../engine/ops/perturbation/normals.ts";
import { directionNormals, philoxKey, wordsOf } from "../../../../engine/random.ts";
import { run } from "../../../../engine/run.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, type Shape, sizeOf } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { readSafetensorsFixture } from "../../../fixture-tensors.ts";
import { assertClose, assertKnown, describe, readFixture } from "../../../support.ts";
import { normals } from "../../check-op.ts";

/** Sixteen terms, two levels and six: 24 · 2⁻²⁴ of a sum of positive numbers, halved by the root. */
const promised = { relative: 12 * 2 ** -24 };
const key = philoxKey("direction|4|2|delta");
const name = wordsOf("model.layers.1.mlp.down_proj.weight");
const shapes: Shape[] = [[1], [3], [5, 7], [4096], [4097], [64, 64], [1031, 61], [9, 1024], [3, 4001]];

function lengthOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] ** 2;
  return Math.sqrt(sum);
}

describe("engine/ops/perturbation/frobenius-norm", (test) => {
  test("norms of tensors, in one piece and in segments", async () => {
    for (const shape of shapes) {
      const values = normals(5, sizeOf(shape), 0.02, 0.01);
      const expected = lengthOf(values);
      assertClose(`f64 [${shape}]`, [await norm(fromArray(reference, values, shape, "f64"))], [expected], {
        relative: 1e-13,
      });
      for (const { name: where, backend } of await testBackends()) {
        const before = backend.statistics().liveBuffers;
        await scopeAsync(async () => {
          const x = fromArray(backend, values, shape);
          const found = await norm(x);
          assertClose(`${where}: [${shape}]`, [found], [expected], promised);
          assert.equal(await norm(x), found, `${where}: [${shape}] twice`);
        });
        assert.equal(backend.statistics().liveBuffers, before, `${where}: buffers left behind`);
      }
    }
  });

  test("huge and tiny numbers, whose squares still are numbers", async () => {
    for (const scale of [1e15, 1e-15]) {
      const values = normals(5, 4099, scale);
      for (const { name: where, backend } of await testBackends()) {
        const found = await scopeAsync(() => norm(fromArray(backend, values)));
        assertClose(`${where}: ${scale}`, [found], [lengthOf(values)], promised);
      }
    }
  });

  test("rows of a tensor, from any element on", async () => {
    const values = normals(6, 1031 * 7);
    for (const { name: where, backend } of await testBackends())
      await scopeAsync(async () => {
        const x = fromArray(backend, values, [1031, 7]);
        for (const [start, count] of [
          [0, 1031],
          [1, 1],
          [3, 700],
          [1030, 1],
          [5, 0],
        ]) {
          const expected = lengthOf(values.subarray(7 * start, 7 * (start + count)));
          assertClose(
            `${where}: ${count} rows from ${start}`,
            [await norm(x.sliceRows(start, count))],
            [expected],
            promised,
          );
        }
      });
  });

  test("the known norms of weights' directions", async () => {
    const { norms } = readFixture<{ norms: Record<string, Record<string, number>> }>("landscape.json");
    const tensors = readSafetensorsFixture("landscape.safetensors");
    for (const { name: where, backend } of await testBackends())
      for (const [tensor, known] of Object.entries(norms))
        for (const axis of ["delta", "eta"]) {
          const found = tensors.get(`${axis}.${tensor}`);
          assert.ok(found !== undefined, `${axis}.${tensor}`);
          const length = await scopeAsync(() => norm(fromArray(backend, found.values, found.shape)));
          assertKnown("landscape.json", `norms: ${axis}`, where, [length], [known[axis]], promised, tensor);
        }
  });

  test("zeros, and no elements at all", async () => {
    for (const { backend } of [{ backend: reference }, ...(await testBackends())])
      for (const shape of [[0], [0, 8], [3, 0], [100, 7]])
        await scopeAsync(async () => {
          const x = fromArray(backend, new Float64Array(sizeOf(shape)), shape, backend === reference ? "f64" : "f32");
          assert.equal(await norm(x), 0);
          if (x.size === 0) assert.equal(await normOfDirection(x, key, name), 0);
        });
  });

  test("a NaN or an infinity shows", async () => {
    for (const { name: where, backend } of await testBackends())
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const values = normals(1, 9000);
        values[8192] = bad;
        const found = await scopeAsync(() => norm(fromArray(backend, values, [3000, 3])));
        assert.ok(!Number.isFinite(found), where);
      }
  });

  test("norms of directions that are not stored", async () => {
    for (const shape of shapes) {
      const expected = lengthOf(directionNormals(key, name, sizeOf(shape)));
      let first: number | null = null;
      for (const { name: where, backend } of await testBackends())
        await scopeAsync(async () => {
          const like = empty(backend, shape);
          const found = await normOfDirection(like, key, name);
          // A normal errs by at most 4e-6 absolute, and so does the root of their mean square.
          assertClose(`${where}: [${shape}]`, [found], [expected], {
            ...promised,
            absolute: 4e-6 * Math.sqrt(like.size),
          });
          // Beside the tensor of these very numbers, sums alone differ.
          writeNormals(like, key, name);
          assertClose(`${where}: [${shape}] as a tensor`, [found], [await norm(like)], {
            relative: 2 * promised.relative,
          });
          if (backend.kind === "cpu") return;
          first ??= found;
          assert.equal(found, first, `${where}: [${shape}]: not as on the whole buffer`);
        });
    }
  });

  test("elements past 2³⁴", async () => {
    const first = 3 * 2 ** 34 + 2 ** 30;
    const count = 5001;
    const expected = lengthOf(directionNormals(key, name, count, first));
    for (const { name: where, backend } of await testBackends())
      await scopeAsync(async () => {
        const partial = empty(backend, [2]);
        run(
          directionSquaresKernel,
          { partial },
          {
            ...{ quadLow: (first / 4) % 2 ** 32, quadHigh: Math.floor(first / 2 ** 34), count },
            ...{ key0: key[0], key1: key[1], name0: name[0], name1: name[1] },
          },
        );
        const [one, two] = await partial.read();
        assertClose(where, [Math.sqrt(one + two)], [expected], { ...promised, absolute: 4e-6 * Math.sqrt(count) });
      });
  });
});
