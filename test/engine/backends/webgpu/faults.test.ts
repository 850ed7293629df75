// What goes wrong on a device ends in one error that names the kernel or the tensor, and is never passed over: a shader that
// does not compile, memory that is not there, a device that is lost, work that nobody reads.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import * as assert from "uvu/assert";
import { fillKernel } from "../../../../engine/accumulate.ts";
import { WebGpuBackend } from "../../../../engine/backends/webgpu/backend.ts";
import { asSentence } from "../../../../engine/backends/webgpu/failures.ts";
import { DeviceError, DeviceLostError, OutOfMemoryError } from "../../../../engine/errors.ts";
import { isToldAlone } from "../../../../engine/host/errors.ts";
import { type AnyKernel, eraseKernel } from "../../../../engine/kernel.ts";
import { openBackend } from "../../../../engine/open.ts";
import { run } from "../../../../engine/run.ts";
import { empty, fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { describe, throwsMessage } from "../../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-faults-"));

async function openOwn(): Promise<WebGpuBackend> {
  const { backend } = await openBackend({ backend: "webgpu" });
  if (!(backend instanceof WebGpuBackend)) throw new Error("no WebGPU backend");
  return backend;
}

/** Another backend on the device, opened while the machine has only so much memory free. */
function whileFree(bytes: number, make: () => WebGpuBackend): WebGpuBackend {
  const { availableMemory } = process;
  process.availableMemory = () => bytes;
  try {
    return make();
  } finally {
    process.availableMemory = availableMemory;
  }
}

/** Another backend on the device, with less memory in all. */
function withTotal(backend: WebGpuBackend, totalBytes: number): WebGpuBackend {
  return new WebGpuBackend(backend.device, {
    description: "small",
    style: backend.style,
    memory: backend.memory,
    totalBytes,
  });
}

function fill(tensor: Tensor, value: number): void {
  run(fillKernel, { y: tensor }, { rowSize: tensor.rowSize, value });
}

/** A kernel of one binding whose body is this text; known to nobody else. */
function kernelOf(name: string, body: string): AnyKernel {
  const file = join(temporary, `${name}.wgsl`);
  writeFileSync(file, body);
  return {
    ...eraseKernel(fillKernel),
    ...{ name, axes: {}, bindings: { y: { access: "write" } }, params: {}, constants: {}, variants: [], uses: [] },
    ...{ wgsl: pathToFileURL(file), workgroups: () => [1] },
  };
}

function dispatch(kernel: AnyKernel, tensor: Tensor): void {
  const [{ buffer, base }] = tensor.segments;
  const params = { yBase: base };
  tensor.backend.dispatch({
    kernel,
    buffers: [{ buffer, base, length: tensor.size, dtype: tensor.dtype }],
    params,
    constants: {},
  });
}

