import assert from "node:assert/strict";
import { noGradient, record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { appendToCache } from "../../../../engine/ops/attention/kv-append.ts";
import { rope, rotaryTables } from "../../../../engine/ops/rope/rope.ts";
import { ropeIntoCache, ropePair, ropePairOp } from "../../../../engine/ops/rope/rope-pair.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";

const tables = (tokens: number, headSize: number) => {
  const positions = Array.from({ length: tokens }, (_, t) => (t * 37) % 701);
  const { cos, sin } = rotaryTables(positions, headSize, 1e4);
  const shape = [tokens, headSize / 2];
  return { cos: { shape, values: Float32Array.from(cos) }, sin: { shape, values: Float32Array.from(sin) } };
};

/** Tokens, heads, key heads, size of a head; slots of the cache. */
const sizes = [
  [1, 1, 1, 2, 1],
  [0, 2, 1, 8, 3],
  [7, 3, 1, 22, 7],
  [16, 9, 3, 64, 70],
  [300, 4, 2, 16, 701], // tokens and cache in segments of other lengths
] as const;

describe("engine/ops/rope/rope-pair", (test) => {
  checkOp(test, ropePairOp, {
    settings: {},
    cases: {
      "one pair": { q: [1, 1, 2], k: [1, 1, 2], ...tables(1, 2) },
      "odd sizes": { q: [7, 3, 22], k: [7, 1, 22], ...tables(7, 22) },
      "in fours": { q: [5, 4, 16], k: [5, 2, 16], ...tables(5, 16) },
      "huge numbers": {
        inputs: { q: { shape: [5, 2, 6], scale: 1e36 }, k: { shape: [5, 1, 6], scale: 1e36 }, ...tables(5, 6) },
      },
      "no tokens": { q: [0, 2, 4], k: [0, 1, 4], ...tables(0, 4) },
      "tensors in several segments": { q: [150, 4, 16], k: [150, 2, 16], ...tables(150, 16) },
    },
    // Two products and a sum: three roundings of terms within the scale.
    tolerance: { forward: { ofScale: 3e-7 }, gradient: { ofScale: 3e-7 } },
  });

  const given = (
    backend: Backend,
    [T, H, K, D]: readonly number[],
  ): Record<"q" | "k" | "v" | "cos" | "sin", Tensor> => {
    const { cos, sin } = tables(T, D);
    return {
      q: fromArray(backend, normals(1, T * H * D), [T, H, D]),
      k: fromArray(backend, normals(2, T * K * D), [T, K, D]),
      v: fromArray(backend, normals(3, T * K * D), [T, K, D]),
      cos: fromArray(backend, cos.values, cos.shape),
      sin: fromArray(backend, sin.values, sin.shape),
    };
  };

  test("the bits of two calls of rope, in one dispatch", async () => {
    for (const size of sizes)
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const { q, k, cos, sin } = given(backend, size);
          const [oneQ, oneK] = [rope(q, cos, sin), rope(k, cos, sin)];
          const { dispatches } = backend.statistics();
          const both = ropePair(q, k, cos, sin);
          if (size[0] === 7) assert.equal(backend.statistics().dispatches - dispatches, 1);
          const found = await readTensors([both.q, both.k, oneQ, oneK]);
          sameBits(`${name}: q of [${size}]`, found[0], found[2]);
          sameBits(`${name}: k of [${size}]`, found[1], found[3]);
        });
  });

  test("into a cache: the numbers of rope and appendToCache, all other slots keep what they hold", async () => {
    for (const size of sizes) {
      const [T, , K, D, S] = size;
      // The last token of several has no slot in the cache.
      const slots = Array.from({ length: T }, (_, t) => (t > 0 && t === T - 1 ? S : (t * 293) % S));
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const { q, k, v, cos, sin } = given(backend, size);
          const at = fromArray(backend, slots, [T], "u32");
          const cache = (seed: number): Tensor => fromArray(backend, normals(seed, S * K * D), [S, K, D]);
          const [keys, values, wantedKeys, wantedValues] = [cache(4), cache(5), cache(4), cache(5)];
          const wantedQ = rope(q, cos, sin);
          appendToCache(rope(k, cos, sin), v, at, wantedKeys, wantedValues);
          ropeIntoCache(q, k, v, cos, sin, { slots: at, keys, values });
          const found = await readTensors([q, keys, values, wantedQ, wantedKeys, wantedValues]);
          for (const [i, what] of ["q", "keys", "values"].entries())
            sameBits(`${name}: ${what} of [${size}]`, found[i], found[i + 3]);
        });
    }
  });

  test("refuses what does not go together, and a gradient", async () => {
    await scopeAsync(async () => {
      const zeros = (...shape: number[]): Tensor =>
        fromArray(reference, new Float64Array(shape.reduce((a, b) => a * b, 1)), shape, "f64");
      const [q, k, v, cos, sin] = [zeros(2, 4, 8), zeros(2, 2, 8), zeros(2, 2, 8), zeros(2, 4), zeros(2, 4)];
      const [keys, values] = [zeros(3, 2, 8), zeros(3, 2, 8)];
      const slots = fromArray(reference, [0, 1], [2], "u32");
      const refused = (change: Partial<Record<"k" | "v" | "cos" | "keys" | "values", Tensor>>, ...texts: string[]) => {
        const own = { k, v, cos, keys, values, ...change };
        return throwsMessage(
          () => ropeIntoCache(q, own.k, own.v, own.cos, sin, { slots, keys: own.keys, values: own.values }),
          ...texts,
        );
      };
      await refused({ k: zeros(2, 2, 6) }, "expected [2,2,8], got [2,2,6]");
      await refused({ v: zeros(2, 1, 8) }, "expected [2,2,8], got [2,1,8]");
      await refused({ cos: zeros(2, 3) }, "expected [2,4], got [2,3]");
      await refused({ keys: zeros(3, 1, 8) }, "expected [3,2,8], got [3,1,8]");
      await refused({ values: keys }, "separate tensors");
      k.requiresGradient = true;
      record(() => {
        assert.throws(() => ropeIntoCache(q, k, v, cos, sin, { slots, keys, values }), /no gradient flows/);
        noGradient(() => ropeIntoCache(q, k, v, cos, sin, { slots, keys, values }));
      });
    });
  });
});
