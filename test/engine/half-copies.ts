// Copies of weights in f16, as a ParameterArena keeps them for mixed precision.
import { noGradient } from "../../engine/autograd.ts";
import { packHalfPanels, toHalf } from "../../engine/ops/matmul/half.ts";
import { panelShape } from "../../engine/ops/matmul/matmul.ts";
import type { HalfCopies } from "../../engine/parameters.ts";
import { empty, type Tensor } from "../../engine/tensor.ts";

/** Copies that live as long as the innermost scope; the tape does not follow them. */
export function halfCopies(weight: Tensor): HalfCopies {
  return joinedHalfCopies([weight])[0];
}

/** Copies whose panels follow each other in memory, as those of a group do. */
export function joinedHalfCopies(weights: readonly Tensor[]): HalfCopies[] {
  return noGradient(() => {
    const [{ backend, rowSize }] = weights;
    const counts = weights.map(({ rows }) => panelShape(rows, rowSize)[0]);
    const all = empty(backend, [counts.reduce((sum, count) => sum + count, 0), rowSize, 8], "f16");
    let start = 0;
    return weights.map((weight, i) => {
      const panels = all.sliceRows(start, counts[i]);
      start += counts[i];
      packHalfPanels(weight, panels);
      return { rows: toHalf(weight), panels };
    });
  });
}
