import * as assert from "uvu/assert";
import { webgpuBackend } from "../backends.ts";
import { describe } from "../support.ts";
import { trainAndWatch } from "./lifetimes.ts";

describe("engine/lifetimes, long", (test) => {
  test("10,000 steps hold what the first few hold, and the process does not grow", async () => {
    const { backend } = await webgpuBackend();
    const { held, resident } = await trainAndWatch(backend, 10_000);
    for (const now of held) assert.equal(now, held[0]);
    // The collector comes when it likes, so the process is compared over long stretches: its least in the last quarter with
    // its least in the second. Half a kilobyte a step lost for good would be 2.5 MiB.
    const quarter = Math.floor(resident.length / 4);
    const second = Math.min(...resident.slice(quarter, 2 * quarter));
    const last = Math.min(...resident.slice(3 * quarter));
    console.log(
      `resident: ${(second / 2 ** 20).toFixed(1)} MiB in the second quarter, ${(last / 2 ** 20).toFixed(1)} in the last`,
    );
    assert.ok(last < second + 32 * 2 ** 20, `from ${second} to ${last} bytes`);
  });
});
