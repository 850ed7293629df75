import { assertClose, describe, throwsMessage } from "./support.ts";

describe("test/support", (test) => {
  test("assertClose names the worst element", () =>
    throwsMessage(
      () => assertClose("x", [1, 2.5, 3.1], [1, 2, 3], { absolute: 0.05 }),
      "element 1",
      "expected 2, got 2.5",
    ));
  test("assertClose refuses NaN", () =>
    throwsMessage(() => assertClose("x", [Number.NaN], [1], { absolute: 9 }), "element 0"));
  test("assertClose refuses another length", () =>
    throwsMessage(() => assertClose("x", [1], [1, 2], {}), "2 elements"));
  test("equal infinities are close", () =>
    assertClose("x", [Number.POSITIVE_INFINITY], [Number.POSITIVE_INFINITY], {}));
  test("throwsMessage refuses silence", async () => {
    let threw = false;
    await throwsMessage(() => 1, "x").catch(() => {
      threw = true;
    });
    if (!threw) throw new Error("throwsMessage let a body without an error pass");
  });
});
