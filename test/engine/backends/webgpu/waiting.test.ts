// Waiting for the device: how long the thread sleeps between two looks, and which time counts as waiting.
import * as assert from "uvu/assert";
import { sleepMsOf, Waits } from "../../../../engine/backends/webgpu/waiting.ts";
import { describe } from "../../../support.ts";

/** A promise that is settled from outside. */
function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((done, failed) => {
    resolve = done;
    reject = failed;
  });
  return { promise, resolve, reject };
}

/** Uses the thread. */
function busy(ms: number): void {
  for (const start = performance.now(); performance.now() - start < ms; );
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The sleeps of a wait that ends after `ms`, and how late it is noticed. */
function simulate(ms: number, expectedMs: number | null): { looks: number; late: number } {
  let [now, looks] = [0, 0];
  for (; now < ms; looks++) now += sleepMsOf(now, expectedMs, 2);
  return { looks, late: now - ms };
}

describe("engine/backends/webgpu/waiting", (test) => {
  test("a wait of known work is noticed sooner than one of unknown work, after fewer looks", () => {
    for (const ms of [3, 5, 8, 12, 20]) {
      // The work takes up to a tenth more or less than expected.
      const [known, unknown] = [[], []] as { looks: number; late: number }[][];
      for (let i = -10; i <= 10; i++) {
        const took = ms * (1 + i / 100);
        known.push(simulate(took, ms));
        unknown.push(simulate(took, null));
      }
      const mean = (of: typeof known, key: "looks" | "late"): number =>
        of.reduce((sum, one) => sum + one[key], 0) / of.length;
      assert.ok(mean(known, "late") < 0.6 * mean(unknown, "late"), `${ms} ms`);
      assert.ok(mean(known, "looks") < mean(unknown, "looks"), `${ms} ms`);
    }
  });

  test("a wrong expectation makes no sleep longer than the longest", () => {
    for (const expected of [0, 1, 1e6])
      for (const elapsed of [0, 1, 100]) assert.ok(sleepMsOf(elapsed, expected, 2) <= 2);
    assert.is(sleepMsOf(0, 1e6, 2), 2);
    assert.is(sleepMsOf(0, 0, 2), 0.05);
    assert.is(sleepMsOf(0, null, 2), 0.05);
  });

  test("overlapping waits count once, and what the thread does between them does not count", async () => {
    const waits = new Waits(2);
    const [first, second] = [deferred<string>(), deferred<string>()];
    const start = performance.now();
    const both = [waits.until(first.promise, 1), waits.until(second.promise, 1)] as const;
    assert.ok(waits.isWaiting);
    setTimeout(() => first.resolve("one"), 30);
    assert.is(await both[0], "one");
    busy(60);
    setTimeout(() => second.resolve("two"), 30);
    assert.is(await both[1], "two");
    const elapsed = performance.now() - start;
    assert.not(waits.isWaiting);
    assert.ok(waits.waitMs >= 30, `${waits.waitMs} ms of waiting`);
    assert.ok(waits.waitMs <= elapsed - 55, `${waits.waitMs} of ${elapsed} ms`);
  });

  test("an error ends a wait, and is passed on", async () => {
    const waits = new Waits(2);
    const lost = deferred<void>();
    const waiting = waits.until(lost.promise);
    setImmediate(() => lost.reject(new Error("lost")));
    await waiting.then(
      () => assert.unreachable(),
      (error: Error) => assert.is(error.message, "lost"),
    );
    assert.not(waits.isWaiting);
    // Nothing looks at the device any more.
    const before = waits.waitMs;
    for (let i = 0; i < 5; i++) await turn();
    assert.is(waits.waitMs, before);
  });
});
