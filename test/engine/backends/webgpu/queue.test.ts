// Order on the queue: what the host writes between two dispatches is seen by the second and not by the first, whether it goes
// ahead of the pending work, into it, or ends it; and the pool keeps no more free memory than it should.
import * as assert from "uvu/assert";
import { keepFreeBytes } from "../../../../engine/backends/webgpu/pool.ts";
import { openBackend } from "../../../../engine/open.ts";
import { add } from "../../../../engine/ops/elementwise/elementwise.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { webgpuBackend } from "../../../backends.ts";
import { describe } from "../../../support.ts";

describe("engine/backends/webgpu/queue", (test) => {
  // 256 KiB go through the pending work, in all; the rest begins another submission.
  for (const [size, writes, submissions] of [
    [1000, 10, 1],
    [16384, 5, 1],
    [16384, 6, 2],
    [65537, 3, 3],
  ] as const)
    test(`${writes} × ${size} elements, each written over the last: ${submissions} submissions`, async () => {
      const { backend } = await webgpuBackend();
      await scopeAsync(async () => {
        const x = fromArray(backend, new Float32Array(size).fill(0.5), [size], "f32", "x");
        const zero = fromArray(backend, new Float32Array(size), [size], "f32", "zero");
        await backend.idle();
        const before = backend.statistics().submissions;
        const copies: Tensor[] = [];
        for (let i = 0; i < writes; i++) {
          x.write(Float32Array.from({ length: size }, (_, k) => i + k));
          copies.push(add(x, zero));
        }
        const found = await readTensors(copies);
        for (const [i, copy] of found.entries()) {
          const wrong = copy.findIndex((value, k) => value !== i + k);
          assert.is(wrong, -1, `write ${i}: element ${wrong} is ${copy[wrong]}`);
        }
        assert.is(backend.statistics().submissions - before, submissions);
      });
    });

  test("released memory is reused before more is asked for, and goes back beyond the limit when the device rests", async () => {
    const { backend } = await openBackend({ backend: "webgpu" });
    const size = 64 * 2 ** 20;
    const count = keepFreeBytes / size + 2;
    const many = Array.from({ length: count }, (_, i) => backend.allocate(size, "f32", `buffer ${i}`));
    for (const buffer of many) backend.release(buffer);
    assert.is(backend.statistics().pooledBytes, count * size);
    const again = many.map((_, i) => backend.allocate(size, "f32", `again ${i}`));
    assert.is(backend.statistics().peakBytes, count * size, "nothing new was made");
    for (const buffer of again) backend.release(buffer);
    await backend.idle();
    assert.is(backend.statistics().pooledBytes, keepFreeBytes);
    backend.destroy();
  });
});
