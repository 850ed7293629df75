import type { NumberArray } from "../../dtype.ts";
import { multiplyWeight as multiplyChunks } from "./matmul.cpu.ts";

/** result[o, chunk, c] (+)= Σ_t left[t, c] · right[t, o], over the rows of the chunk that lie in the cell */
export function multiplyWeight(
  bindings: Record<"left" | "right" | "result", NumberArray>,
  params: Omit<Parameters<typeof multiplyChunks>[1], "hasStarts">,
): void {
  multiplyChunks({ ...bindings, starts: new Uint32Array() }, { ...params, hasStarts: 0 });
}
