import { noGradient, record } from "../../../../engine/autograd.ts";
import { f16ToF32, f32ToF16 } from "../../../../engine/dtype-conversion.ts";
import { appendToCache } from "../../../../engine/ops/attention/kv-append.ts";
import { repeatSlots } from "../../../../engine/ops/attention/repeat-slots.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";
import { readHalf } from "../../read-half.ts";

/** Backends whose caches of S slots are in one segment. */
const fitting = async (bytes: number) =>
  (await testBackends()).filter(({ backend }) => backend.limits.maxBufferBytes >= bytes);

describe("engine/ops/attention/repeat-slots", (test) => {
  test("each copy gets the bits of its source, all other slots keep what they hold", async () => {
    for (const [N, S, K, D] of [
      [0, 3, 1, 2],
      [1, 2, 1, 2],
      [5, 11, 2, 14],
      [300, 701, 2, 16],
      [70, 200, 1, 66],
    ]) {
      const size = K * D;
      const [keys, values] = [1, 2].map((seed) => Float32Array.from(normals(seed, S * size)));
      // Sources are even slots, some of them several times; targets odd ones.
      const from = Array.from({ length: N }, (_, c) => 2 * ((c * 7) % Math.ceil(S / 3)));
      const to = Array.from({ length: N }, (_, c) => 2 * c + 1);
      for (const dtype of ["f32", "f16"] as const) {
        const stored = (all: Float32Array) => (dtype === "f32" ? all : all.map((value) => f16ToF32(f32ToF16(value))));
        const expected = [keys, values].map((all) => {
          const after = stored(all);
          for (const [c, slot] of to.entries()) after.copyWithin(slot * size, from[c] * size, (from[c] + 1) * size);
          return after;
        });
        for (const { name, backend } of await fitting(S * size * 4))
          await scopeAsync(async () => {
            const [k, v] = [keys, values].map((all) => fromArray(backend, all, [S, K, D]));
            const cache = [0, 1].map(() => empty(backend, [S, K, D], dtype));
            const every = fromArray(
              backend,
              Array.from({ length: S }, (_, slot) => slot),
              [S],
              "u32",
            );
            appendToCache(k, v, every, cache[0], cache[1]);
            const table = (list: readonly number[]) => fromArray(backend, list, [N], "u32");
            repeatSlots(cache[0], cache[1], table(from), table(to));
            const found = dtype === "f16" ? await Promise.all(cache.map(readHalf)) : await readTensors(cache);
            sameBits(`${name}: keys, ${N} copies in ${dtype}`, found[0], expected[0]);
            sameBits(`${name}: values, ${N} copies in ${dtype}`, found[1], expected[1]);
          });
      }
    }
  });

  test("refuses what does not go together", async () => {
    await scopeAsync(async () => {
      const zeros = (...shape: number[]) =>
        fromArray(reference, new Float64Array(shape[0] * shape[1] * 8), [...shape, 8], "f64");
      const list = (count: number) => fromArray(reference, new Uint32Array(count), [count], "u32");
      const [keys, values] = [zeros(5, 2), zeros(5, 2)];
      await throwsMessage(
        () => repeatSlots(keys, zeros(4, 2), list(1), list(1)),
        "values: expected [5,2,8], got [4,2,8]",
      );
      await throwsMessage(() => repeatSlots(keys, values, list(2), list(1)), "to: expected [2], got [1]");
      await throwsMessage(() => repeatSlots(keys, keys, list(1), list(1)), "separate tensors");
      keys.requiresGradient = true;
      await throwsMessage(
        () => record(() => repeatSlots(keys, values, list(1), list(1))),
        "repeatSlots: no gradient flows through a cache",
        "noGradient",
      );
      record(() => noGradient(() => repeatSlots(keys, values, list(0), list(0))));
    });
  });
});
