import { addOp, mulOp, scaleOp, subOp } from "../../../../engine/ops/elementwise/elementwise.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { checkOp, type InputSpec } from "../../check-op.ts";
import { elementCases } from "./element-sizes.ts";

const inputs: Record<string, InputSpec> = {
  "one element": [1],
  "prime sizes": [3, 7, 11],
  ...elementCases((rows, width): InputSpec => [rows, width]),
  "no rows": [0, 5],
  "rows of nothing": [3, 0],
  "tensors in several segments": [150, 61],
  "huge numbers": { shape: [5, 13], scale: 1e37 },
  "tiny numbers": { shape: [5, 13], scale: 1e-30 },
};

// A sum and a product by an f32 each round once, by 2⁻²⁴ of the result.
const tolerance = { forward: { relative: 6e-8 }, gradient: { relative: 6e-8 } };

describe("engine/ops/elementwise/elementwise", (test) => {
  for (const op of [addOp, subOp])
    checkOp(test, op, {
      settings: {},
      cases: Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, { a: x, b: x }])),
      tolerance,
    });
  checkOp(test, mulOp, {
    settings: {},
    cases: Object.fromEntries(
      // Products of the largest and the smallest numbers would leave the range of f32.
      Object.entries({
        ...inputs,
        "huge numbers": { shape: [5, 13], scale: 1e15 },
        "tiny numbers": { shape: [5, 13], scale: 1e-15 },
      }).map(([name, x]) => [name, { a: x, b: x }]),
    ),
    tolerance,
  });
  for (const factor of [-1.75, 0])
    checkOp(test, scaleOp, {
      settings: { factor },
      cases: Object.fromEntries(
        Object.entries(inputs).map(([name, x]) => [`by ${factor}: ${name}`, { inputs: { x } }]),
      ),
      tolerance,
    });

  test("tensors of two shapes are refused", async () => {
    for (const { definition } of [addOp, subOp, mulOp]) {
      const message = `${definition.name}: b: expected [2,3], got [3,2]`;
      await throwsMessage(() => definition.shapes({ a: [2, 3], b: [3, 2] }, {}), message);
    }
  });
});
