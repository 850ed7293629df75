// The backward pass of all ops that read logits = hidden·weightᵀ in chunks: the gradient of each chunk is computed,
// used for both products, and freed before the next one.
import type { GradientTarget } from "../../run.ts";
import { scope } from "../../scope.ts";
import type { IndexRange, Tensor } from "../../tensor.ts";
import { toHalf } from "../matmul/half.ts";
import { multiplyInput, multiplyWeight } from "../matmul/matmul.ts";
import { type ChunkSettings, cutIntoChunks, halfCopiesOf, type PlainWeight } from "./logits.ts";

/**
 * dhidden = dlogits·weight,   dweight = dlogitsᵀ·hidden, chunk by chunk.
 * @param hidden    [T, C]
 * @param weight    [V, C]; with copies in f16 (halfCopiesOf), gradients of logits are rounded to f16 too
 * @param d         where to store the gradients; if one is absent, its product is left out
 * @param dLogits   computes the gradient of logits [rows, columns]; called inside a scope
 */
export function logitsBackward(
  hidden: Tensor,
  weight: PlainWeight,
  d: { hidden?: GradientTarget | undefined; weight?: GradientTarget | undefined },
  settings: ChunkSettings,
  dLogits: (rows: IndexRange, columns: IndexRange) => Tensor,
): void {
  const { rowChunks, columnChunks } = cutIntoChunks(
    hidden.backend,
    hidden.rows,
    weight.tensor.rows,
    hidden.dtype,
    settings,
  );
  for (const rows of rowChunks)
    for (const columns of columnChunks)
      scope(() => {
        const half = halfCopiesOf(weight, hidden.backend);
        const states = hidden.sliceRows(rows.start, rows.count);
        const single = dLogits(rows, columns);
        const gradient = half === null ? single : toHalf(single);
        if (d.hidden)
          multiplyInput(gradient, (half?.rows ?? weight.tensor).sliceRows(columns.start, columns.count), {
            tensor: d.hidden.tensor.sliceRows(rows.start, rows.count),
            add: d.hidden.add || columns.start > 0,
          });
        if (d.weight)
          multiplyWeight(gradient, half === null ? states : toHalf(states), {
            tensor: d.weight.tensor.sliceRows(columns.start, columns.count),
            add: d.weight.add || rows.start > 0,
          });
      });
}
