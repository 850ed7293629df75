// The plain backend in float64 that watches its kernels: an index outside the rows that a kernel was given, which
// JavaScript would answer with `undefined` or swallow, is an error. So a shape rule that gives an output too little room is
// found out.
import type { Dispatch } from "../../engine/backends/backend.ts";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import type { NumberArray } from "../../engine/dtype.ts";

export class GuardedBackend extends CpuBackend {
  override dispatch(work: Dispatch): void {
    const { kernel } = work;
    super.dispatch({
      ...work,
      kernel: {
        ...kernel,
        cpu: (bindings, params, constants) => {
          const guarded = Object.entries(bindings).map(([name, array], i) => [
            name,
            guard(`${kernel.name}: ${name}`, array.subarray(0, work.buffers[i].length)),
          ]);
          kernel.cpu(Object.fromEntries(guarded), params, constants);
        },
      },
    });
  }
}

function guard(what: string, array: NumberArray): NumberArray {
  const check = (key: string | symbol): void => {
    if (typeof key === "string" && String(Number(key)) === key && !(key in array))
      throw new Error(`${what}: index ${key} of ${array.length} elements`);
  };
  return new Proxy(array, {
    get(target, key) {
      check(key);
      const found: unknown = Reflect.get(target, key, target);
      return typeof found === "function" ? found.bind(target) : found;
    },
    set(target, key, value) {
      check(key);
      return Reflect.set(target, key, value, target);
    },
  });
}
