// What the tape refuses: gradients that would be lost, seeds that are not of the recording, a recording that waits.
import * as assert from "uvu/assert";
import { accumulateKernel } from "../../engine/accumulate.ts";
import { GradientMap, noGradient, record } from "../../engine/autograd.ts";
import { rmsNormOp } from "../../engine/ops/rms-norm/rms-norm.ts";
import { run } from "../../engine/run.ts";
import { scopeAsync } from "../../engine/scope.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { testBackends } from "../backends.ts";
import { describe, throwsMessage } from "../support.ts";
import { given, gradients, leaf, onEach, size, times, twice } from "./autograd-cases.ts";

describe("engine/autograd: refusals", (test) => {
  test("a seed must be of an output that the recording made, and of its shape", async () => {
    const { backend } = (await testBackends())[0];
    await scopeAsync(async () => {
      const [x, other] = [leaf(backend, 1), leaf(backend, 2)];
      const recording = record(() => ({
        y: twice(x),
        cut: noGradient(() => twice(x)),
        plain: twice(given(backend, 3)),
        normal: rmsNormOp({ x, weight: leaf(backend, 4, [48]) }, { eps: 1e-6 }),
      }));
      const { y, cut, plain, normal } = recording.result;
      const before = twice(x);
      const elsewhere = record(() => twice(other)).result;
      const backward = (output: Tensor, seed = given(backend, 9, output.shape)) =>
        recording.backward(new Map([[output, seed]]), new GradientMap([x]));
      for (const output of [cut, plain, before, elsewhere, x, y.view([size])])
        await throwsMessage(() => backward(output), `[${output.shape}] that this recording did not make`, "noGradient");
      await throwsMessage(() => backward(normal.inverseRms), '"inverseRms" of rmsNorm', "no gradient passes");
      await throwsMessage(
        () => backward(y, given(backend, 9, [size])),
        '"y" of scale',
        "expected [150,48], got [7200]",
      );
      await throwsMessage(
        () => record(() => twice(cut)).backward(new Map([[cut, cut]]), new GradientMap()),
        "did not make",
      );
    });
  });

  test("a kernel that is run past the tape is refused", async () => {
    const { backend } = (await testBackends())[0];
    await scopeAsync(async () => {
      const [x, y] = [leaf(backend, 1), given(backend, 2)];
      const twofold = (from: Tensor) =>
        run(accumulateKernel, { x: from, y: { tensor: y, add: false } }, { rowSize: from.rowSize, factor: 2 });
      await throwsMessage(
        () => record(() => twofold(x)),
        "run: kernel accumulate: x: [150,48]",
        "defineOp",
        "noGradient",
      );
      await throwsMessage(() => record(() => twofold(twice(x))), "run: kernel accumulate: x: [150,48]");
      record(() => noGradient(() => twofold(x)));
      record(() => twofold(given(backend, 3)));
      twofold(x);
    });
  });

  test("a recording does not wait", async () => {
    const { backend } = (await testBackends())[0];
    await scopeAsync(async () => {
      const x = leaf(backend, 1);
      await throwsMessage(() => record(async () => twice(x)), "record: the body returned a promise", "wait outside");
      assert.not.ok(twice(x).requiresGradient);
    });
  });

  test("what an op only saves takes no gradient, and says so", () =>
    onEach(async (backend, name) => {
      const x = leaf(backend, 1);
      const weight = given(backend, 4, [48]);
      for (const use of [
        (r: Tensor) => times(r, 2),
        (r: Tensor) => r.view([150, 1]),
        (r: Tensor) => r.sliceRows(3, 4),
      ]) {
        const recording = record(() => use(rmsNormOp({ x, weight }, { eps: 1e-6 }).inverseRms));
        const { result } = recording;
        for (const store of [new GradientMap(), new GradientMap([x])])
          await throwsMessage(
            () => recording.backward(new Map([[result, given(backend, 9, result.shape)]]), store),
            'arrived at "inverseRms" of rmsNorm',
            "noGradient",
          );
      }
      // As a constant it may be used.
      const [dx] = await gradients([x], () => {
        const { y, inverseRms } = rmsNormOp({ x, weight }, { eps: 1e-6 });
        noGradient(() => times(inverseRms, 2));
        return y;
      });
      assert.ok(dx, name);
    }));
});