const broken = kernelOf(
  "brokenShader",
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() {
  y[params.yBase] = 1u;
}`,
);

describe("engine/backends/webgpu/faults", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));

  test("a shader that does not compile: kernel, line and reason, once; other work goes on", async () => {
    const backend = await openOwn();
    const y = empty(backend, [4], "f32", "y");
    fill(y, 1);
    dispatch(broken, y);
    const error = await throwsMessage(() => y.read(), "brokenShader: the adapter refuses its shader", ":3:");
    assert.instance(error, DeviceError);
    fill(y, 2);
    assert.equal([...(await y.read())], [2, 2, 2, 2]);
    backend.destroy();
  });

  test("what failed after the last read is told at idle, and else when the backend goes", async () => {
    const backend = await openOwn();
    const y = empty(backend, [4], "f32", "y");
    dispatch(broken, y);
    await throwsMessage(() => backend.idle(), "brokenShader");
    await backend.idle();

    dispatch(kernelOf("brokenLater", "not WGSL; @group(0) @binding(0) var<storage, read_write> y: array<f32>;"), y);
    backend.flush();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const write = process.stderr.write;
    let said = "";
    process.stderr.write = (text: string | Uint8Array) => {
      said += text;
      return true;
    };
    try {
      backend.destroy();
    } finally {
      process.stderr.write = write;
    }
    assert.match(said, "DeviceError: brokenLater: ");
  });

  test("the largest buffer is given, the next is refused with the tensor's name and both sizes", async () => {
    const backend = await openOwn();
    const { maxBufferBytes } = backend.limits;
    backend.release(backend.allocate(maxBufferBytes, "f32", "largest"));
    await backend.idle();
    const error = await throwsMessage(
      () => backend.allocate(maxBufferBytes + 4, "f32", "the next"),
      "the next: a buffer of ",
      "iB, but the adapter's largest has ",
      "--adapter",
    );
    assert.instance(error, OutOfMemoryError);
    backend.destroy();
  });

  test("all buffers together: the last that fits, and the next, until one is released", async () => {
    const device = await openOwn();
    const backend = withTotal(device, 2 ** 20);
    const quarters = [0, 1, 2, 3].map((i) => backend.allocate(2 ** 18, "f32", `quarter ${i}`));
    const error = await throwsMessage(
      () => backend.allocate(4, "f32", "a speck"),
      "a speck: 256 bytes more would make 1.0 MiB in 5 buffers; the adapter has room for 1.0 MiB.",
    );
    assert.instance(error, OutOfMemoryError);
    backend.release(quarters[2]);
    backend.allocate(2 ** 18, "f32", "in its place");
    await backend.idle();
    device.destroy();
  });

  test("buffers in the machine's memory are limited to what is free, whatever kernels suit the adapter", async () => {
    const device = await openOwn();
    const open = (style: "lavapipe" | "gpu", memory: "host" | "device"): WebGpuBackend =>
      whileFree(2 ** 20, () => new WebGpuBackend(device.device, { description: "odd", style, memory }));
    for (const style of ["lavapipe", "gpu"] as const) {
      const error = await throwsMessage(() => open(style, "host").allocate(2 ** 21, "f32", "much"), "room for 1.0 MiB");
      assert.instance(error, OutOfMemoryError);
    }
    // A GPU's driver refuses by itself.
    open("gpu", "device").allocate(2 ** 21, "f32", "much");
    await device.idle();
    device.destroy();
  });

  test("memory that the driver refuses: the tensor's name, what was asked and what is in use", async () => {
    const plain = await openOwn();
    // The device, but for one tensor: that is asked for at the adapter's limit, or refused here where the driver would give it.
    let isRefused = false;
    const { device } = plain;
    const greedy = new Proxy(device, {
      get(target, key) {
        if (key === "createBuffer")
          return (descriptor: GPUBufferDescriptor) => {
            isRefused = descriptor.label === "greedy";
            return target.createBuffer(
              isRefused ? { ...descriptor, size: target.limits.maxBufferSize - 3 } : descriptor,
            );
          };
        if (key === "popErrorScope")
          return async () => {
            const injected = isRefused ? { message: "no memory" } : null;
            isRefused = false;
            return (await target.popErrorScope()) ?? injected;
          };
        const found: unknown = Reflect.get(target, key, target);
        return typeof found === "function" ? found.bind(target) : found;
      },
      set: (target, key, value) => Reflect.set(target, key, value, target),
    });
    const backend = new WebGpuBackend(greedy, { description: "greedy", style: plain.style, memory: plain.memory });
    backend.allocate(2 ** 20, "f32", "modest");
    backend.allocate(2 ** 20, "f32", "greedy");
    const error = await throwsMessage(
      () => backend.idle(),
      "greedy: the adapter has no 1.0 MiB left beside 1.0 MiB in 1",
    );
    assert.instance(error, OutOfMemoryError);
    plain.destroy();
  });

  test("a device that is lost: what it did last, and how to go on; at every later read too", async () => {
    const backend = await openOwn();
    const y = empty(backend, [4], "f32", "y");
    fill(y, 1);
    await y.read();
    fill(y, 2);
    backend.flush();
    backend.device.destroy();
    const name = eraseKernel(fillKernel).name;
    for (const wait of [() => y.read(), () => backend.idle(), () => y.read()]) {
      const error = await throwsMessage(wait, `the GPU was lost during or after ${name}: `, "continue from them");
      assert.instance(error, DeviceLostError);
      assert.instance(error, DeviceError);
      assert.ok(isToldAlone(error), "no mistake in code: without a stack");
      assert.match(error.message, /[^.\s]\. Saved files are complete: /);
    }
    backend.destroy();
  });

  test("Dawn's text ends in one full stop, whether it has one or not", () => {
    for (const [text, expected] of [
      ["A valid external Instance reference no longer exists", "A valid external Instance reference no longer exists."],
      ["Device was destroyed.", "Device was destroyed."],
      ["vkQueueSubmit failed with VK_ERROR_DEVICE_LOST\n", "vkQueueSubmit failed with VK_ERROR_DEVICE_LOST."],
      ["", ""],
    ])
      assert.is(asSentence(text), expected);
  });

  test("reads above one copy's size come in parts, each element in its place", async () => {
    const backend = await openOwn();
    const count = 3 * 2 ** 23 + 5; // 96 MiB
    const long = empty(backend, [count], "u32", "long");
    const piece = Uint32Array.from({ length: 2 ** 20 }, (_, i) => i);
    for (let start = 0; start < count; start += piece.length) {
      const own = piece.subarray(0, Math.min(piece.length, count - start)).map((i) => i + start);
      backend.write(long.segments[0].buffer, start, own);
    }
    const short = fromArray(backend, [7, 8, 9], [3], "i32", "short");
    const nothing = empty(backend, [0], "f32", "nothing");
    const [before, all, after, none] = await readTensors([short, long, short, nothing]);
    assert.equal([...before], [7, 8, 9]);
    assert.equal([...after], [7, 8, 9]);
    assert.is(none.length, 0);
    assert.is(all.length, count);
    assert.is(
      all.findIndex((value, i) => value !== i),
      -1,
    );
    backend.destroy();
  });
});
