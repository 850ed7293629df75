import { rope, ropeOp, rotaryTables } from "../../../../engine/ops/rope/rope.ts";
import { fromArray } from "../../../../engine/tensor.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { checkOp } from "../../check-op.ts";
import { elementCases } from "../elementwise/element-sizes.ts";
import { checkKnownOps } from "../known-ops.ts";

const tables = (positions: number[], headSize: number) => {
  const { cos, sin } = rotaryTables(positions, headSize, 1e4);
  const shape = [positions.length, headSize / 2];
  return { cos: { shape, values: Float32Array.from(cos) }, sin: { shape, values: Float32Array.from(sin) } };
};

const upTo = (count: number): number[] => Array.from({ length: count }, (_, t) => t);

describe("engine/ops/rope/rope", (test) => {
  checkOp(test, ropeOp, {
    settings: {},
    cases: {
      "one pair": { x: [1, 1, 2], ...tables([3], 2) },
      "odd sizes": { x: [7, 3, 22], ...tables([0, 5, 2, 700, 31, 8, 1], 22) },
      ...elementCases((rows, width) => ({ x: [rows, 1, 2 * width], ...tables(upTo(rows), 2 * width) })),
      "huge numbers": { inputs: { x: { shape: [5, 2, 6], scale: 1e36 }, ...tables(upTo(5), 6) } },
      "tiny numbers": { inputs: { x: { shape: [5, 2, 6], scale: 1e-30 }, ...tables(upTo(5), 6) } },
      "no tokens": { x: [0, 2, 4], ...tables([], 4) },
      "tensors in several segments": { x: [150, 4, 16], ...tables(upTo(150), 16) },
    },
    // Two products and a sum: three roundings of terms within the scale.
    tolerance: { forward: { ofScale: 3e-7 }, gradient: { ofScale: 3e-7 } },
  });

  checkKnownOps(test, "rope", (inputs, { positions, theta }, backend) => {
    const turned = (name: string) => {
      const x = inputs[name];
      const { cos, sin } = rotaryTables(positions as number[], x.shape[2], Number(theta));
      const shape = [x.rows, x.shape[2] / 2];
      return rope(x, fromArray(backend, cos, shape, x.dtype), fromArray(backend, sin, shape, x.dtype));
    };
    return { rotatedQ: turned("q"), rotatedK: turned("k") };
  });

  test("tables do not depend on what was asked before", () => {
    const small = rotaryTables([3, 1], 8, 500);
    rotaryTables([100_000], 8, 500);
    const again = rotaryTables([3, 1], 8, 500);
    assertClose("cos", again.cos, small.cos, {});
    assertClose("sin", again.sin, small.sin, {});
    assertClose("cos of position 3", [small.cos[1]], [Math.cos(3 * 500 ** (-2 / 8))], { absolute: 1e-15 });
  });

  test("refuses what is no position, by token", async () => {
    await throwsMessage(() => rotaryTables([0, -1], 8, 500), "token 1", "got -1");
    await throwsMessage(() => rotaryTables([0.5], 8, 500), "token 0", "got 0.5");
  });

  test("refuses tables of other positions", () =>
    throwsMessage(
      () => ropeOp.definition.shapes({ x: [2, 1, 4], cos: [3, 2], sin: [2, 2] }, {}),
      "expected [2,2], got [3,2]",
    ));
});
