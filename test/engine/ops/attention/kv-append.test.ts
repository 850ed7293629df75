import { noGradient, record } from "../../../../engine/autograd.ts";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { appendToCache } from "../../../../engine/ops/attention/kv-append.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, readTensors } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";
import { elementSizes } from "../elementwise/element-sizes.ts";

describe("engine/ops/attention/kv-append", (test) => {
  test("each token goes to its slot, all other slots keep what they hold", async () => {
    for (const [T, S, K, D] of [
      [1, 1, 1, 2],
      [0, 3, 2, 8],
      [7, 7, 2, 14],
      ...elementSizes.map(([rows, width]) => [rows, rows + 2, 1, width]),
      [300, 701, 2, 16], // tokens and cache in segments of other lengths
    ]) {
      const size = K * D;
      const [k, v, before, beforeValues] = [T, T, S, S].map((rows, i) => normals(i + 1, rows * size));
      const slots = Array.from({ length: T }, (_, t) => (t * 293 + 5) % S);
      const expect = (from: NumberArray, into: NumberArray): Float32Array => {
        const expected = Float32Array.from(into);
        for (const [t, slot] of slots.entries()) expected.set(from.subarray(t * size, (t + 1) * size), slot * size);
        return expected;
      };
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const tensor = (values: NumberArray) => fromArray(backend, values, [values.length / size, K, D]);
          const [keys, values] = [tensor(before), tensor(beforeValues)];
          appendToCache(tensor(k), tensor(v), fromArray(backend, slots, [T], "u32"), keys, values);
          const found = await readTensors([keys, values]);
          sameBits(`${name}: keys of ${T} tokens`, found[0], expect(k, before));
          sameBits(`${name}: values of ${T} tokens`, found[1], expect(v, beforeValues));
        });
    }
  });

  test("a slot beyond the cache is skipped", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const k = fromArray(backend, [1, 2, 3, 4, 5, 6], [3, 1, 2]);
        const v = fromArray(backend, [7, 8, 9, 10, 11, 12], [3, 1, 2]);
        const [keys, values] = [
          fromArray(backend, [0, 0, 0, 0], [2, 1, 2]),
          fromArray(backend, [0, 0, 0, 0], [2, 1, 2]),
        ];
        appendToCache(k, v, fromArray(backend, [2, 1, 2 ** 32 - 1], [3], "u32"), keys, values);
        const found = await readTensors([keys, values]);
        sameBits(name, found[0], Float32Array.of(0, 0, 3, 4));
        sameBits(name, found[1], Float32Array.of(0, 0, 9, 10));
      });
  });

  test("refuses what does not go together", async () => {
    await scopeAsync(async () => {
      const zeros = (...shape: number[]) =>
        fromArray(reference, new Float64Array(shape[0] * shape[1] * 8), [...shape, 8], "f64");
      const slots = fromArray(reference, [0, 1, 2], [3], "u32");
      const [k, keys, values] = [zeros(3, 2), zeros(5, 2), zeros(5, 2)];
      await throwsMessage(() => appendToCache(k, zeros(2, 2), slots, keys, values), "v: expected [3,2,8], got [2,2,8]");
      await throwsMessage(
        () => appendToCache(zeros(2, 2), zeros(2, 2), slots, keys, values),
        "slots: expected [2], got [3]",
      );
      await throwsMessage(() => appendToCache(k, k, slots, zeros(5, 1), values), "keys: expected [5,2,8], got [5,1,8]");
      await throwsMessage(() => appendToCache(k, k, slots, keys, zeros(4, 2)), "values: expected [5,2,8], got [4,2,8]");
      await throwsMessage(() => appendToCache(k, k, slots, keys, keys), "separate tensors");
      k.requiresGradient = true;
      await throwsMessage(
        () => record(() => appendToCache(k, k, slots, keys, values)),
        "appendToCache: no gradient flows through a cache",
        "noGradient",
      );
      record(() => noGradient(() => appendToCache(k, k, slots, keys, values)));
      appendToCache(k, k, slots, keys, values);
    });
  });
});
