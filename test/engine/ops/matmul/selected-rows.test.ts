// Gradients of weights from some rows of a batch: the bits of the gradients from all its rows, if the others are zero.
import { multiplyWeight, sumRows } from "../../../../engine/ops/matmul/matmul.ts";
import type { SelectedRows } from "../../../../engine/parameters.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, readTensors } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { describe } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

/** Rows 0 to T − 1 that `isSelected` names. */
function select(total: number, isSelected: (row: number) => boolean): SelectedRows {
  return { total, places: Uint32Array.from({ length: total }, (_, t) => t).filter(isSelected) };
}

const cases: Readonly<Record<string, SelectedRows>> = {
  "every third of one chunk": select(100, (t) => t % 3 === 1),
  "some of many chunks": select(1300, (t) => t % 7 < 3),
  "chunks without rows, first, middle and last": select(1300, (t) => (t > 260 && t < 500) || (t > 900 && t < 1000)),
  "all rows": select(300, () => true),
  "no rows": select(300, () => false),
};
const [C, O] = [20, 12];

describe("engine/ops/matmul/selected rows", (test) => {
  for (const [what, selected] of Object.entries(cases))
    test(what, async () => {
      const { total, places } = selected;
      const kept = (values: Float64Array, width: number): Float64Array =>
        Float64Array.from(
          { length: places.length * width },
          (_, i) => values[places[Math.floor(i / width)] * width + (i % width)],
        );
      const x = normals(1, total * C);
      const isKept = new Set(places);
      const dy = normals(2, total * O).map((value, i) => (isKept.has(Math.floor(i / O)) ? value : 0));
      for (const { name, backend } of await testBackends()) {
        const gradients = async (
          rows: number,
          selection: SelectedRows | null,
          left: Float64Array,
          right: Float64Array,
        ) =>
          scopeAsync(() => {
            const [xs, dys] = [fromArray(backend, left, [rows, C]), fromArray(backend, right, [rows, O])];
            const made = [false, true].flatMap((add) => {
              const dWeight = { tensor: fromArray(backend, normals(3, O * C), [O, C]), add };
              const dBias = { tensor: fromArray(backend, normals(4, O), [O]), add };
              multiplyWeight(dys, xs, dWeight, selection);
              sumRows(dys, dBias, selection);
              return [dWeight.tensor, dBias.tensor];
            });
            return readTensors(made);
          });
        const whole = await gradients(total, null, x, dy);
        const found = await gradients(places.length, selected, kept(x, C), kept(dy, O));
        for (const [i, values] of whole.entries())
          sameBits(`${name}: ${["dWeight", "dBias", "dWeight added to", "dBias added to"][i]}`, found[i], values);
      }
    });
});
