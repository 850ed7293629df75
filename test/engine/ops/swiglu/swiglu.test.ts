import { swiglu, swigluOp } from "../../../../engine/ops/swiglu/swiglu.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { checkOp } from "../../check-op.ts";
import { elementCases } from "../elementwise/element-sizes.ts";
import { checkKnownOps } from "../known-ops.ts";

describe("engine/ops/swiglu/swiglu", (test) => {
  checkOp(test, swigluOp, {
    settings: {},
    cases: {
      "one element": { gate: [1, 1], up: [1, 1] },
      "prime sizes": { gate: [7, 61], up: [7, 61] },
      ...elementCases((rows, width) => ({ gate: [rows, width], up: [rows, width] })),
      "no rows": { gate: [0, 5], up: [0, 5] },
      "tensors in several segments": { gate: [150, 61], up: [150, 61] },
      "tiny numbers": { inputs: { gate: { shape: [3, 17], scale: 1e-15 }, up: { shape: [3, 17], scale: 1e-15 } } },
      "huge numbers": { inputs: { gate: { shape: [3, 17], scale: 1e15 }, up: { shape: [3, 17], scale: 1e15 } } },
      "gates far out": {
        inputs: { gate: { shape: [3, 17], values: Array.from({ length: 51 }, (_, i) => 8 * (i - 25)) }, up: [3, 17] },
      },
    },
    // exp errs by 3 + 2|x| ULP: at |x| = 4, where its part still counts, 11 · 2⁻²³ = 1.3e-6.
    tolerance: { forward: { ofScale: 1e-6, absolute: 2e-6 }, gradient: { ofScale: 1e-6, absolute: 2e-6 } },
  });
  checkKnownOps(test, "swiglu", ({ gate, up }) => ({ y: swiglu(gate, up) }));
  test("refuses another shape", () =>
    throwsMessage(() => swigluOp.definition.shapes({ gate: [2, 3], up: [3, 2] }, {}), "expected [2,3], got [3,2]"));
});
