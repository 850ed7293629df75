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

/** What one wait for a simulated device was like. */
interface SimulatedWait {
  /** Turns of the event loop, at each of which the device is looked at. */
  looks: number;
  longestSleepMs: number;
  /** From the end of the work until the wait ended. */
  lateMs: number;
  /** Whether the wait was pending at every look. */
  wasPending: boolean;
  /** Whether what the device told at the last look, after the end of the work, was heard before the wait ended. */
  hasHeard: boolean;
}

/** A turn of the event loop in which nothing else happens, ms. */
const turnMs = 0.01;

/** More without a turn: the thread never gives the event loop its turn. */
const mostWithoutTurn = 1000;

/**
 * Waits for works, which the device does one after another, on a clock that only sleeps and turns move: so no other work on the machine counts. As on
 * Dawn, the device tells at a turn that it is done.
 * @param ahead  each is queued, and waited for, so many works ahead. Default 0: when the one before is done
 */
async function waitsFor(
  waits: Waits,
  works: readonly { ms: number; work: number }[],
  ahead = 0,
): Promise<SimulatedWait[]> {
  const [{ now }, { wait }] = [performance, Atomics];
  let clockMs = 0;
  let withoutTurn = 0;
  let sleepMs = 0;
  /** A fault must fail here, not hang. */
  const count = (): void => {
    if (++withoutTurn > mostWithoutTurn) throw new Error("the event loop never gets its turn");
  };
  performance.now = () => {
    count();
    return clockMs;
  };
  Object.assign(Atomics, {
    wait: (_: Int32Array, __: number, ___: number, ms: number) => {
      count();
      clockMs += ms;
      sleepMs = Math.max(sleepMs, ms);
    },
  });
  const all: SimulatedWait[] = [];
  const dones = works.map(() => deferred<void>());
  const pending: Promise<void>[] = [];
  try {
    for (const [i, { ms }] of works.entries()) {
      const endMs = clockMs + ms;
      const found = { looks: 0, longestSleepMs: 0, lateMs: 0, wasPending: true, hasHeard: false };
      sleepMs = 0;
      const lookUntilDone = (): void => {
        withoutTurn = 0;
        clockMs += turnMs;
        found.looks++;
        found.wasPending &&= waits.isWaiting;
        if (clockMs < endMs) {
          setImmediate(lookUntilDone);
          return;
        }
        dones[i].resolve();
        // An error is told a few steps later in the same turn.
        let told = Promise.resolve();
        for (let i = 0; i < 20; i++) told = told.then(() => {});
        void told.then(() => {
          found.hasHeard = true;
        });
      };
      setImmediate(lookUntilDone);
      while (pending.length < works.length && pending.length <= i + ahead)
        pending.push(waits.until(dones[pending.length].promise, works[pending.length].work));
      await pending[i];
      all.push({ ...found, longestSleepMs: sleepMs, lateMs: clockMs - endMs });
    }
  } finally {
    performance.now = now;
    Object.assign(Atomics, { wait });
  }
  return all;
}

describe("engine/backends/webgpu/waiting", (test) => {
  for (const longestMs of [0.1, 2])
    test(`waits of up to ${longestMs} ms of sleep: pending until the work is done, few looks, noticed soon, nothing missed`, async () => {
      const waits = new Waits(longestMs);
      // Unknown at first, then as expected, longer, shorter, and again unknown.
      const works = [30, 30, 33, 27, 30].map((ms, i) => ({ ms, work: i === 4 ? 0 : 1000 }));
      const found = await waitsFor(waits, works);
      for (const [i, { looks, longestSleepMs, lateMs, wasPending, hasHeard }] of found.entries()) {
        const what = `wait ${i}: ${looks} looks, the longest sleep ${longestSleepMs} ms, ${lateMs} ms late`;
        assert.ok(wasPending, `${what}: it ended before the work`);
        assert.ok(hasHeard, `${what}: it ended before the turn`);
        assert.ok(longestSleepMs <= longestMs, what);
        assert.ok(lateMs <= longestMs + 3 * turnMs, what);
        // At most one look for each longest sleep, and those that find the end; a thread that does not sleep looks 3000 times.
        assert.ok(looks <= works[i].ms / longestMs + 40, what);
      }
      assert.not(waits.isWaiting);
      const mostMs = works.reduce((sum, { ms }) => sum + ms, 0);
      assert.ok(waits.waitMs > 0.9 * mostMs && waits.waitMs < 1.1 * mostMs, `${waits.waitMs} of ${mostMs} ms`);
    });

  test("what a wait took tells the next one how long to sleep, in proportion to the work", async () => {
    const waits = new Waits(2);
    const [, same, half, twice, unknown] = await waitsFor(waits, [
      { ms: 12, work: 1000 },
      { ms: 12, work: 1000 },
      { ms: 6, work: 500 },
      { ms: 24, work: 2000 },
      { ms: 12, work: 0 },
    ]);
    // To three quarters of the time in the longest sleeps; then sleeps of a twenty-fourth of the time so far.
    for (const [{ looks, lateMs }, ms] of [
      [same, 12],
      [half, 6],
      [twice, 24],
    ] as const) {
      assert.ok(lateMs <= ms / 24 + 0.1, `${ms} ms: ${lateMs} ms late`);
      assert.ok(looks <= Math.ceil(ms / 2) + 12, `${ms} ms: ${looks} looks`);
    }
    assert.ok(unknown.looks > same.looks, `${unknown.looks} and ${same.looks} looks`);
  });

  test("work that was queued behind other work is expected to begin when that ends", async () => {
    const works = Array.from({ length: 6 }, () => ({ ms: 12, work: 1000 }));
    const [alone, queued] = [await waitsFor(new Waits(2), works), await waitsFor(new Waits(2), works, 1)];
    for (let i = 1; i < works.length; i++) {
      const what = `wait ${i}: ${queued[i].looks} and ${alone[i].looks} looks`;
      assert.ok(Math.abs(queued[i].looks - alone[i].looks) <= 2, what);
      assert.ok(queued[i].lateMs <= 12 / 24 + 0.1, `wait ${i}: ${queued[i].lateMs} ms late`);
    }
  });

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
    const [first, second, third] = [deferred<string>(), deferred<string>(), deferred<string>()];
    const start = performance.now();
    const all = [first, second, third].map(({ promise }) => waits.until(promise, 1));
    assert.ok(waits.isWaiting);
    setTimeout(() => first.resolve("one"), 30);
    assert.is(await all[0], "one");
    busy(60);
    // Done meanwhile: no time was waited for it.
    second.resolve("two");
    assert.is(await all[1], "two");
    setTimeout(() => third.resolve("three"), 30);
    assert.is(await all[2], "three");
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
