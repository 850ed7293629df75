import * as assert from "uvu/assert";
import { GradientMap, record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import type { DType, NumberArray } from "../../../../engine/dtype.ts";
import { openBackend } from "../../../../engine/open.ts";
import { attentionOp, causalSpans } from "../../../../engine/ops/attention/attention.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, readTensors, sizeOf } from "../../../../engine/tensor.ts";
import { reference, testBackends, webgpuBackend } from "../../../backends.ts";
import { readSafetensorsFixture } from "../../../fixture-tensors.ts";
import { assertClose, assertKnown, describe, readFixture, throwsMessage } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";

interface FixtureCase {
  name: string;
  op: string;
  scale: number;
  sequenceIds?: number[];
  shapes: Record<string, number[]>;
}

/** Heads: [H, K, D]. */
type Heads = readonly [number, number, number];
const parts = ["y", "logSumExp", "dq", "dk", "dv"];
const half = 0.5;

/** Inputs of a check on spans that are given in full. */
function along(spans: ArrayLike<number>, querySpans: ArrayLike<number>, [H, K, D]: Heads) {
  const [T, S] = [spans.length / 4, querySpans.length / 2];
  return {
    q: [T, H, D],
    keys: [S, K, D],
    values: [S, K, D],
    spans: { shape: [T, 4], values: spans, dtype: "u32" },
    querySpans: { shape: [S, 2], values: querySpans, dtype: "u32" },
  } as const;
}

function causal(lengths: readonly number[], heads: Heads, cachedLengths?: readonly number[]) {
  const { spans, querySpans } = causalSpans(lengths, cachedLengths);
  return along(spans, querySpans, heads);
}

interface Given {
  heads: Heads;
  q: ArrayLike<number>;
  keys: ArrayLike<number>;
  values: ArrayLike<number>;
  spans: ArrayLike<number>;
  /** Both or neither. */
  querySpans?: ArrayLike<number>;
  dy?: ArrayLike<number>;
  /** Of a cache. */
  sequences?: number;
}

/** y and logSumExp, and with dy the gradients of q, keys and values, in this order. */
async function evaluate(backend: Backend, dtype: DType, given: Given, scale: number): Promise<NumberArray[]> {
  return scopeAsync(async () => {
    const [H, K, D] = given.heads;
    const leaf = (values: ArrayLike<number>, heads: number, name: string) => {
      const tensor = fromArray(backend, values, [values.length / (heads * D), heads, D], dtype, name);
      tensor.requiresGradient = given.dy !== undefined;
      return tensor;
    };
    const [q, keys, values] = [leaf(given.q, H, "q"), leaf(given.keys, K, "keys"), leaf(given.values, K, "values")];
    const table = (from: ArrayLike<number>, width: number, name: string) =>
      fromArray(backend, from, [from.length / width, width], "u32", name);
    const spans = table(given.spans, 4, "spans");
    const querySpans = given.querySpans === undefined ? null : table(given.querySpans, 2, "querySpans");
    const recording = record(() =>
      attentionOp({ q, keys, values, spans, querySpans }, { scale, sequences: given.sequences }),
    );
    const { y, logSumExp } = recording.result;
    const store = new GradientMap([q, keys, values]);
    if (given.dy !== undefined) recording.backward(new Map([[y, fromArray(backend, given.dy, y.shape, dtype)]]), store);
    const gradients = [q, keys, values].map((input) => store.get(input)).filter((gradient) => gradient !== undefined);
    const found = await readTensors([y, logSumExp, ...gradients]);
    store.free();
    return found;
  });
}

/** Attention as it is written in a textbook, for one sequence whose queries are its last tokens: y. */
function textbook(
  q: Float64Array,
  keys: Float64Array,
  values: Float64Array,
  [H, K, D]: Heads,
  scale: number,
): Float64Array {
  const [T, S] = [q.length / (H * D), keys.length / (K * D)];
  const y = new Float64Array(q.length);
  for (let t = 0; t < T; t++)
    for (let h = 0; h < H; h++) {
      const at = (t * H + h) * D;
      const key = (s: number) => (s * K + Math.floor(h / (H / K))) * D;
      const scores = Array.from({ length: S - T + t + 1 }, (_, s) =>
        keys.subarray(key(s), key(s) + D).reduce((sum, k, d) => sum + scale * k * q[at + d], 0),
      );
      const highest = Math.max(...scores);
      const total = scores.reduce((sum, score) => sum + Math.exp(score - highest), 0);
      scores.forEach((score, s) => {
        for (let d = 0; d < D; d++) y[at + d] += (Math.exp(score - highest) / total) * values[key(s) + d];
      });
    }
  return y;
}

/** `rows` of `values` (each of `size` numbers), in this order. */
function pick(values: NumberArray, rows: readonly number[], size: number): Float64Array {
  const picked = new Float64Array(rows.length * size);
  for (const [i, row] of rows.entries()) picked.set(values.subarray(row * size, (row + 1) * size), i * size);
  return picked;
}

const exact = { relative: 1e-9, absolute: 1e-13 };
// A score sums D products (D·2⁻²⁴ of its size, at most 1e-5 here), exp makes that relative, log and exp of a driver add 1e-6.
const tolerance = { ofScale: 2e-5, absolute: 2e-6 };

describe("engine/ops/attention/attention", (test) => {
  const rowWithPrefix = (own: number, length: number) => [0, 4, own, length];
  checkOp(test, attentionOp, {
    settings: { scale: half },
    cases: {
      "one number twice": causal([1], [1, 1, 2]),
      "no tokens, no keys": causal([], [4, 2, 8]),
      "keys without tokens": causal([0, 0], [2, 1, 8], [3, 2]),
      "some tokens see no key": along([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 2]),
      "ragged lengths, odd pairs": causal([1, 7, 3], [6, 2, 14]),
      "seven heads of 22 on one key head": causal([5, 2], [7, 1, 22]),
      "each head its own keys": causal([3, 2], [3, 3, 24]),
      "Qwen2.5's heads": causal([3], [14, 2, 64]),
      "queries after cached keys": causal([2, 3, 1], [6, 2, 12], [5, 0, 8]),
      "a prefix that two rows share": along(
        [
          ...rowWithPrefix(4, 5),
          ...rowWithPrefix(4, 6),
          ...rowWithPrefix(6, 5),
          ...rowWithPrefix(6, 6),
          ...rowWithPrefix(6, 7),
        ],
        [0, 5, 0, 5, 0, 5, 0, 5, 0, 2, 1, 1, 2, 3, 3, 2, 4, 1],
        [4, 2, 16],
      ),
      "huge values": {
        inputs: { ...causal([5, 2], [4, 2, 8]), values: { shape: [7, 2, 8], scale: 1e15 } },
      },
      "large scores": {
        inputs: {
          ...causal([5, 2], [4, 2, 8]),
          q: { shape: [7, 4, 8], scale: 10 },
          keys: { shape: [7, 2, 8], scale: 10 },
        },
        // Scores of some hundreds are multiples of 2⁻¹⁵: probabilities err by a few of those, gradients by ten times that
        // (keys and queries are of order ten), also where all but nothing is left of their terms.
        tolerance: { forward: { ofScale: 2e-4 }, gradient: { ofScale: 2e-4, absolute: 2e-3 } },
      },
      "tiny numbers": {
        inputs: {
          ...causal([5, 2], [4, 2, 8]),
          q: { shape: [7, 4, 8], scale: 1e-15 },
          keys: { shape: [7, 2, 8], scale: 1e-15 },
          values: { shape: [7, 2, 8], scale: 1e-15 },
        },
      },
      "sequences across segments": causal([73, 5, 130], [4, 2, 16]),
      // A tile holds 16 queries of a key head, or 16 keys; 8 of each for heads above 64. The gradient of queries has twice as many
      // queries in a tile, but for heads of 24 and 32.
      "a tile but one": causal([15], [1, 1, 8]),
      "a tile": causal([16], [1, 1, 8]),
      "a tile and one": causal([17], [1, 1, 8]),
      "tiles that end between the heads of a token": causal([11, 2], [9, 3, 8]),
      "tiles of many sequences": causal([2, 1, 3, 0, 1, 4, 1, 1, 2], [2, 2, 16]),
      "a large tile but one": causal([31], [1, 1, 8]),
      "large tiles of many sequences": causal([20, 1, 3, 0, 16], [2, 1, 16]),
      "tiles of larger heads": causal([30, 1, 6], [1, 1, 48]),
      "heads of 40": causal([4], [2, 1, 40]),
      "the largest heads": causal([9, 10], [1, 1, 128]),
    },
    tolerance: { forward: tolerance, gradient: tolerance },
  });

  const tensors = readSafetensorsFixture("ops.safetensors");
  const cases = readFixture<{ cases: FixtureCase[] }>("ops.json").cases.filter(({ op }) => /attention$/i.test(op));
  for (const { name, op, scale, sequenceIds, shapes } of cases)
    test(`known answers: ${name}`, async () => {
      const known = (part: string) => {
        const found = tensors.get(`${name}/${part}`);
        if (found === undefined) throw new Error(`ops.safetensors has no ${name}/${part}`);
        return found.values;
      };
      const [T, H, D] = shapes["q"];
      const [S, K] = shapes["k"];
      const ids = sequenceIds ?? new Array<number>(T).fill(0);
      const lengths = [...new Set(ids)].map((id) => ids.filter((other) => other === id).length);
      const given = {
        heads: [H, K, D],
        q: known("q"),
        keys: known("k"),
        values: known("v"),
        ...causalSpans(
          lengths,
          lengths.map(() => S - T),
        ),
        dy: known("dy"),
      } as const;
      for (const { name: on, backend } of [{ name: "plain f64", backend: reference }, ...(await testBackends())]) {
        const isExact = backend === reference;
        const found = await evaluate(backend, isExact ? "f64" : "f32", given, scale);
        for (const [i, part] of parts.entries()) {
          const allowed = isExact ? exact : tolerance;
          assertKnown("ops.safetensors", `${op}: ${part}`, on, found[i], known(part), allowed, name);
        }
      }
    });

  test("rows that share a prefix, in slots of any order, against whole sequences", async () => {
    const heads: Heads = [6, 2, 14];
    const [H, K, D] = heads;
    const [prefix, owns] = [13, [9, 4, 1]];
    const whole = owns.map((own, row) => ({
      q: normals(10 + row, own * H * D),
      keys: normals(20 + row, own * K * D),
      values: normals(30 + row, own * K * D),
    }));
    const [prefixKeys, prefixValues] = [normals(1, prefix * K * D), normals(2, prefix * K * D)];
    // The last row's own slots come first, then the prefix, then a hole that nobody may read, then the others.
    const starts = [prefix + 40, prefix + 30, 0];
    const prefixStart = 5;
    const cache = () => new Float64Array((prefix + 60) * K * D).fill(Number.NaN);
    const [keys, values] = [cache(), cache()];
    keys.set(prefixKeys, prefixStart * K * D);
    values.set(prefixValues, prefixStart * K * D);
    whole.forEach((row, i) => {
      keys.set(row.keys, starts[i] * K * D);
      values.set(row.values, starts[i] * K * D);
    });
    const spans = owns.flatMap((own, row) =>
      Array.from({ length: own }, (_, i) => [prefixStart, prefix, starts[row], prefix + i + 1]).flat(),
    );
    const q = Float64Array.from(whole.flatMap((row) => [...row.q]));
    const expected = Float64Array.from(
      whole.flatMap((row) => [
        ...textbook(
          row.q,
          Float64Array.of(...prefixKeys, ...row.keys),
          Float64Array.of(...prefixValues, ...row.values),
          heads,
          half,
        ),
      ]),
    );
    for (const { name, backend } of await testBackends()) {
      const [y] = await evaluate(backend, "f32", { heads, q, keys, values, spans }, half);
      assertClose(`${name}: y`, y, expected, tolerance);
    }
  });

  for (const heads of [
    [4, 2, 16],
    [7, 1, 32],
  ] as const)
    test(`a token alone, among others, and in other slots: the same bits, with heads ${heads}`, async () => {
      const [H, K, D] = heads;
      const rows = Array.from({ length: 64 }, (_, row) => 1 + ((row * 37) % 53));
      const longest = Math.max(...rows);
      const q = normals(1, rows.length * H * D, 2);
      const [keys, values] = [normals(2, rows.length * longest * K * D, 2), normals(3, rows.length * longest * K * D)];
      /** Decodes some rows; `place` says in which run of slots each lies. */
      const decode = (
        backend: Backend,
        batch: readonly number[],
        place: (row: number) => number,
      ): Promise<NumberArray[]> => {
        const order = rows.map((_, row) => row).sort((a, b) => place(a) - place(b));
        const arranged = { keys: pick(keys, order, longest * K * D), values: pick(values, order, longest * K * D) };
        const spans = batch.flatMap((row) => {
          const start = place(row) * longest;
          const prefix = Math.floor(rows[row] / 3);
          // Cut in two runs or given as one: the keys are the same ones.
          return row % 2 === 0 ? [start, prefix, start + prefix, rows[row]] : [0, 0, start, rows[row]];
        });
        // With many tokens each, small heads may have another kernel.
        const sequences = batch.length % 2 === 0 ? batch.length / 16 : batch.length;
        return evaluate(backend, "f32", { heads, q: pick(q, batch, H * D), ...arranged, spans, sequences }, half);
      };
      const all = rows.map((_, row) => row);
      for (const { name, backend } of await testBackends()) {
        if (backend.kind === "webgpu" && backend.limits.maxBufferBytes < keys.length * 4) continue; // rows would cross segments
        const [y, logSumExp] = await decode(backend, all, (row) => row);
        for (const batch of [[0], [41], [63], [5, 60, 7, 33, 2, 18, 40], all.toReversed()]) {
          const [ownY, ownLogSumExp] = await decode(backend, batch, (row) => (row * 29 + 11) % rows.length);
          sameBits(`${name}: y of rows ${batch}`, Float64Array.from(ownY), pick(y, batch, H * D));
          sameBits(`${name}: logSumExp of rows ${batch}`, Float64Array.from(ownLogSumExp), pick(logSumExp, batch, H));
        }
      }
    });

  // Adapters may have kernels of one kind for caches and of another for whole batches.
  test("with and without query spans: the same bits", async () => {
    for (const heads of [
      [4, 2, 16],
      [6, 3, 24],
      [14, 2, 64],
    ] as const) {
      const [H, K, D] = heads;
      const { spans, querySpans } = causalSpans([19, 0, 1, 33]);
      const T = spans.length / 4;
      const given = {
        heads,
        q: normals(1, T * H * D, 2),
        keys: normals(2, T * K * D, 2),
        values: normals(3, T * K * D),
      };
      for (const { name, backend } of await testBackends()) {
        const [y, logSumExp] = await evaluate(backend, "f32", { ...given, spans, querySpans }, half);
        const [cachedY, cachedLogSumExp] = await evaluate(backend, "f32", { ...given, spans }, half);
        sameBits(`${name}: y, heads ${heads}`, cachedY, y);
        sameBits(`${name}: logSumExp, heads ${heads}`, cachedLogSumExp, logSumExp);
        const kernels: string[] = [];
        const { dispatch } = backend;
        backend.dispatch = (work) => {
          kernels.push(work.kernel.name);
          dispatch.call(backend, work);
        };
        const [ownY, ownLogSumExp] = await evaluate(backend, "f32", { ...given, spans, sequences: 4 }, half);
        Object.assign(backend, { dispatch });
        sameBits(`${name}: y of 4 sequences, heads ${heads}`, ownY, y);
        sameBits(`${name}: logSumExp of 4 sequences, heads ${heads}`, ownLogSumExp, logSumExp);
        if (backend.style === "lavapipe") assert.ok(kernels.includes("attentionTile"), `${name}: ${kernels}`);
      }
    }
  });

  test("cuts at segments change no bit of results and gradients", async () => {
    const heads: Heads = [4, 2, 16];
    const [H, K, D] = heads;
    const spans = causalSpans([120, 1, 200]);
    const T = spans.spans.length / 4;
    const q = normals(1, T * H * D, 2);
    const [keys, values, dy] = [normals(2, T * K * D, 2), normals(3, T * K * D), normals(4, T * H * D)];
    const given = { heads, q, keys, values, ...spans, dy };
    const whole = await evaluate((await webgpuBackend()).backend, "f32", given, half);
    for (const { name, backend } of (await testBackends()).filter(
      (b) => b.backend.limits.maxBufferBytes < keys.length * 4,
    )) {
      const cut = await evaluate(backend, "f32", given, half);
      for (const [i, part] of parts.entries()) sameBits(`${name}: ${part}`, cut[i], whole[i]);
    }
  });

  test("scores of any size, rising and falling", async () => {
    const heads: Heads = [1, 1, 2];
    const T = 120;
    // Scores rise by 30 a key, fall by 30 a key, jump about: the softmax's reference moves each time, never, now and then.
    const score = (t: number) => 30 * [t, 80 - t, 10 * ((t * 17) % 5)][Math.floor(t / 40)];
    const keys = Float64Array.from({ length: 2 * T }, (_, i) => (i % 2 === 0 ? score(i >> 1) : Math.cos(i)));
    const q = Float64Array.from({ length: 2 * T }, (_, i) => (i % 2 === 0 ? 1 : Math.sin(i))).map(Math.fround);
    const [values, dy] = [normals(3, 2 * T), normals(4, 2 * T)];
    const given = { heads, q, keys: keys.map(Math.fround), values, dy, ...causalSpans([40, 40, 40]) };
    const truth = await evaluate(reference, "f64", given, 1);
    for (const { name, backend } of await testBackends()) {
      const found = await evaluate(backend, "f32", given, 1);
      // Scores near 1200 are multiples of 2⁻¹³, so p errs by 2⁻¹⁴; dq multiplies differences of such p by keys near 1200.
      for (const [i, part] of parts.entries())
        assertClose(`${name}: ${part}`, found[i], truth[i], { ofScale: 2 ** -13, absolute: 1200 * 2 ** -20 });
    }
  });

  test("a token without keys has y = 0 and logSumExp = −∞", async () => {
    const given = { heads: [1, 1, 2], q: [1, 2], keys: [3, 4], values: [5, 6], spans: [0, 0, 0, 0] } as const;
    for (const { name, backend } of await testBackends()) {
      const [y, logSumExp] = await evaluate(backend, "f32", given, half);
      assert.equal([...y], [0, 0], name);
      assert.equal([...logSumExp], [Number.NEGATIVE_INFINITY], name);
    }
  });

  test("NaN and infinity reach all that sees them and nothing else", async () => {
    const heads: Heads = [4, 2, 16];
    const [H, K, D] = heads;
    const [T, lost] = [9, 4]; // the second token of the second sequence
    for (const [where, poison] of [
      ["keys", Number.NaN],
      ["values", Number.NaN],
      ["values", Number.POSITIVE_INFINITY],
    ] as const) {
      const given = { heads, q: normals(1, T * H * D), keys: normals(2, T * K * D), values: normals(3, T * K * D) };
      given[where].fill(poison, lost * K * D, (lost + 1) * K * D);
      for (const { name, backend } of await testBackends()) {
        const [y] = await evaluate(backend, "f32", { ...given, ...causalSpans([3, 3, 3]) }, half);
        for (const [i, number] of y.entries()) {
          const token = Math.floor(i / (H * D));
          const isLost = token === lost || token === lost + 1;
          assert.is(Number.isFinite(number), !isLost, `${name}: ${poison} in ${where}: token ${token}`);
        }
      }
    }
  });

  test("memory grows as the number of tokens, not as its square", async () => {
    const heads: Heads = [2, 1, 8];
    const [H, K, D] = heads;
    const peak = async (T: number): Promise<number> => {
      const { backend } = await openBackend({ backend: "webgpu" });
      const made = (count: number) => new Float32Array(count).fill(0.5);
      const given = { q: made(T * H * D), keys: made(T * K * D), values: made(T * K * D), dy: made(T * H * D) };
      await evaluate(backend, "f32", { heads, ...given, ...causalSpans([T]) }, half);
      const { peakBytes } = backend.statistics();
      backend.destroy();
      return peakBytes;
    };
    const [small, large] = [await peak(512), await peak(2048)];
    assert.ok(large < 2048 * 2048 * 4, `${large} bytes hold a score for each pair of tokens`);
    // Four times the tokens; buffers come in size classes a fifth apart.
    assert.ok(large < 4 * 1.25 * small, `${small} bytes at 512 tokens, ${large} at 2048`);
  });

  test("spans of packed sequences", () => {
    const { spans, querySpans } = causalSpans([2, 1], [0, 2]);
    assert.equal([...spans], [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 2, 3]);
    assert.equal([...querySpans], [0, 2, 1, 1, 2, 1, 2, 1, 2, 1]);
  });

  test("refuses what does not go together", async () => {
    const shapes = (changed: Record<string, readonly number[]>) =>
      attentionOp.definition.shapes(
        { q: [3, 4, 16], keys: [5, 2, 16], values: [5, 2, 16], spans: [3, 4], querySpans: [5, 2], ...changed },
        { scale: half },
      );
    assert.equal(shapes({}), { y: [3, 4, 16], logSumExp: [3, 4] });
    await throwsMessage(() => shapes({ q: [3, 64] }), "expected [T, H, D], got [3,64]");
    await throwsMessage(() => shapes({ keys: [5, 2, 8] }), "keys: expected [5,2,16], got [5,2,8]");
    await throwsMessage(() => shapes({ values: [4, 2, 16] }), "values: expected [5,2,16], got [4,2,16]");
    await throwsMessage(() => shapes({ spans: [4, 4] }), "spans: expected [3,4], got [4,4]");
    await throwsMessage(() => shapes({ querySpans: [3, 2] }), "querySpans: expected [5,2], got [3,2]");
    await throwsMessage(() => shapes({ q: [3, 3, 16] }), "divide the 3 query heads, got 2");
    const heads = (D: number) => () => shapes({ q: [3, 4, D], keys: [5, 2, D], values: [5, 2, D] });
    assert.equal(heads(128)().y, [3, 4, 128]);
    await throwsMessage(heads(130), "up to 128, got 130");
    await throwsMessage(heads(15), "even size", "got 15");
    const given = {
      heads: [1, 1, 2],
      q: [1, 2],
      keys: [3, 4],
      values: [5, 6],
      spans: [0, 0, 0, 1],
      dy: [1, 1],
    } as const;
    await throwsMessage(() => evaluate(reference, "f64", given, half), "need querySpans");
    assert.is(sizeOf(shapes({}).y), 192);
  });
});
