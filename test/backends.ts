// The backends that tests run on: the float64 reference, the plain backend in f32, and WebGPU on the adapter that
// FOOTHOLD_ADAPTER names (or the best available), with whole buffers and with tensors forced into segments. Opened once
// per process.
import type { Backend } from "../engine/backends/backend.ts";
import { CpuBackend } from "../engine/backends/cpu.ts";
import { openBackend } from "../engine/open.ts";

export interface TestBackend {
  name: string;
  backend: Backend;
}

/** Computes and stores in float64: the reference for every kernel. */
export const reference: Backend = new CpuBackend();

let opened: Promise<TestBackend[]> | undefined;

/** Plain f32, WebGPU, and WebGPU with buffers of at most 16 KiB and 16 KiB + 256. */
export function testBackends(): Promise<TestBackend[]> {
  opened ??= open();
  return opened;
}

async function open(): Promise<TestBackend[]> {
  const found: TestBackend[] = [{ name: "plain f32", backend: new CpuBackend() }];
  for (const [suffix, maxBufferBytes] of [
    ["", undefined],
    [", 16 KiB segments", 16384],
    [", 16 KiB + 256 segments", 16640],
  ] as const) {
    const { backend, adapter } = await openBackend({ backend: "webgpu", maxBufferBytes });
    found.push({ name: `${adapter?.label}${suffix}`, backend });
  }
  return found;
}

/** The whole-buffer WebGPU backend. */
export async function webgpuBackend(): Promise<TestBackend> {
  return (await testBackends())[1];
}
