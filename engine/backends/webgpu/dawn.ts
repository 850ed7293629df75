// Loads Dawn when an adapter is first needed: its native part takes a while, and commands that only read files need
// none of it.
import { tmpdir } from "node:os";

/**
 * What is used of Dawn. It is written out here because this package's declarations must not name the types of `webgpu`:
 * they bring in @webgpu/types, which clashes with the browser's own WebGPU types in a program that uses both.
 */
export interface Dawn {
  /** Makes an instance with these flags. */
  create(flags: string[]): GPU;
  /** GPUBufferUsage and the like. */
  readonly globals: object;
}

let loaded: Dawn | null = null;

/**
 * Loads Dawn once and makes its names for usages and stages (GPUBufferUsage and so on) global, as they are in browsers.
 */
export async function loadDawn(): Promise<Dawn> {
  if (loaded !== null) return loaded;
  // Mesa prints a remark if this is not set.
  process.env["XDG_RUNTIME_DIR"] ??= tmpdir();
  loaded = await import("webgpu");
  Object.assign(globalThis, loaded.globals);
  return loaded;
}
