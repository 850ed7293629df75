// The plain backend in float64 that watches its kernels: an index outside the rows that a kernel was given, which
// JavaScript would answer with `undefined` or swallow, is an error. So a shape rule that gives an output too little room is
// found out.
//
// Arrays are watched through proxies. A function that once met a proxy is compiled for any object from then on, and is
// five to ten times as slow with arrays, for the rest of the process. So watched kernels are second copies of the modules
// *.cpu.ts, which only this backend calls.
import { globSync } from "node:fs";
import { registerHooks } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Dispatch } from "../../engine/backends/backend.ts";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import type { NumberArray } from "../../engine/dtype.ts";

/** The end of the address of a second copy. Node loads a module once for each address. */
const copied = "?copied";

/** By each function that a module *.cpu.ts of the engine exports, the same function of the copy. */
const copies = new Map<unknown, unknown>();

// What a copy imports is a copy as well: a kernel may hand its arrays on.
const hooks = registerHooks({
  resolve(specifier, context, next) {
    const found = next(specifier, context);
    const isOurs = context.parentURL?.endsWith(copied) && found.url.startsWith("file:");
    return isOurs ? { ...found, url: found.url + copied } : found;
  },
});
const engine = fileURLToPath(new URL("../../engine", import.meta.url));
for (const file of globSync("**/*.cpu.ts", { cwd: engine })) {
  const url = pathToFileURL(`${engine}/${file}`).href;
  const [own, copy]: Record<string, unknown>[] = [await import(url), await import(url + copied)];
  for (const [name, value] of Object.entries(own)) copies.set(value, copy[name]);
}
hooks.deregister();

/** A kernel's function as a copy; itself, where it is of no module *.cpu.ts. */
export function copyOf<F>(cpu: F): F {
  return (copies.get(cpu) ?? cpu) as F;
}

export class GuardedBackend extends CpuBackend {
  override dispatch(work: Dispatch): void {
    const { kernel } = work;
    const cpu = copyOf(kernel.cpu);
    super.dispatch({
      ...work,
      kernel: {
        ...kernel,
        cpu: (bindings, params, constants) => {
          const guarded = Object.entries(bindings).map(([name, array], i) => [
            name,
            guard(`${kernel.name}: ${name}`, array.subarray(0, work.buffers[i].length)),
          ]);
          cpu(Object.fromEntries(guarded), params, constants);
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
