// Ops that take weights: a plain tensor is a parameter too, and settings that are left out have their usual values.
import assert from "node:assert/strict";
import { GradientMap, record } from "../../engine/autograd.ts";
import { attention, causalSpans } from "../../engine/ops/attention/attention.ts";
import { embedding } from "../../engine/ops/embedding/embedding.ts";
import { head } from "../../engine/ops/head/head.ts";
import { linear } from "../../engine/ops/matmul/linear.ts";
import { rmsNorm } from "../../engine/ops/rms-norm/rms-norm.ts";
import { asParameter, type Parameter } from "../../engine/parameters.ts";
import { scopeAsync } from "../../engine/scope.ts";
import { fromArray, type Tensor } from "../../engine/tensor.ts";
import { testBackends } from "../backends.ts";
import { describe, throwsMessage } from "../support.ts";
import { normals, sameBits } from "./check-op.ts";

describe("engine/parameters", (test) => {
  test("a plain tensor as weight gives the bits of a parameter, and has its gradient", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const of = (seed: number, ...shape: number[]): Tensor => {
          const tensor = fromArray(
            backend,
            normals(
              seed,
              shape.reduce((a, b) => a * b),
            ),
            shape,
          );
          tensor.requiresGradient = true;
          return tensor;
        };
        const [x, W, b, gain] = [of(1, 5, 6), of(2, 7, 6), of(3, 7), of(4, 6)];
        const host = Uint32Array.from([3, 0, 6, 3, 1]);
        const ids = fromArray(backend, host, [5], "u32");
        const plain = (tensor: Tensor): Parameter => ({ kind: "tensor", tensor, panels: null });
        const cases: Record<string, { weights: Tensor[]; short: () => Tensor; long: () => Tensor }> = {
          linear: { weights: [W, b], short: () => linear(x, W, b), long: () => linear(x, plain(W), plain(b), null) },
          "linear without bias": {
            weights: [W],
            short: () => linear(x, W),
            long: () => linear(x, plain(W), null, null),
          },
          rmsNorm: {
            weights: [gain],
            short: () => rmsNorm(x, gain, 1e-6),
            long: () => rmsNorm(x, plain(gain), 1e-6, null),
          },
          embedding: {
            weights: [W],
            short: () => embedding([...host], W),
            long: () => embedding({ tensor: ids, host }, plain(W), null),
          },
          head: {
            weights: [W],
            short: () => head(x, W, ids, { temperature: 1 }).logProbs,
            long: () => head(x, plain(W), ids, { temperature: 1 }, null).logProbs,
          },
        };
        for (const [what, { weights, short, long }] of Object.entries(cases)) {
          const [one, other] = [record(short), record(long)];
          sameBits(`${name}: ${what}`, await one.result.read(), await other.result.read());
          const { shape, size } = one.result;
          const seed = fromArray(backend, normals(9, size), shape);
          for (const weight of weights) {
            const found = await Promise.all(
              [one, other].map(async (recording) => {
                const store = recording.backward(new Map([[recording.result, seed]]), new GradientMap([weight]));
                const values = await store.get(weight)?.read();
                store.free();
                return values ?? new Float32Array();
              }),
            );
            assert.equal(found[0].length, weight.size, `${name}: ${what}: a gradient`);
            sameBits(`${name}: ${what}: gradient`, found[0], found[1]);
          }
        }
        assert.equal(asParameter(plain(W)).kind, "tensor");
      });
  });

  test("attention scales its scores by D^-1/2 unless told otherwise", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const of = (seed: number): Tensor => fromArray(backend, normals(seed, 3 * 2 * 4), [3, 2, 4]);
        const spans = fromArray(backend, causalSpans([3]).spans, [3, 4], "u32");
        const [q, k, v] = [of(1), of(2), of(3)];
        const usual = await attention(q, k, v, spans, null).read();
        sameBits(name, usual, await attention(q, k, v, spans, null, { scale: 0.5 }).read());
        assert.notDeepEqual(usual, await attention(q, k, v, spans, null, { scale: 1 }).read());
      });
  });

  test("ids in a list must be rows of the table", async () => {
    const { backend } = (await testBackends())[0];
    await scopeAsync(async () => {
      const table = fromArray(backend, normals(1, 12), [4, 3]);
      await throwsMessage(() => embedding([0, 4], table), "position 1", "below 4, got 4");
      for (const bad of [-1, 0.5, Number.NaN])
        await throwsMessage(
          () => embedding([0, bad], table),
          "position 1: expected a whole number from 0 on",
          `got ${bad}`,
        );
      const slots: Parameter = { kind: "slots", shape: [4, 3], slots: new Map() };
      await throwsMessage(() => embedding([0], slots, []), "on the device already");
    });
  });
});
