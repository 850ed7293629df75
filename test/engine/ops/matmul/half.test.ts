import assert from "node:assert/strict";
import { f16ToF32, f32ToF16 } from "../../../../engine/dtype-conversion.ts";
import { packHalfPanels, toHalf, writeHalf } from "../../../../engine/ops/matmul/half.ts";
import { multiplyForward, multiplyInput, packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";
import { smallIntegers } from "../../normals.ts";
import { readHalf } from "../../read-half.ts";

/** Normal f16 from the smallest to the largest, ties between two of them, and all of either sign. */
function edges(): number[] {
  const values = [
    0,
    1,
    65504,
    65519.99,
    2 ** -14,
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    1 + 2 ** -11 + 2 ** -20,
    2049,
    2051,
    1 / 3,
  ];
  return values.flatMap((value) => [value, -value]);
}

describe("engine/ops/matmul/half", (test) => {
  for (const [T, C] of [
    [1, 1],
    [5, 7],
    [130, 61], // rows of odd width: words that two segments share
    [300, 64],
    [3, 1031], // rows wider than a workgroup
  ])
    test(`[${T},${C}] is rounded to the nearest f16, ties to even`, async () => {
      const values = normals(1, T * C, 30);
      edges()
        .slice(0, T * C)
        .forEach((value, i) => {
          values[i * Math.max(1, Math.floor((T * C) / edges().length))] = value;
        });
      const expected = values.map((value) => f16ToF32(f32ToF16(value)));
      for (const { name, backend } of await testBackends()) {
        await scopeAsync(async () => {
          const found = await readHalf(toHalf(fromArray(backend, values, [T, C])));
          for (let i = 0; i < T * C; i++)
            if (found[i] !== expected[i])
              assert.fail(`${name}: element ${i} is ${values[i]}: expected ${expected[i]}, got ${found[i]}`);
        });
      }
    });

  test("the largest f16 is kept, the next number overflows, and what is not finite stays so", async () => {
    const values = [65504, 65519.99609375, 65520, -65520, 1e30, Number.NEGATIVE_INFINITY, Number.NaN, 1];
    const staysFinite = [true, true, false, false, false, false, false, true];
    for (const width of [1, 4]) // one kernel for fours, one for all else
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          for (const [i, value] of values.entries()) {
            const x = fromArray(backend, new Float32Array(width).fill(value), [1, width]);
            const tensor = empty(backend, [1, 1]);
            multiplyInput(toHalf(x), toHalf(fromArray(backend, new Float32Array(width).fill(1), [width, 1])), {
              tensor,
              add: false,
            });
            const [sum] = await tensor.read();
            assert.equal(Number.isFinite(sum), staysFinite[i], `${name}: ${value} became ${sum}`);
            if (staysFinite[i]) assert.equal(sum, width * f16ToF32(f32ToF16(value)), `${name}: ${value}`);
          }
        });
  });

  test("a weight of more elements than are packed at once has all its panels", async () => {
    const [C, O] = [509, 2100];
    const [x, weight] = [smallIntegers(1, C), smallIntegers(2, C * O)]; // exact in any order of the sums
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const [left, w] = [fromArray(backend, x, [1, C]), fromArray(backend, weight, [O, C])];
        const single = empty(backend, panelShape(O, C));
        const half = empty(backend, panelShape(O, C), "f16");
        packPanels(w, single);
        packHalfPanels(w, half);
        const [y, yHalf] = [empty(backend, [1, O]), empty(backend, [1, O])];
        multiplyForward(left, single, null, y);
        multiplyForward(toHalf(left), half, null, yHalf);
        const [expected, found] = await readTensors([y, yHalf]);
        sameBits(name, found, expected);
      });
  });

  test("refuses a copy of another shape", async () => {
    const [{ backend }] = await testBackends();
    await scopeAsync(() =>
      throwsMessage(
        () => writeHalf(empty(backend, [2, 3]), empty(backend, [3, 2], "f16")),
        "toHalf: half: expected [2,3], got [3,2]",
      ),
    );
  });
});
