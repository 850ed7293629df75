// A body recorded on distinct rows, repeated for a batch of them: values and gradients of the body run on all rows.
import * as assert from "uvu/assert";
import { GradientMap, record } from "../../../../engine/autograd.ts";
import { mul, scale } from "../../../../engine/ops/elementwise/elementwise.ts";
import { repeatRows } from "../../../../engine/ops/gather/repeat-rows.ts";
import { linear } from "../../../../engine/ops/matmul/linear.ts";
import { rmsNorm } from "../../../../engine/ops/rms-norm/rms-norm.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { normals } from "../../check-op.ts";

const [distinctRows, C, O] = [5, 8, 12];
const places = Uint32Array.from({ length: 300 }, (_, i) => (i * i) % distinctRows);

describe("engine/ops/gather/repeat rows", (test) => {
  test("values and gradients have the bits of all rows, and no op computes again", async () => {
    for (const { name, backend } of await testBackends()) {
      const few = normals(1, distinctRows * C);
      const many = Float64Array.from(
        { length: places.length * C },
        (_, i) => few[places[Math.floor(i / C)] * C + (i % C)],
      );
      const take = async (isRepeated: boolean): Promise<ArrayLike<number>[]> =>
        scopeAsync(async () => {
          const leaf = (seed: number, shape: number[]): Tensor => {
            const tensor = fromArray(
              backend,
              normals(
                seed,
                shape.reduce((a, b) => a * b),
              ),
              shape,
            );
            tensor.requiresGradient = true;
            return tensor;
          };
          const [weight, bias, norm] = [leaf(2, [O, C]), leaf(3, [O]), leaf(4, [C])];
          const input = (values: Float64Array): Tensor => {
            const x = fromArray(backend, values, [values.length / C, C]);
            x.requiresGradient = true;
            return x;
          };
          const body = (x: Tensor): Tensor => linear(rmsNorm(scale(x, 2), norm, 1e-6), weight, bias);
          const x = input(many);
          const distinct = record(() => body(input(few)));
          const recording = record(() =>
            isRepeated ? repeatRows(distinct, new Map([[places.length, places]]), () => body(x)) : body(x),
          );
          const { result } = recording;
          const seed = fromArray(backend, normals(5, result.size), result.shape);
          const gradients = recording.backward(new Map([[result, seed]]), new GradientMap());
          const read = await readTensors([result, ...[x, weight, bias, norm].map((t) => gradients.get(t) as Tensor)]);
          gradients.free();
          return read;
        });
      const [expected, found] = [await take(false), await take(true)];
      expected.forEach((values, i) => void assert.equal(Array.from(found[i]), Array.from(values), `${name}: ${i}`));
    }
  });

  test("refuses a body with other ops, or another number of rows", async () => {
    const [{ backend }] = await testBackends();
    await scopeAsync(async () => {
      const of = (rows: number): Tensor => {
        const x = fromArray(backend, normals(1, rows * C), [rows, C]);
        x.requiresGradient = true;
        return x;
      };
      const [few, many] = [of(2), of(4)];
      const distinct = () => record(() => scale(few, 2));
      const rows = new Map([[3, Uint32Array.of(0, 1, 0)]]);
      await throwsMessage(
        () => record(() => repeatRows(distinct(), rows, () => mul(many, many))),
        "repeatRows: expected scale, got mul.",
      );
      await throwsMessage(
        () => record(() => repeatRows(distinct(), rows, () => scale(many, 2))),
        "repeatRows: scale: y: unexpected number of rows, 4.",
      );
    });
  });
});
