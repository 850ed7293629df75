import * as assert from "uvu/assert";
import { webgpuBackend } from "../backends.ts";
import { describe } from "../support.ts";
import { trainAndWatch } from "./lifetimes.ts";

describe("engine/lifetimes", (test) => {
  test("500 steps on batches of changing size hold as many buffers, bytes, pipelines and bind groups as the first few", async () => {
    const { backend } = await webgpuBackend();
    const before = backend.statistics();
    const { losses, held } = await trainAndWatch(backend, 500);
    assert.ok(losses[losses.length - 1] < losses[0] / 100, `it learns: loss ${losses[0]} … ${losses.at(-1)}`);
    for (const now of held) assert.equal(now, held[0]);
    const after = backend.statistics();
    assert.is(after.liveBuffers, before.liveBuffers);
    assert.is(after.liveBytes, before.liveBytes);
  });
});
