// Wrong drivers, imitated: a backend whose kernels differ from those that it was given.
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Backend, Dispatch } from "../../../engine/backends/backend.ts";
import { sharedFile } from "../../../engine/backends/webgpu/compose.ts";
import type { AnyKernel } from "../../../engine/kernel.ts";

/** Changes a dispatch, or drops it (null). */
export type Plant = (work: Dispatch) => Dispatch | null;

/** The backend with a fault. It compiles nothing in advance, lest the kernels without the fault be compiled too. */
export function withFault(backend: Backend, plant: Plant): Backend {
  return new Proxy(backend, {
    get(target, key) {
      if (key === "prepare") return undefined;
      if (key === "dispatch")
        return (work: Dispatch): void => {
          const planted = plant(work);
          if (planted !== null) target.dispatch(planted);
        };
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Texts to replace in a kernel's WGSL and the files that it uses. */
export type Edits = readonly (readonly [RegExp, string])[];

/** A fault in the WGSL of every kernel whose name matches. `count()`: how many kernels were changed. */
export function inWgsl(names: RegExp, edits: Edits): { plant: Plant; count: () => number } {
  const changed = new Map<AnyKernel, AnyKernel>();
  const plant: Plant = (work) => {
    if (!names.test(work.kernel.name)) return work;
    const kernel = changed.get(work.kernel) ?? edited(work.kernel, edits);
    changed.set(work.kernel, kernel);
    return { ...work, kernel };
  };
  return { plant, count: () => [...changed].filter(([before, after]) => before !== after).length };
}

/** The kernel with changed files, in a folder of their own; itself if no text occurs in it. */
function edited(kernel: AnyKernel, edits: Edits): AnyKernel {
  const files = [kernel.wgsl, ...kernel.uses.map((name) => sharedFile(kernel, name))].map((url) => {
    const text = readFileSync(url, "utf8");
    return { url, text, after: edits.reduce((before, [from, to]) => before.replace(from, to), text) };
  });
  if (files.every(({ text, after }) => text === after)) return kernel;
  const folder = mkdtempSync(join(tmpdir(), "foothold-fault-"));
  for (const { url, after } of files) writeFileSync(join(folder, basename(fileURLToPath(url))), after);
  return {
    ...kernel,
    name: `${kernel.name} with a fault`,
    wgsl: pathToFileURL(join(folder, basename(fileURLToPath(kernel.wgsl)))),
  };
}
