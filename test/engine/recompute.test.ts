// Parts of a recording that are computed again in the backward pass: the same gradients, and less memory.
import * as assert from "uvu/assert";
import { GradientMap, noGradient, recompute, record, reshape } from "../../engine/autograd.ts";
import { rmsNormOp } from "../../engine/ops/rms-norm/rms-norm.ts";
import { swiglu } from "../../engine/ops/swiglu/swiglu.ts";
import { scope } from "../../engine/scope.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { assertClose, describe, throwsMessage } from "../support.ts";
import {
  given,
  gradients,
  leaf,
  onEach,
  rounding,
  shape,
  size,
  sum,
  times,
  twice,
  upstreamTimes,
} from "./autograd-cases.ts";
import { sameBits } from "./check-op.ts";

describe("engine/autograd: recompute", (test) => {
  // Two layers that share their weights, each with a residual stream beside it; `wrap` is recompute or nothing.
  type Wrap = (x: Tensor, body: (x: Tensor) => Tensor) => Tensor;
  const plainly: Wrap = (x, body) => body(x);
  const again: Wrap = (x, body) => recompute("layer", x, body);
  const layers = (wrap: Wrap, x: Tensor, weight: Tensor, gain: Tensor): Tensor => {
    const layer = (input: Tensor): Tensor =>
      sum(
        input,
        wrap(input, (h) => {
          const normal = rmsNormOp({ x: h, weight }, { eps: 1e-6 }).y;
          const wide = reshape(swiglu(normal, h), [150, 6, 8]);
          return sum(reshape(times(wide, 0.5), shape), swiglu(h, gain));
        }),
      );
    return layer(layer(x));
  };

  test("recomputed parts give the same gradients bit for bit", () =>
    onEach(async (backend, name) => {
      const leaves = [leaf(backend, 1), leaf(backend, 2, [48]), leaf(backend, 3)];
      const [x, weight, gain] = leaves;
      const wraps: Record<string, Wrap> = {
        recomputed: again,
        "recomputed inside what is recomputed": (h, body) =>
          recompute("outer", h, (outer) => recompute("inner", outer, body)),
      };
      // The input is a leaf, or something that an op made, or takes no gradient.
      for (const start of [(): Tensor => x, (): Tensor => twice(x), (): Tensor => noGradient(() => twice(x))]) {
        const expected = await gradients(leaves, () => layers(plainly, start(), weight, gain));
        for (const [what, wrap] of Object.entries(wraps)) {
          const found = await gradients(leaves, () => layers(wrap, start(), weight, gain));
          found.forEach((values, i) => {
            if (expected[i] === undefined) assert.is(values, undefined, `${name}: ${what}: leaf ${i}`);
            else sameBits(`${name}: ${what}: leaf ${i}`, values, expected[i]);
          });
        }
      }
    }));

  test("a recomputed part keeps nothing but its output", () =>
    onEach(async (backend, name) => {
      const [x, weight, gain] = [leaf(backend, 1), leaf(backend, 2, [48]), leaf(backend, 3)];
      const outside = backend.statistics().liveBuffers;
      const held = (wrap: Wrap): number =>
        scope(() => {
          record(() => layers(wrap, x, weight, gain));
          return backend.statistics().liveBuffers - outside;
        });
      // Of each layer its output and its sum with the residual stream.
      assert.is(held(again), 4 * x.segments.length, name);
      assert.ok(held(plainly) > 4 * x.segments.length, name);
      // Without a tape it is the body and no more.
      let calls = 0;
      const y = recompute("part", x, (h) => {
        calls++;
        return twice(h);
      });
      assert.is(calls, 1);
      assert.not.ok(y.requiresGradient);
    }));

  test("a recomputed part has gradients of its own input and of leaves; others are refused, not lost", () =>
    onEach(async (backend, name) => {
      const x = leaf(backend, 1);
      const outside = record(() => {
        const h = times(x, 3);
        return recompute("part", twice(x), (input) => sum(input, h));
      });
      await throwsMessage(
        () => outside.backward(new Map([[outside.result, given(backend, 9)]]), new GradientMap([x])),
        'recompute: part: the body uses "y" of scale',
        "lost",
      );
      for (const body of [(h: Tensor) => h, (h: Tensor) => h.view([size]), (h: Tensor) => h.sliceRows(0, 1)])
        await throwsMessage(() => record(() => recompute("part", x, body)), "recompute: part", "a view of it");
      // A result that does not depend on the input: its gradient is zero, not what was in memory.
      const constant = given(backend, 6);
      const gain = leaf(backend, 7);
      for (const body of [() => times(constant, 2), () => times(gain, 2)]) {
        const [dx] = await gradients([x], () => sum(recompute("part", times(x, 5), body), times(x, 2)));
        assertClose(name, dx ?? [], upstreamTimes(2), rounding);
      }
    }));
});
