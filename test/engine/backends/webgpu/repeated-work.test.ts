// Work that repeats: what was derived from a cell's numbers is kept and used again, for the same numbers only.
import * as assert from "uvu/assert";
import { fillKernel } from "../../../../engine/accumulate.ts";
import type { Dispatch } from "../../../../engine/backends/backend.ts";
import { CpuBackend } from "../../../../engine/backends/cpu.ts";
import { WebGpuBackend } from "../../../../engine/backends/webgpu/backend.ts";
import { add, linear } from "../../../../engine/index.ts";
import { openBackend } from "../../../../engine/open.ts";
import { run } from "../../../../engine/run.ts";
import { scope } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { describe } from "../../../support.ts";

function fill(tensor: Tensor, value: number): void {
  run(fillKernel, { y: tensor }, { rowSize: tensor.rowSize, value });
}

/** Counts what is handed to a device's queue. */
function spyOn({ device }: WebGpuBackend): { submits: number; writes: number } {
  const counts = { submits: 0, writes: 0 };
  const { queue } = device;
  const { submit, writeBuffer } = queue;
  queue.submit = (commands) => {
    counts.submits++;
    return submit.call(queue, commands);
  };
  queue.writeBuffer = (...given: Parameters<GPUQueue["writeBuffer"]>) => {
    counts.writes++;
    return writeBuffer.apply(queue, given);
  };
  return counts;
}

async function openOwn(): Promise<WebGpuBackend> {
  const { backend } = await openBackend({ backend: "webgpu" });
  if (!(backend instanceof WebGpuBackend)) throw new Error("no WebGPU backend");
  return backend;
}

describe("engine/backends/webgpu/repeated-work", (test) => {
  test("more cells than there are places for parameter blocks, twice, with one that repeats in between", async () => {
    for (const { name, backend } of await testBackends()) {
      const count = 9000;
      const each = empty(backend, [count], "f32", "each");
      const last = empty(backend, [1], "f32", "last");
      for (let round = 0; round < 2; round++) {
        for (let i = 0; i < count; i++) {
          fill(each.sliceRows(i, 1), i + round);
          if (i % 100 === 0) fill(last, -1);
        }
        const [found, repeated] = await readTensors([each, last]);
        const wrong = found.findIndex((value, i) => value !== i + round);
        assert.is(wrong, -1, `${name}: round ${round}: element ${wrong}: ${found[wrong]}`);
        assert.equal([...repeated], [-1], name);
      }
      each.free();
      last.free();
    }
  });

  test("the same numbers with other buffers, other numbers with the same buffers, and NaN", async () => {
    for (const { name, backend } of await testBackends()) {
      const [a, b] = [0, 1].map(() => empty(backend, [8], "f32", "y"));
      for (const value of [3, Number.NaN, -0, 0, 3, Number.NaN]) {
        fill(a, value);
        fill(b, 2 * value);
        const [one, other] = await readTensors([a, b]);
        assert.equal([...one], Array(8).fill(value), `${name}: ${value}`);
        assert.equal([...other], Array(8).fill(2 * value), `${name}: twice ${value}`);
        assert.ok(Object.is(one[7], value), `${name}: ${one[7]} for ${value}`);
      }
      a.free();
      b.free();
    }
  });

  test("a backend gets the same params for the same numbers, and others for other numbers or constants", () => {
    const seen: Dispatch[] = [];
    class Recorder extends CpuBackend {
      override dispatch(work: Dispatch): void {
        seen.push(work);
      }
    }
    const backend = new Recorder();
    const [y, z] = [empty(backend, [4]), empty(backend, [4])];
    fill(y, 1);
    fill(z, 1);
    fill(y, 2);
    fill(y.sliceRows(1, 3), 1);
    run(fillKernel, { y }, { rowSize: 1, value: 1 }, { constants: { ROUNDS: 7 } });
    run(fillKernel, { y }, { rowSize: 1, value: 1 }, { constants: { ROUNDS: 7 } });
    const params = seen.map((work) => work.params);
    assert.is(params[1], params[0]);
    assert.is(params[5], params[4]);
    assert.is(new Set(params).size, 4);
    assert.is(seen[4].constants, seen[5].constants);
    assert.is.not(seen[4].constants, seen[0].constants);
  });

  test("a repeated step writes no parameter block, makes no bind group, and is one submission with its read", async () => {
    const backend = await openOwn();
    const weight = fromArray(backend, Array(64).fill(0.5), [8, 8]);
    const x = fromArray(backend, Array(16).fill(1), [2, 8]);
    const step = async (): Promise<number[]> => {
      const y = scope(() => add(linear(x, weight), x));
      const values = await y.read();
      y.free();
      return [...values];
    };
    await step();
    await step(); // the pool's buffers are in turn from here on
    const before = backend.statistics();
    const counts = spyOn(backend);
    assert.equal(await step(), Array(16).fill(5));
    const { bindGroups, pipelines, dispatches } = backend.statistics();
    assert.equal(counts, { submits: 1, writes: 0 });
    assert.equal([bindGroups, pipelines], [before.bindGroups, before.pipelines]);
    assert.is(dispatches - before.dispatches, 3); // panels, product, sum
    backend.destroy();
  });
});
