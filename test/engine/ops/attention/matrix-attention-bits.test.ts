// Attention on matrix units: the bits of a token do not depend on the tokens beside it, on where its keys lie, or on how they
// are split between prefix and own sequence; and numbers that are not finite stay where they belong.

import assert from "node:assert/strict";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { causalSpans } from "../../../../engine/ops/attention/attention.ts";
import { attentionForm, matrixKernel } from "../../../../engine/ops/attention/matrix-attention.ts";
import { matrixUnits } from "../../../../engine/ops/shared/matrix-units.ts";
import { run } from "../../../../engine/run.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { reference } from "../../../backends.ts";
import { assertClose, describe } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";
import {
  adapterName,
  backends,
  evaluate,
  type Heads,
  halfNormals,
  halved,
  scale,
  tolerance,
  whole,
} from "./matrix-attention-cases.ts";

describe("engine/ops/attention/matrix-attention: bits", (test) => {
  if (backends.length === 0) {
    test.skip("all of it", `${whole.description} has no matrix units for f16 operands`);
    return;
  }

  test("500 tokens in packed sequences, and each of some of them decoded alone: the same bits", async () => {
    const heads: Heads = [7, 1, 24];
    const [H, K, D] = heads;
    const { spans, querySpans } = causalSpans([300, 1, 67, 132]);
    const T = spans.length / 4;
    const given = {
      ...{ heads, spans, q: normals(1, T * H * D, 3) },
      ...{ keys: normals(2, T * K * D, 3), values: normals(3, T * K * D) },
    };
    const [y, logSumExp] = await evaluate(whole, { ...given, querySpans }, "f16");
    for (const token of [0, 31, 32, 33, 255, 299, 300, 301, 333, 367, 368, 499]) {
      const [ownY, ownLogSumExp] = await evaluate(
        whole,
        {
          ...given,
          q: given.q.subarray(token * H * D, (token + 1) * H * D),
          spans: spans.subarray(token * 4, token * 4 + 4),
        },
        "f16",
      );
      sameBits(`${adapterName}: y of token ${token}`, ownY, y.slice(token * H * D, (token + 1) * H * D));
      sameBits(
        `${adapterName}: logSumExp of token ${token}`,
        ownLogSumExp,
        logSumExp.slice(token * H, (token + 1) * H),
      );
    }
  });

  test("several subgroups in a workgroup, and as many rows more: the same bits", async () => {
    const heads: Heads = [4, 2, 24];
    const [H, K, D] = heads;
    const { spans } = causalSpans([70, 3, 40]);
    const T = spans.length / 4;
    const units = matrixUnits(whole);
    assert.ok(units !== null);
    await scopeAsync(async () => {
      const rows = (seed: number, count: number): Tensor =>
        fromArray(whole, normals(seed, T * count * D, 2), [T, count, D]);
      const bound = {
        q: rows(1, H),
        keys: rows(2, K),
        values: rows(3, K),
        spans: fromArray(whole, spans, [T, 4], "u32"),
      };
      const results: NumberArray[][] = [];
      for (const most of [1, 2, 4]) {
        const form = attentionForm(units, D, most);
        assert.ok(form !== null && form.SUBGROUPS === most);
        const made = [empty(whole, [T, H, D]), empty(whole, [T, H])];
        run(
          matrixKernel,
          { ...bound, y: made[0], logSumExp: made[1], sums: empty(whole, [T, H]) },
          { heads: H, keyHeads: K, headSize: D, scale },
          { constants: { ...form, CONTINUES: false } },
        );
        results.push(await readTensors(made));
      }
      for (const [i, values] of results[0].entries())
        for (const found of results.slice(1)) sameBits(`${adapterName}: ${i}`, found[i], values);
    });
  });

  test("NaN and infinity reach all that sees them and nothing else", async () => {
    const heads: Heads = [4, 2, 16];
    const [H, K, D] = heads;
    const [T, lost] = [9, 4]; // the second token of the second sequence
    for (const [where, poison] of [
      ["keys", Number.NaN],
      ["values", Number.NaN],
      ["values", Number.POSITIVE_INFINITY],
      ["values", -65520],
      ["q", Number.NaN],
    ] as const) {
      const given = { heads, q: normals(1, T * H * D), keys: normals(2, T * K * D), values: normals(3, T * K * D) };
      given[where].fill(poison, lost * (where === "q" ? H : K) * D, (lost + 1) * (where === "q" ? H : K) * D);
      const clean = { heads, q: normals(1, T * H * D), keys: normals(2, T * K * D), values: normals(3, T * K * D) };
      for (const { name, backend } of backends) {
        const spans = causalSpans([3, 3, 3]);
        const [y] = await evaluate(backend, { ...given, ...spans }, "f16");
        const [usual] = await evaluate(backend, { ...clean, ...spans }, "f16");
        for (const [i, number] of y.entries()) {
          const token = Math.floor(i / (H * D));
          const isLost = token === lost || (where !== "q" && token === lost + 1);
          if (isLost) assert.ok(!Number.isFinite(number), `${name}: ${poison} in ${where}: token ${token}`);
          else assert.equal(number, usual[i], `${name}: ${poison} in ${where}: token ${token}`);
        }
      }
    }
  });

  test("one number of a key that is not finite shows, whatever its sign in q makes of the score", async () => {
    for (const { name, backend } of backends)
      for (const poison of [Number.NaN, Number.POSITIVE_INFINITY, 65520, -65520])
        for (const sign of [1, -1]) {
          const given = {
            heads: [1, 1, 2] as const,
            q: [sign, 1, sign, 1],
            keys: [1, 1, poison, 1],
            values: [1, 2, 3, 4],
          };
          const [y, logSumExp] = await evaluate(backend, { ...given, ...causalSpans([2]) }, "f16");
          const what = `${name}: ${poison}, ${sign}`;
          assert.deepEqual([...y].map(Number.isFinite), [true, true, false, false], what);
          assert.deepEqual([...logSumExp].map(Number.isFinite), [true, false], what);
        }
  });

  test("scores of any size, rising and falling", async () => {
    const heads: Heads = [1, 1, 2];
    const T = 240;
    // Scores rise by 30 a key, fall by 30 a key, jump about: the reference moves at each block, never, now and then.
    const score = (t: number) => 30 * [t, 160 - t, 10 * ((t * 17) % 5)][Math.floor(t / 80)];
    const keys = halved(Float64Array.from({ length: 2 * T }, (_, i) => (i % 2 === 0 ? score(i >> 1) : Math.cos(i))));
    const q = halved(Float64Array.from({ length: 2 * T }, (_, i) => (i % 2 === 0 ? 1 : Math.sin(i))));
    const given = { heads, q, keys, values: halfNormals(3, 2 * T), ...causalSpans([80, 80, 80]) };
    const truth = await evaluate(reference, given, "f32", 1);
    for (const { name, backend } of backends) {
      const found = await evaluate(backend, given, "f16", 1);
      assertClose(`${name}: y`, found[0], truth[0], tolerance);
      assertClose(`${name}: logSumExp`, found[1], truth[1], { ofScale: 2 ** -20 });
    }
  });

  test("a token without keys has y = 0 and logSumExp = −∞", async () => {
    const given = { heads: [1, 1, 2], q: [1, 2], keys: [3, 4], values: [5, 6], spans: [0, 0, 0, 0] } as const;
    for (const { name, backend } of backends) {
      const [y, logSumExp] = await evaluate(backend, given, "f16");
      assert.deepEqual([...y], [0, 0], name);
      assert.deepEqual([...logSumExp], [Number.NEGATIVE_INFINITY], name);
    }
  });
});
