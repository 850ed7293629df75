import type { NumberArray } from "../../../../engine/dtype.ts";
import { writeNormals } from "../../../../engine/ops/perturbation/normals.ts";
import { writeWeightedNormals } from "../../../../engine/ops/perturbation/weighted-normals.ts";
import { directionNormals, philoxKey, wordsOf } from "../../../../engine/random.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, type Shape, sizeOf } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { sameBits } from "../../check-op.ts";

const nameWords = wordsOf("model.layers.1.mlp.down_proj.weight");
const shapes: Shape[] = [[1], [5], [4097], [301, 61], [3, 4, 5], [9, 1024], [0, 8]];
const streams = [0.7, -0.2, 0, 0.05, -1.3].map((coefficient, k) => ({
  key: philoxKey(`evolve|3|7|${k}`),
  coefficient,
}));
const total = streams.reduce((sum, { coefficient }) => sum + Math.abs(coefficient), 0);

describe("engine/ops/perturbation/weighted-normals", (test) => {
  test("Σ c · g of streams that are not stored, against float64", async () => {
    for (const shape of shapes) {
      const drawn = streams.map(({ key }) => directionNormals(key, nameWords, sizeOf(shape)));
      const truth = Float64Array.from({ length: sizeOf(shape) }, (_, e) =>
        streams.reduce((sum, { coefficient }, k) => sum + coefficient * drawn[k][e], 0),
      );
      for (const { name, backend } of [{ name: "f64", backend: reference }, ...(await testBackends())])
        await scopeAsync(async () => {
          const isDouble = backend === reference;
          const y = empty(backend, shape, isDouble ? "f64" : "f32");
          writeWeightedNormals(y, nameWords, streams);
          const first = await y.read();
          // 4e-6 of each normal; five roundings of sums below 7 · Σ|c|.
          const bound = isDouble ? 1e-14 : (4e-6 + 5 * 2 ** -24 * 7) * total;
          assertClose(`${name}: [${shape}]`, first, truth, { absolute: bound });
          writeWeightedNormals(y, nameWords, streams);
          sameBits(`${name}: [${shape}] twice`, await y.read(), first);
        });
    }
  });

  test("one stream with coefficient 1 is that stream bit for bit; segments change no bit", async () => {
    let whole: NumberArray | null = null;
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const [y, z] = [empty(backend, [301, 61]), empty(backend, [301, 61])];
        writeNormals(z, streams[0].key, nameWords);
        writeWeightedNormals(y, nameWords, [{ ...streams[0], coefficient: 1 }]);
        sameBits(name, await y.read(), await z.read());
        writeWeightedNormals(y, nameWords, streams);
        const all = await y.read();
        if (backend.kind !== "cpu") whole ??= all;
        if (whole !== null) sameBits(`${name}: segments`, all, whole);
      });
  });

  test("refuses an empty sum", async () => {
    const { backend } = (await testBackends())[0];
    await scopeAsync(async () => {
      const y = empty(backend, [3]);
      await throwsMessage(() => writeWeightedNormals(y, nameWords, []), "expected at least one stream, got none");
    });
  });
});
