// Upper bounds of this card, as measured: the rate of a copy, by our kernel and by the driver's own command, and the
// rate of the largest product in each precision.
import type { Backend } from "../../engine/backends/backend.ts";
import { WebGpuBackend } from "../../engine/backends/webgpu/backend.ts";
import { copyCase } from "../measure-ceilings.ts";
import { Numbers } from "./numbers.ts";
import type { Bench, Case, Measured, PartOf } from "./part.ts";
import { ceilingProducts } from "./products.ts";

const mebi = 2 ** 20;

function kernelCopy(mebibytes: number): Case {
  const one = copyCase(mebibytes * mebi);
  return {
    name: `copy ${mebibytes} MiB, kernel`,
    bytes: one.bytes,
    missing: ({ backend }) => tooLarge(backend, mebibytes),
    async measure(bench) {
      const work = one.setUp(bench.backend);
      const time = await bench.time(work.run);
      await work.check();
      return { ...time, checked: "500 elements, equal" };
    },
  };
}

function tooLarge({ limits: { maxBufferBytes } }: Backend, mebibytes: number): string | null {
  return mebibytes * mebi <= maxBufferBytes
    ? null
    : `buffers hold at most ${Math.floor(maxBufferBytes / mebi)} MiB on this adapter`;
}

/** copyBufferToBuffer, between two buffers of the engine. */
function driverCopy(mebibytes: number): Case {
  return {
    name: `copy ${mebibytes} MiB, driver`,
    bytes: 2 * mebibytes * mebi,
    missing: ({ backend }) =>
      backend instanceof WebGpuBackend ? tooLarge(backend, mebibytes) : "the plain backend has no driver",
    measure: (bench) => measureDriverCopy(bench, mebibytes),
  };
}

async function measureDriverCopy(bench: Bench, mebibytes: number): Promise<Measured> {
  if (!(bench.backend instanceof WebGpuBackend)) throw new Error("ceilings: a driver's copy needs a WebGPU device");
  const { device } = bench.backend;
  const size = mebibytes * mebi;
  const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const buffer = (): GPUBuffer => device.createBuffer({ label: "copy", size, usage });
  const [from, to] = [buffer(), buffer()];
  const probe = device.createBuffer({
    label: "probe",
    size: 4096,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  try {
    const numbers = new Numbers(1);
    const last = (size - 4096) / 4;
    device.queue.writeBuffer(
      from,
      size - 4096,
      Float32Array.from({ length: 1024 }, (_, i) => numbers.at(last + i)),
    );
    const copy = (source: GPUBuffer, start: number, target: GPUBuffer, bytes: number): void => {
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(source, start, target, 0, bytes);
      device.queue.submit([encoder.finish()]);
    };
    const time = await bench.time(() => copy(from, 0, to, size));
    copy(to, size - 4096, probe, 4096);
    const arrival = probe.mapAsync(GPUMapMode.READ);
    await bench.backend.idle();
    await arrival;
    const found = new Float32Array(probe.getMappedRange());
    const expected = Float32Array.from({ length: 1024 }, (_, i) => numbers.at(last + i));
    return { ...time, checked: bench.compare("the last elements", found, expected, 0) };
  } finally {
    for (const one of [from, to, probe]) one.destroy();
  }
}

export const ceilings: PartOf = (sizes) => ({
  cases: [
    ...sizes.copyMiB.flatMap((mebibytes) => [kernelCopy(mebibytes), driverCopy(mebibytes)]),
    ...ceilingProducts(sizes),
  ],
});
