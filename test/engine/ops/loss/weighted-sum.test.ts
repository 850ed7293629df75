import assert from "node:assert/strict";
import { record } from "../../../../engine/autograd.ts";
import { mean, sum, tokensPerWorkgroup, weightedSum, weightedSumOp } from "../../../../engine/ops/loss/weighted-sum.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, sizeOf } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals } from "../../check-op.ts";

describe("engine/ops/loss/weighted-sum", (test) => {
  checkOp(test, weightedSumOp, {
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
        const [total] = await weightedSum(given.x, given.weights).read();
        assert.ok(Number.isFinite(total), `${name}: ${total}`);
        const other = {
          x: fromArray(backend, x, [300]),
          weights: fromArray(
            backend,
            weights.map((w, i) => (i === 0 ? 1 : w)),
          ),
        };
        const [lost] = await weightedSum(other.x, other.weights).read();
        assert.ok(Number.isNaN(lost), `${name}: a NaN that counts must show, got ${lost}`);
        const unknown = { x: fromArray(backend, [1, 2, 3, 4]), weights: fromArray(backend, [1, Number.NaN, 1, 1]) };
        const [weighed] = await weightedSum(unknown.x, unknown.weights).read();
        assert.ok(Number.isNaN(weighed), `${name}: a weight that is NaN must show, got ${weighed}`);
      });
  });

  test("sum and mean are those of all elements, and so are their gradients", async () => {
    for (const { name, backend } of await testBackends())
      for (const shape of [[1], [61], [3, 7, 11], [150, 61], [], [0, 5]])
        await scopeAsync(async () => {
          const size = sizeOf(shape);
          const values = normals(3, size, 1, 0.5);
          const total = values.reduce((a, b) => a + b, 0);
          const x = fromArray(backend, values, shape);
          x.requiresGradient = true;
          for (const [what, op, factor] of [
            ["sum", sum, 1],
            ["mean", mean, 1 / size],
          ] as const) {
            if (what === "mean" && size === 0) {
              await throwsMessage(() => op(x), "mean: x: expected elements, got [0,5]");
              continue;
            }
            const recording = record(() => op(x));
            assert.deepEqual(recording.result.shape, [1]);
            // As for weightedSum: partial sums stay below `size`.
            const close = { absolute: 3e-6 * Math.max(1, size) * factor };
            assertClose(`${name}: ${what} of [${shape}]`, await recording.result.read(), [total * factor], close);
            const gradients = recording.backward();
            const dx = (await gradients.get(x)?.read()) ?? [];
            assertClose(`${name}: ${what} of [${shape}]: dx`, dx, values.fill(factor), { relative: 2e-7 });
            values.set(normals(3, size, 1, 0.5));
            gradients.free();
          }
        });
  });

  test("a NaN reaches the sum, and an empty sum is 0", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        assert.ok(Number.isNaN((await sum(fromArray(backend, [1, Number.NaN, 3])).read())[0]), name);
        assert.equal((await sum(fromArray(backend, [], [0, 5])).read())[0], 0, name);
      });
  });

  test("refuses weights of another length, and a matrix", async () => {
    const { shapes } = weightedSumOp.definition;
    await throwsMessage(() => shapes({ x: [5], weights: [4] }, {}), "weights", "expected [5], got [4]");
    await throwsMessage(() => shapes({ x: [5, 1], weights: [5, 1] }, {}), "expected [N], got [5,1]");
  });
});
