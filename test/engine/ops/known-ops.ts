// Runs the cases of ops.json through an op, forward and backward, on every backend.
import { GradientMap, record } from "../../../engine/autograd.ts";
import type { Backend } from "../../../engine/backends/backend.ts";
import { scopeAsync } from "../../../engine/scope.ts";
import { fromArray, type Tensor } from "../../../engine/tensor.ts";
import { reference, testBackends } from "../../backends.ts";
import { readSafetensorsFixture } from "../../fixture-tensors.ts";
import { assertKnown, readFixture, type Test, type Tolerance } from "../../support.ts";

export interface KnownCase {
  name: string;
  op: string;
  inputs: string[];
  outputs: string[];
  upstream: string[];
  gradients: string[];
  shapes: Record<string, number[]>;
  [parameter: string]: unknown;
}

/**
 * @param body  runs the op on the case's inputs, which require gradients, and gives its outputs by the case's names
 */
export function checkKnownOps(
  test: Test,
  op: string,
  body: (inputs: Record<string, Tensor>, one: KnownCase, backend: Backend) => Record<string, Tensor>,
): void {
  const { cases } = readFixture<{ cases: KnownCase[] }>("ops.json");
  const tensors = readSafetensorsFixture("ops.safetensors");
  for (const one of cases.filter((c) => c.op === op)) {
    const known = (name: string): ArrayLike<number> => tensors.get(`${one.name}/${name}`)?.values ?? [];
    const check = async (on: string, backend: Backend, dtype: "f32" | "f64"): Promise<void> => {
      // As fixtures/README.md has them: float64 relative 1e-9, float32 2e-5 of scale + 2e-6.
      const tolerance: Tolerance = dtype === "f64" ? { ofScale: 1e-9 } : { ofScale: 2e-5, absolute: 2e-6 };
      await scopeAsync(async () => {
        const load = (name: string): Tensor => fromArray(backend, known(name), one.shapes[name], dtype, name);
        const inputs = Object.fromEntries(one.inputs.map((name) => [name, load(name)]));
        for (const tensor of Object.values(inputs)) tensor.requiresGradient = true;
        const recording = record(() => body(inputs, one, backend));
        for (const [name, tensor] of Object.entries(recording.result))
          assertKnown("ops.safetensors", `${op}: ${name}`, on, await tensor.read(), known(name), tolerance);
        const store = new GradientMap(Object.values(inputs));
        const seeds = new Map(one.upstream.map((name) => [recording.result[name.slice(1)], load(name)]));
        recording.backward(seeds, store);
        for (const name of one.gradients) {
          const gradient = store.get(inputs[name.slice(1)]);
          assertKnown("ops.safetensors", `${op}: ${name}`, on, (await gradient?.read()) ?? [], known(name), tolerance);
        }
        store.free();
      });
    };
    test(`known answers: ${one.name}`, async () => {
      await check("plain f64", reference, "f64");
      for (const { name, backend } of await testBackends()) await check(name, backend, "f32");
    });
  }
}
