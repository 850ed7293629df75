// Attention with f16 operands on matrix units: against float64 at every edge.

import assert from "node:assert/strict";
import type { Backend } from "../../../../engine/backends/backend.ts";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { attentionOp, causalSpans } from "../../../../engine/ops/attention/attention.ts";
import {
  attentionBackwardKeyOfHalves,
  attentionBackwardQueryOfHalves,
  attentionOfHalves,
  attentionStatisticsOfHalves,
} from "../../../../engine/ops/attention/matrix-attention.cpu.ts";
import {
  attentionForm,
  attentionFormOf,
  matrixKernel,
  matrixKeyKernel,
  matrixQueryKernel,
} from "../../../../engine/ops/attention/matrix-attention.ts";
import { matrixUnits } from "../../../../engine/ops/shared/matrix-units.ts";
import { run } from "../../../../engine/run.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { reference } from "../../../backends.ts";
import { assertClose, describe } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";
import {
  adapterName,
  all,
  along,
  backends,
  causal,
  evaluate,
  type Given,
  gradients,
  type Heads,
  halfNormals,
  halved,
  scale,
  sumTolerance,
  tensorsOf,
  tolerance,
  whole,
  withPrefix,
} from "./matrix-attention-cases.ts";

describe("engine/ops/attention/matrix-attention", (test) => {
  test("the plain body rounds q, keys and values, and nothing else", async () => {
    const heads: Heads = [4, 2, 6];
    const [H, K, D] = heads;
    const { spans } = causalSpans([5, 3]);
    const given = { q: normals(1, 8 * H * D), keys: normals(2, 8 * K * D), values: normals(3, 8 * K * D) };
    const [y, logSumExp] = await evaluate(
      reference,
      { heads, spans, q: halved(given.q), keys: halved(given.keys), values: halved(given.values) },
      "f32",
    );
    await scopeAsync(async () => {
      const tensor = (values: Float64Array, count: number): Tensor =>
        fromArray(reference, values, [8, count, D], "f64");
      const made = [empty(reference, [8, H, D], "f64"), empty(reference, [8, H], "f64")];
      run(
        matrixKernel,
        {
          q: tensor(given.q, H),
          keys: tensor(given.keys, K),
          values: tensor(given.values, K),
          spans: fromArray(reference, spans, [8, 4], "u32"),
          y: made[0],
          logSumExp: made[1],
          sums: empty(reference, [8, H], "f64"),
        },
        { heads: H, keyHeads: K, headSize: D, scale },
      );
      const found = await readTensors(made);
      sameBits("y", found[0], y);
      sameBits("logSumExp", found[1], logSumExp);
    });
    const bindings = {
      q: Float64Array.of(1, 0),
      keys: Float64Array.of(1, 0),
      values: Float64Array.of(65520, 1),
      spans: Uint32Array.of(0, 0, 0, 1),
      y: new Float64Array(2),
      logSumExp: new Float64Array(1),
      sums: new Float64Array(1),
    };
    attentionOfHalves(bindings, {
      ...{ heads: 1, keyHeads: 1, headSize: 2, tokens: 1, slots: 1, slotsStart: 0, slotsTotal: 1, scale: 1 },
    });
    assert.deepEqual([...bindings.y], [Number.POSITIVE_INFINITY, 1]);
  });

  test("the plain bodies of the backward pass round dy as well", () => {
    const bindings = (dy: number) => ({
      ...{ q: Float64Array.of(1), keys: Float64Array.of(1), values: Float64Array.of(1), dy: Float64Array.of(dy) },
      ...{
        y: Float64Array.of(1),
        logSumExp: Float64Array.of(1),
        statistics: Float64Array.of(1, 0),
        spans: Uint32Array.of(0, 0, 0, 1),
        querySpans: Uint32Array.of(0, 1),
      },
      ...{ dq: new Float64Array(1), dKeys: new Float64Array(1), dValues: new Float64Array(1) },
    });
    const params = {
      ...{ heads: 1, keyHeads: 1, headSize: 1, tokens: 1, tokensStart: 0, slots: 1, slotsStart: 0, scale: 1 },
      ...{ addToDq: 0, addToDKeys: 0, addToDValues: 0 },
    };
    const [rounded, exact] = [bindings(1 + 2 ** -12), bindings(1)];
    for (const given of [rounded, exact]) {
      attentionBackwardQueryOfHalves(given, params);
      attentionBackwardKeyOfHalves(given, params);
      attentionStatisticsOfHalves(given, params);
    }
    assert.deepEqual([...rounded.statistics], [1, 1]);
    assert.deepEqual([...exact.dq, ...exact.dKeys, ...exact.dValues], [1, 1, 1]);
    assert.deepEqual(
      [rounded.dq, rounded.dKeys, rounded.dValues].map(([value]) => value),
      [1, 1, 1],
    );
  });

  test("a form fits into 16 KiB and 256 invocations, and none is made of a side that blocks of 32 keys do not hold", () => {
    const shape = (MATRIX_ROWS: number, MATRIX_COLUMNS: number, MATRIX_STEPS: number) => ({
      ...{ constants: { MATRIX_ROWS, MATRIX_COLUMNS, MATRIX_STEPS }, subgroup: 32 },
    });
    assert.equal(attentionForm(shape(16, 16, 16), 64, 4)?.SUBGROUPS, 4);
    assert.equal(attentionForm(shape(16, 16, 16), 128, 4)?.SUBGROUPS, 2);
    assert.equal(attentionForm(shape(16, 16, 16), 64, 1)?.LANES, 32);
    assert.deepEqual(
      [attentionForm(shape(8, 16, 16), 14, 4), attentionForm(shape(16, 8, 16), 14, 4)].map((form) => [
        form?.STEPS_DEEP,
        form?.COLUMNS_ACROSS,
      ]),
      [
        [1, 1],
        [1, 2],
      ],
    );
    assert.equal(attentionForm(shape(16, 16, 64), 64, 4), null);
  });

  test("without matrix units, f16 operands change no bit", async () => {
    const heads: Heads = [4, 2, 16];
    const given = {
      heads,
      ...causalSpans([19, 3]),
      q: normals(1, 22 * 64),
      keys: normals(2, 22 * 32),
      values: normals(3, 22 * 32),
    };
    for (const { name, backend } of all.filter((found) => !backends.includes(found))) {
      const [usual, found] = [await evaluate(backend, given, "f32"), await evaluate(backend, given, "f16")];
      usual.forEach((values, i) => void sameBits(`${name}: ${i}`, found[i], values));
    }
  });

  if (backends.length === 0) {
    test.skip("all that needs matrix units", `${whole.description} has no matrix units for f16 operands`);
    return;
  }

  checkOp(test, attentionOp, {
    settings: { scale },
    cases: {
      "one number twice": causal([1], [1, 1, 2]),
      "no tokens, no keys": causal([], [4, 2, 8]),
      "keys without tokens": causal([0, 0], [2, 1, 8], [3, 2]),
      "some tokens see no key": along([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 2]),
      "ragged lengths, odd pairs": causal([1, 7, 3], [6, 2, 14]),
      "seven heads of 22 on one key head": causal([5, 2], [7, 1, 22]),
      "Qwen2.5's heads": causal([3], [14, 2, 64]),
      "queries after cached keys": causal([2, 3, 1], [6, 2, 12], [33, 0, 8]),
      "sequences across segments, and blocks of keys": causal([40, 5, 30], [4, 2, 16]),
      "tiles of many sequences": causal([2, 1, 3, 0, 1, 4, 1, 1, 2], [2, 2, 16]),
    },
    tolerance: { forward: { ofScale: 2e-5, absolute: 2e-6 }, gradient: { ofScale: 2e-5, absolute: 2e-6 } },
    half: {
      operands: ["q", "keys", "values"],
      run: ({ q, keys, values, spans, querySpans }, settings) => {
        if (q === null || keys === null || values === null || spans === null) throw new Error("an input is missing");
        return { ...attentionOp({ q, keys, values, spans, querySpans }, { ...settings, operands: "f16" }) };
      },
      // Rounded to f16, to within 2⁻¹¹ each: dy, the weights in y and in dValues, and the gradients of scores. A gradient of
      // a score is a difference of two sums of products with dy; where they cancel, three of these errors add up, and each
      // may be a few times as large as the largest gradient's own.
      tolerance: { forward: tolerance, gradient: { ofScale: 3e-3, absolute: 1e-5 } },
    },
  });

  test("packed sequences, prefixes and caches of random lengths: float64's results on rounded operands", async () => {
    const random = normals(9, 400);
    let next = 0;
    const below = (limit: number): number => Math.floor(Math.abs(random[next++] * 1e4)) % limit;
    for (const heads of [
      [14, 2, 64],
      [6, 3, 22],
      [3, 1, 16],
      [2, 2, 128],
    ] as const)
      for (let round = 0; round < 2; round++) {
        const [H, K, D] = heads;
        const lengths = Array.from({ length: 1 + below(5) }, () => below(70));
        const cached = lengths.map(() => below(50));
        const { spans, querySpans } = causalSpans(lengths, cached);
        const [T, S] = [spans.length / 4, querySpans.length / 2];
        const packed: Given = {
          ...{ heads, spans, querySpans, q: halfNormals(1, T * H * D, 2) },
          ...{ keys: halfNormals(2, S * K * D), values: halfNormals(3, S * K * D) },
        };
        const shared = withPrefix(heads, below(80), [1 + below(40), 1, 1 + below(9)]);
        for (const given of [packed, shared]) {
          const [y, logSumExp] = await evaluate(reference, given, "f32", D ** -0.5);
          for (const { name, backend } of backends) {
            const found = await evaluate(backend, given, "f16", D ** -0.5);
            assertClose(`${name}: y, heads ${heads}, round ${round}`, found[0], y, tolerance);
            assertClose(`${name}: logSumExp, heads ${heads}, round ${round}`, found[1], logSumExp, sumTolerance);
          }
        }
      }
  });

  test("gradients at lengths around a block: float64's on rounded operands", async () => {
    for (const [heads, lengths, cached] of [
      [[2, 1, 16], [31, 32, 33, 1, 0, 64, 65], undefined],
      [
        [14, 2, 64],
        [3, 37],
        [40, 0],
      ],
      [
        [6, 3, 22],
        [19, 50],
        [0, 33],
      ],
      [[2, 2, 128], [9, 34], undefined],
    ] as const) {
      const [H, K, D] = heads;
      const { spans, querySpans } = causalSpans(lengths, cached);
      const [T, S] = [spans.length / 4, querySpans.length / 2];
      const given: Given = {
        ...{ heads, spans, querySpans, q: halfNormals(1, T * H * D, 2) },
        ...{ keys: halfNormals(2, S * K * D), values: halfNormals(3, S * K * D) },
      };
      const dy = halfNormals(4, T * H * D);
      const expected = await gradients(reference, given, dy, "f32", D ** -0.5);
      for (const { name, backend } of backends) {
        const found = await gradients(backend, given, dy, "f16", D ** -0.5);
        for (const [i, what] of ["dq", "dKeys", "dValues"].entries())
          assertClose(`${name}: ${what}, heads ${heads}`, found[i], expected[i], tolerance);
      }
    }
  });

  test("dq of some tokens alone: the bits among all others; the gradients of keys: the bits in any number of subgroups", async () => {
    const heads: Heads = [6, 2, 24];
    const [H, K, D] = heads;
    const { spans, querySpans } = causalSpans([70, 3, 40]);
    const T = spans.length / 4;
    const given = {
      ...{ heads, spans, q: normals(1, T * H * D, 2) },
      ...{ keys: normals(2, T * K * D, 2), values: normals(3, T * K * D) },
    };
    const dy = normals(4, T * H * D);
    const [all] = await gradients(whole, given, dy, "f16");
    for (const [first, end] of [
      [0, 1],
      [33, 71],
      [72, 113],
    ]) {
      const cut = (values: ArrayLike<number>, width: number) => Array.from(values).slice(first * width, end * width);
      const part = { ...given, q: cut(given.q, H * D), spans: cut(spans, 4) };
      const [own] = await gradients(whole, part, cut(dy, H * D), "f16");
      sameBits(`${adapterName}: dq of tokens ${first} to ${end}`, own, all.slice(first * H * D, end * H * D));
    }
    const units = matrixUnits(whole);
    assert.ok(units !== null);
    await scopeAsync(async () => {
      const { rows, inputs } = tensorsOf(whole, { ...given, querySpans });
      const { spans: ownSpans, querySpans: ownQuerySpans, ...operands } = inputs;
      assert.ok(ownQuerySpans !== null);
      const statistics = fromArray(whole, normals(5, 2 * T * H), [T, H, 2]);
      const bound = { ...operands, dy: rows(dy, H), statistics };
      const params = { heads: H, keyHeads: K, headSize: D, scale: 0.1 };
      const results: NumberArray[][] = [];
      for (const most of [1, 2]) {
        const form = attentionForm(units, D, most, "backward");
        assert.ok(form !== null && form.SUBGROUPS === most);
        const target = (count: number) => ({ tensor: empty(whole, [T, count, D]), add: false });
        const [dq, dKeys, dValues] = [target(H), target(K), target(K)];
        const constants = { ...form, CONTINUES: false };
        run(matrixQueryKernel, { ...bound, spans: ownSpans, dq }, params, { constants });
        run(matrixKeyKernel, { ...bound, querySpans: ownQuerySpans, dKeys, dValues }, params, { constants });
        results.push(await readTensors([dq.tensor, dKeys.tensor, dValues.tensor]));
      }
      for (const [i, values] of results[0].entries()) {
        assert.ok(values.some((value) => value !== 0));
        sameBits(`${adapterName}: gradient ${i} with two subgroups`, results[1][i], values);
      }
    });
  });

  test("a number of dy that f16 does not hold shows in every gradient that it reaches", async () => {
    const given: Given = {
      heads: [1, 1, 2],
      q: [1, 1, 1, 1],
      keys: [1, 2, 3, 1],
      values: [1, 2, 3, 4],
      ...causalSpans([2]),
    };
    for (const { name, backend } of backends)
      for (const poison of [65520, -1e6, Number.NaN]) {
        const [dq, dKeys, dValues] = await gradients(backend, given, [1, 1, poison, 1], "f16");
        assert.ok(![...dq.slice(2)].some(Number.isFinite), `${name}: dq, ${poison}: ${dq}`);
        for (const values of [dKeys, dValues])
          assert.ok(
            [...values].some((value) => !Number.isFinite(value)),
            `${name}: ${poison}: ${values}`,
          );
      }
  });

  test("operands are rounded to f16, and the kernel of f32 is another", async () => {
    const heads: Heads = [2, 1, 8];
    const given = { heads, spans: [0, 0, 0, 1], q: new Array(16).fill(1), keys: new Array(8).fill(1) };
    const values = new Array(8).fill(1 + 2 ** -12);
    for (const { name, backend } of backends) {
      assert.deepEqual([...(await evaluate(backend, { ...given, values }, "f16"))[0]], new Array(16).fill(1), name);
      assert.deepEqual(
        [...(await evaluate(backend, { ...given, values }, "f32"))[0]],
        new Array(16).fill(1 + 2 ** -12),
      );
    }
  });

  for (const heads of [
    [4, 2, 16],
    [7, 1, 32],
  ] as const)
    test(`a token alone, among others, in other slots, split elsewhere: the same bits, with heads ${heads}`, async () => {
      const [H, K, D] = heads;
      const lengths = Array.from({ length: 64 }, (_, row) => 1 + ((row * 37) % 83));
      const longest = Math.max(...lengths);
      const [q, keys, values] = [
        normals(1, lengths.length * H * D, 3),
        normals(2, lengths.length * longest * K * D, 3),
        normals(3, lengths.length * longest * K * D),
      ];
      const pick = (from: NumberArray, rows: readonly number[], size: number): Float64Array =>
        Float64Array.from(rows.flatMap((row) => [...from.subarray(row * size, (row + 1) * size)]));
      const every = lengths.map((_, row) => row);
      const decode = (
        backend: Backend,
        batch: readonly number[],
        slotOf: (row: number) => number,
        cut: (row: number) => number,
      ): Promise<NumberArray[]> => {
        const order = every.toSorted((a, b) => slotOf(a) - slotOf(b));
        const spans = batch.flatMap((row) => {
          const [start, prefix] = [slotOf(row) * longest, cut(row)];
          return prefix === 0 ? [0, 0, start, lengths[row]] : [start, prefix, start + prefix, lengths[row]];
        });
        const arranged = { keys: pick(keys, order, longest * K * D), values: pick(values, order, longest * K * D) };
        return evaluate(backend, { heads, q: pick(q, batch, H * D), ...arranged, spans }, "f16");
      };
      for (const { name, backend } of backends) {
        if (backend.limits.maxBufferBytes < keys.length * 4) continue; // rows would cross segments
        const [y, logSumExp] = await decode(
          backend,
          every,
          (row) => row,
          () => 0,
        );
        for (const batch of [[0], [41], [63], [5, 60, 7, 33, 2, 18, 40], every.toReversed()]) {
          const [ownY, ownLogSumExp] = await decode(
            backend,
            batch,
            (row) => (row * 29 + 11) % lengths.length,
            (row) => (row % 2 === 0 ? Math.floor(lengths[row] / 3) : 0),
          );
          sameBits(`${name}: y of rows ${batch}`, Float64Array.from(ownY), pick(y, batch, H * D));
          sameBits(`${name}: logSumExp of rows ${batch}`, Float64Array.from(ownLogSumExp), pick(logSumExp, batch, H));
        }
      }
    });

  test("the backends under test use the kernel", () => {
    for (const { backend } of backends)
      for (const isCached of [false, true])
        assert.ok(attentionFormOf(backend, { heads: 2, keyHeads: 1, headSize: 16 }, isCached) !== null);
  });
});
