// Tensors, and the gradients of an expression of them, for the tests of the tape.
import * as assert from "uvu/assert";
import { GradientMap, record } from "../../engine/autograd.ts";
import type { Backend } from "../../engine/backends/backend.ts";
import type { NumberArray } from "../../engine/dtype.ts";
import { add, scale } from "../../engine/ops/elementwise/elementwise.ts";
import { scopeAsync } from "../../engine/scope.ts";
import { fromArray, type Shape, sizeOf, type Tensor } from "../../engine/tensor.ts";
import { testBackends } from "../backends.ts";
import { normals } from "./check-op.ts";
/** Several segments where a buffer holds 16 KiB. */
export const shape = [150, 48];
export const size = sizeOf(shape);

export const twice = (x: Tensor): Tensor => scale(x, 2);
export const times = (x: Tensor, factor: number): Tensor => scale(x, factor);
export const sum = (a: Tensor, b: Tensor): Tensor => add(a, b);
export const given = (backend: Backend, seed: number, own: Shape = shape): Tensor =>
  fromArray(backend, normals(seed, sizeOf(own)), own);
export const leaf = (backend: Backend, seed: number, own: Shape = shape): Tensor => {
  const tensor = given(backend, seed, own);
  tensor.requiresGradient = true;
  return tensor;
};

/** Runs `body` on every backend, in a scope, and sees to it that no buffer is left. */
export async function onEach(body: (backend: Backend, name: string) => Promise<void>): Promise<void> {
  for (const { name, backend } of await testBackends()) {
    const before = backend.statistics().liveBuffers;
    await scopeAsync(() => body(backend, name));
    assert.is(backend.statistics().liveBuffers - before, 0, `${name}: buffers left behind`);
  }
}

/** The gradients of Σ y · seed for the leaves; the backward pass leaves these and nothing else. */
export async function gradients(leaves: readonly Tensor[], body: () => Tensor): Promise<(NumberArray | undefined)[]> {
  const recording = record(body);
  const y = recording.result;
  const seed = given(y.backend, 77, y.shape);
  const store = new GradientMap(leaves);
  const before = y.backend.statistics().liveBuffers;
  recording.backward(new Map([[y, seed]]), store);
  const found = leaves.map((x) => store.get(x));
  const segments = found.reduce((count, d) => count + (d?.segments.length ?? 0), 0);
  assert.is(y.backend.statistics().liveBuffers - before, segments, "buffers that the backward pass left");
  const read = await Promise.all(found.map((d) => d?.read()));
  store.free();
  return read;
}

export const upstream = normals(77, size);
export const upstreamTimes = (factor: number): Float64Array => upstream.map((v) => factor * v);
// Sums of up to five terms of the seed's size, each rounded to 2⁻²⁴.
export const rounding = { ofScale: 4e-7 };
