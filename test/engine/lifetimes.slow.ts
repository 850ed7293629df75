import * as assert from "uvu/assert";
import { webgpuBackend } from "../backends.ts";
import { describe } from "../support.ts";
import { trainAndWatch } from "./lifetimes.ts";

describe("engine/lifetimes, long", (test) => {
  test("10,000 steps hold what the first few hold, and the process does not grow", async () => {
    const { backend } = await webgpuBackend();
    const { held, resident } = await trainAndWatch(backend, 10_000);
    for (const now of held) assert.equal(now, held[0]);
    // What drivers and Dawn hold, by the pages of the process: 16 MiB are 1.7 KiB a step, less than one object a dispatch.
    const [first, ...later] = resident;
    const most = Math.max(...later);
    assert.ok(most < first + 16 * 2 ** 20, `resident: ${resident.map((bytes) => (bytes / 2 ** 20).toFixed(1))} MiB`);
  });
});
