// Reads f16 tensors, for tests: there is no array type for them.
import type { NumberArray } from "../../engine/dtype.ts";
import { toHalf } from "../../engine/ops/matmul/half.ts";
import { multiplyInput } from "../../engine/ops/matmul/matmul.ts";
import { empty, fromArray, type Tensor } from "../../engine/tensor.ts";

/** What an f16 tensor [rows, …] holds, seen through a product with the identity. */
export async function readHalf(half: Tensor): Promise<NumberArray> {
  const { backend, rows, rowSize } = half;
  const identity = fromArray(
    backend,
    Float32Array.from({ length: rowSize ** 2 }, (_, i) => (i % (rowSize + 1) === 0 ? 1 : 0)),
    [rowSize, rowSize],
  );
  const tensor = empty(backend, [rows, rowSize]);
  multiplyInput(half.view([rows, rowSize]), toHalf(identity), { tensor, add: false });
  return tensor.read();
}
