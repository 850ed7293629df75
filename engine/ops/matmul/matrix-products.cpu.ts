import type { NumberArray } from "../../dtype.ts";
import { multiplyWeight as multiplyChunks, multiplyForward } from "./matmul.cpu.ts";

/** result[t, o] = bias[o] + Σ_c left[t, c] · panels[o / 8, c, o % 8] + residual[t, o], over the outputs of the cell */
export function multiplyForwardResidual(
  bindings: Record<"left" | "right" | "bias" | "residual" | "result", NumberArray>,
  params: Parameters<typeof multiplyForward>[1] & { hasResidual: number },
): void {
  multiplyForward(bindings, params);
  if (params.hasResidual === 0) return;
  const { rows, panels, panelsStart, columns } = params;
  const { residual, result } = bindings;
  for (let t = 0; t < rows; t++)
    for (let o = panelsStart * 8; o < Math.min((panelsStart + panels) * 8, columns); o++)
      result[t * columns + o] += residual[t * columns + o];
}

/** result[o, chunk, c] (+)= Σ_t left[t, c] · right[t, o], over the rows of the chunk that lie in the cell */
export function multiplyWeight(
  bindings: Record<"left" | "right" | "result", NumberArray>,
  params: Omit<Parameters<typeof multiplyChunks>[1], "hasStarts">,
): void {
  multiplyChunks({ ...bindings, starts: new Uint32Array() }, { ...params, hasStarts: 0 });
}
