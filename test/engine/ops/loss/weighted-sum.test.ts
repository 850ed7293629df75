import assert from "node:assert/strict";
import { tokensPerWorkgroup, weightedSum } from "../../../../engine/ops/loss/weighted-sum.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals } from "../../check-op.ts";

describe("engine/ops/loss/weighted-sum", (test) => {
  checkOp(test, weightedSum, {
    settings: {},
    cases: {
      "one element": { x: [1], weights: [1] },
      "prime size": { x: [61], weights: [61] },
      "as many as a workgroup": { x: [tokensPerWorkgroup], weights: [tokensPerWorkgroup] },
      "huge numbers": { inputs: { x: { shape: [61], scale: 1e15 }, weights: { shape: [61], scale: 1e15 } } },
      "tiny numbers": { inputs: { x: { shape: [61], scale: 1e-15 }, weights: { shape: [61], scale: 1e-15 } } },
      "a workgroup and one more": { x: [tokensPerWorkgroup + 1], weights: [tokensPerWorkgroup + 1] },
      "several segments": { x: [9001], weights: [9001] },
      "weights of a mean": {
        x: { shape: [4099], mean: -2 },
        weights: { shape: [4099], values: new Float64Array(4099).fill(Math.fround(1 / 4099)) },
      },
      "no elements": { x: [0], weights: [0] },
    },
    // 9001 / 256 + 8 + 2 additions of terms of order one, whose partial sums stay below 200: 45 · 2⁻²⁴ · 200.
    tolerance: { forward: { absolute: 5e-4, relative: 1e-6 }, gradient: { ofScale: 2 ** -23 } },
  });

  test("a weight of 0 leaves its term out, whatever it is", async () => {
    const x = normals(1, 300);
    const weights = normals(2, 300);
    for (const i of [0, 7, 299]) {
      x[i] = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY][i % 3];
      weights[i] = 0;
    }
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const given = { x: fromArray(backend, x), weights: fromArray(backend, weights) };
        const [sum] = await weightedSum(given, {}).y.read();
        assert.ok(Number.isFinite(sum), `${name}: ${sum}`);
        const other = {
          x: fromArray(backend, x, [300]),
          weights: fromArray(
            backend,
            weights.map((w, i) => (i === 0 ? 1 : w)),
          ),
        };
        const [lost] = await weightedSum(other, {}).y.read();
        assert.ok(Number.isNaN(lost), `${name}: a NaN that counts must show, got ${lost}`);
        const unknown = { x: fromArray(backend, [1, 2, 3, 4]), weights: fromArray(backend, [1, Number.NaN, 1, 1]) };
        const [weighed] = await weightedSum(unknown, {}).y.read();
        assert.ok(Number.isNaN(weighed), `${name}: a weight that is NaN must show, got ${weighed}`);
      });
  });

  test("refuses weights of another length, and a matrix", async () => {
    const { shapes } = weightedSum.definition;
    await throwsMessage(() => shapes({ x: [5], weights: [4] }, {}), "weights", "expected [5], got [4]");
    await throwsMessage(() => shapes({ x: [5, 1], weights: [5, 1] }, {}), "expected [N], got [5,1]");
  });
});
