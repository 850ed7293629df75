// Ops that write or read f16 for the forward pass alone: each gives the bits of its f32 form, with the rounding done by
// hand where the op does it.
import assert from "node:assert/strict";
import { f16ToF32, f32ToF16 } from "../../engine/dtype-conversion.ts";
import {
  appendToCache,
  attention,
  type Backend,
  causalSpans,
  embedding,
  fromArray,
  HalfWeights,
  head,
  klAndScore,
  linear,
  type Parameter,
  rmsNorm,
  ropeIntoCache,
  rotaryTables,
  scopeAsync,
  swiglu,
} from "../../engine/index.ts";
import { toHalf } from "../../engine/ops/matmul/half.ts";
import { matrixUnits } from "../../engine/ops/shared/matrix-units.ts";
import { empty, type Tensor } from "../../engine/tensor.ts";
import { testBackends } from "../backends.ts";
import { describe, throwsMessage } from "../support.ts";
import { normals, sameBits } from "./check-op.ts";
import { smallIntegers } from "./normals.ts";
import { readHalf } from "./read-half.ts";

const rounded = (values: ArrayLike<number>): Float32Array =>
  Float32Array.from(values, (value) => f16ToF32(f32ToF16(value)));

/** A weight of f16 panels, loaded in pieces of `piece` elements. */
function halfWeight(
  backend: Backend,
  values: Float32Array,
  shape: readonly [number, number],
  piece: number,
): Parameter {
  const weights = new HalfWeights(backend, new Map([["w", { shape, isHalf: true }]]));
  const loader = weights.loader("w");
  for (let from = 0; from < values.length; from += piece) loader.push(values.subarray(from, from + piece));
  loader.end();
  return weights.get("w");
}

async function onEveryBackend(body: (backend: Backend, name: string) => Promise<void>): Promise<void> {
  for (const { name, backend } of await testBackends()) await scopeAsync(() => body(backend, name));
}

const widths = [64, 36, 7]; // 7: words and fours are shared by rows

