import * as assert from "uvu/assert";
import { callWithin } from "../../../engine/host/index.ts";
import { describe, throwsMessage } from "../../support.ts";

const tooSlow = (): Error => new Error("too slow");
const forever = (): never => {
  for (;;);
};

describe("engine/host/time-limit", (test) => {
  test("the result, also undefined, and what the function throws", async () => {
    assert.is(
      callWithin(60, () => 3, tooSlow),
      3,
    );
    assert.is(
      callWithin(60, () => undefined, tooSlow),
      undefined,
    );
    await throwsMessage(
      () =>
        callWithin(
          60,
          () => {
            throw new Error("on purpose");
          },
          tooSlow,
        ),
      "on purpose",
    );
  });

  test("a function that does not return is stopped, and the next call has its own time", async () => {
    const start = performance.now();
    await throwsMessage(() => callWithin(0.05, forever, tooSlow), "too slow");
    const took = performance.now() - start;
    assert.ok(took >= 50 && took < 5000, `${took} ms`);
    assert.is(
      callWithin(60, () => "next", tooSlow),
      "next",
    );
  });

  test("one within another: the inner one is stopped, the outer one goes on", () => {
    const found = callWithin(
      60,
      () => {
        try {
          return callWithin(0.05, forever, () => new Error("inner"));
        } catch (thrown) {
          return (thrown as Error).message;
        }
      },
      tooSlow,
    );
    assert.is(found, "inner");
  });
});
