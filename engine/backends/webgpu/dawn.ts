// Dawn, loaded when an adapter is first looked for: its native part takes a while, and what only reads files needs none of it.
import { tmpdir } from "node:os";

export type Dawn = typeof import("webgpu");

let loaded: Dawn | null = null;

/** Loads Dawn once and gives its names for usages and stages (GPUBufferUsage and the like) the global place they have in browsers. */
export async function loadDawn(): Promise<Dawn> {
  if (loaded !== null) return loaded;
  // Mesa prints a remark where this is not set.
  process.env["XDG_RUNTIME_DIR"] ??= tmpdir();
  loaded = await import("webgpu");
  Object.assign(globalThis, loaded.globals);
  return loaded;
}