describe("engine/half-results", (test) => {
  for (const width of widths)
    test(`rmsNorm and swiglu of rows of ${width}`, () =>
      onEveryBackend(async (backend, name) => {
        const rows = 70;
        const [x, y] = [1, 2].map((seed) => fromArray(backend, normals(seed, rows * width), [rows, width]));
        const weight = fromArray(backend, normals(3, width), [width]);
        const norm = rmsNorm(x, weight, 1e-6, null, "f16");
        const gated = swiglu(x, y, "f16");
        assert.equal(norm.dtype, "f16");
        assert.equal(gated.dtype, "f16");
        sameBits(`${name}: rmsNorm`, await readHalf(norm), rounded(await rmsNorm(x, weight, 1e-6).read()));
        sameBits(`${name}: swiglu`, await readHalf(gated), rounded(await swiglu(x, y).read()));
      }));

  for (const [V, C] of [
    [40, 8],
    [61, 7],
    [3000, 64],
  ] as const)
    for (const piece of [5, 1000, 10 ** 6])
      test(`a weight [${V},${C}] loaded in pieces of ${piece}: linear, embedding, head and KL`, () =>
        onEveryBackend(async (backend, name) => {
          // Matrix units sum in another order, which shows in no bit if every sum is exact.
          const numbers = matrixUnits(backend) === null ? normals : smallIntegers;
          const values = Float32Array.from(numbers(4, V * C));
          const T = 5;
          const half = halfWeight(backend, values, [V, C], piece);
          const plain = fromArray(backend, rounded(values), [V, C]);
          const x = fromArray(backend, numbers(5, T * C), [T, C]);
          const bias = fromArray(backend, numbers(6, V), [V]);
          const near = fromArray(backend, rounded(await x.read()), [T, C]);
          sameBits(`${name}: linear`, await linear(x, half, bias).read(), await linear(near, plain, bias).read());
          sameBits(
            `${name}: linear with a residual`,
            await linear(toHalf(x), half, null, null, { residual: linear(near, plain) }).read(),
            await linear(near, plain, null, null, { residual: linear(near, plain) }).read(),
          );
          const ids = { tensor: fromArray(backend, [0, V - 1, 9, 17, 1], [T], "u32"), host: null };
          sameBits(`${name}: embedding`, await embedding(ids, half).read(), await embedding(ids, plain).read());
          const [scored, expected] = [half, plain].map((weight) =>
            head(weight === half ? x : near, weight, ids.tensor, { temperature: 0.7 }),
          );
          for (const part of ["logProbs", "entropy", "logSumExp"] as const)
            sameBits(`${name}: ${part}`, await scored[part].read(), await expected[part].read());
          const { kl } = klAndScore({
            ...{ hiddenQ: x, headQ: half, rows: null, hiddenP: x, headP: half, logSumExpP: scored.logSumExp },
            ...{ targets: ids.tensor, temperature: 0.7 },
          });
          assert.deepEqual([...(await kl.read())], [0, 0, 0, 0, 0]);
        }));

  for (const [H, K, D] of [
    [4, 2, 64],
    [2, 1, 12],
    [2, 2, 14],
  ])
    test(`a cache in f16, ${H} and ${K} heads of ${D}: rope, append and attention`, () =>
      onEveryBackend(async (backend, name) => {
        const lengths = [9, 1, 30];
        const T = lengths.reduce((sum, n) => sum + n, 0);
        const S = T + 3;
        const make = (seed: number, heads: number): Tensor =>
          fromArray(backend, normals(seed, T * heads * D), [T, heads, D]);
        const tables = rotaryTables(
          Uint32Array.from({ length: T }, (_, t) => t % 17),
          D,
          10000,
        );
        const [cos, sin] = [tables.cos, tables.sin].map((table) => fromArray(backend, table, [T, D / 2]));
        const slots = fromArray(
          backend,
          Uint32Array.from({ length: T }, (_, t) => t),
          [T],
          "u32",
        );
        const cache = (dtype: "f32" | "f16"): { keys: Tensor; values: Tensor } => ({
          keys: fromArrayOf(backend, S, K, D, dtype),
          values: fromArrayOf(backend, S, K, D, dtype),
        });
        const [half, plain, appended] = [cache("f16"), cache("f32"), cache("f16")];
        const [q, qAgain, k, v] = [make(1, H), make(1, H), make(2, K), make(3, K)];
        ropeIntoCache(q, k, v, cos, sin, { slots, ...half });
        ropeIntoCache(qAgain, k, v, cos, sin, { slots, ...plain });
        sameBits(`${name}: q`, await q.read(), await qAgain.read());
        const kept = T * K * D; // slots beyond hold what they held
        for (const part of ["keys", "values"] as const) {
          const expected = rounded(await plain[part].read()).subarray(0, kept);
          sameBits(`${name}: ${part}`, (await readHalf(half[part])).slice(0, kept), expected);
        }
        appendToCache(plain.keys.sliceRows(0, T), plain.values.sliceRows(0, T), slots, appended.keys, appended.values);
        for (const part of ["keys", "values"] as const)
          sameBits(
            `${name}: appended ${part}`,
            (await readHalf(appended[part])).slice(0, kept),
            rounded(await plain[part].read()).subarray(0, kept),
          );
        const near = {
          keys: fromArray(backend, rounded(await plain.keys.read()), [S, K, D]),
          values: fromArray(backend, rounded(await plain.values.read()), [S, K, D]),
        };
        const own = causalSpans(lengths);
        const spans = fromArray(backend, own.spans, [T, 4], "u32");
        const querySpans = fromArray(
          backend,
          [...own.querySpans, ...new Array<number>(2 * (S - T)).fill(0)],
          [S, 2],
          "u32",
        );
        for (const queries of [null, querySpans]) {
          const wanted = await attention(q, near.keys, near.values, spans, queries).read();
          sameBits(`${name}: attention`, await attention(q, half.keys, half.values, spans, queries).read(), wanted);
          const mixed = attention(q, half.keys, half.values, spans, queries, { output: "f16" });
          if (D % 4 === 0 && half.keys.segments.length === 1) assert.equal(mixed.dtype, "f16");
          const y = mixed.dtype === "f16" ? await readHalf(mixed) : rounded(await mixed.read());
          sameBits(`${name}: attention to f16`, y, rounded(wanted));
        }
      }));

  test("numbers beyond f16 in a cache become NaN, which attention passes on", () =>
    onEveryBackend(async (backend, name) => {
      const slots = fromArray(backend, [0, 1], [2], "u32");
      for (const beyond of [65520, -65520, 1e30, Number.NEGATIVE_INFINITY, Number.NaN]) {
        const keys = empty(backend, [2, 1, 2], "f16");
        const values = empty(backend, [2, 1, 2], "f16");
        const k = fromArray(backend, [1, 65504, 1, beyond], [2, 1, 2]);
        appendToCache(k, fromArray(backend, [1, 2, 3, 4], [2, 1, 2]), slots, keys, values);
        const spans = fromArray(backend, causalSpans([2]).spans, [2, 4], "u32");
        const q = fromArray(backend, [1e-3, 1e-3, 1e-3, 1e-3], [2, 1, 2]);
        const y = await attention(q, keys, values, spans, null).read();
        assert.ok(Number.isFinite(y[0]) && Number.isFinite(y[1]), `${name}: ${beyond}: the first token sees ${y}`);
        assert.ok(Number.isNaN(y[2]) && Number.isNaN(y[3]), `${name}: ${beyond}: the second token sees ${y}`);
      }
    }));

  test("a loader refuses more or fewer elements than the tensor has", async () => {
    const [{ backend }] = await testBackends();
    const weights = new HalfWeights(backend, new Map([["w", { shape: [3, 2], isHalf: true }]]));
    throwsMessage(
      () => weights.loader("w").push(new Float32Array(7)),
      "HalfWeights: w: expected 6 elements for [3,2], got at least 7",
    );
    throwsMessage(() => weights.loader("w").end(), "HalfWeights: w: expected 6 elements for [3,2], got 0");
    weights.free();
  });
});

function fromArrayOf(backend: Backend, S: number, K: number, D: number, dtype: "f32" | "f16"): Tensor {
  const zeros = fromArray(backend, new Float32Array(S * K * D), [S, K * D]);
  return (dtype === "f16" ? toHalf(zeros) : zeros).view([S, K, D]);
}
