// Saved states: whatever bit of a slot is flipped, the other slot is loaded and the damage is told; a wrong step never is.
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { RunFolderError } from "../../engine/host/index.ts";
import { CpuBackend, ParameterArena } from "../../engine/index.ts";
import { loadState, saveState, trainedSteps } from "../../rl/checkpoint.ts";
import { describe, throwsMessage } from "../support.ts";

describe("rl/checkpoint", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-state-"));
  test.after(() => rmSync(place, { recursive: true }));
  const arena = new ParameterArena(new CpuBackend(), new Map([["w", { shape: [2, 3], forwardCopy: false }]]), {
    trainable: true,
  });
  const whole = join(place, "whole");
  const trainer = (folder: string, slot: number): string => join(folder, `slot-${slot}`, "trainer.json");

  test("the latest state comes back", async () => {
    for (const step of [2, 3]) {
      arena.load("w", Float32Array.from([1, 2, 3, 4, 5, step]));
      await saveState(whole, arena, { step, own: { tokensSeen: 10 * step } }, 1);
    }
    const loaded = await loadState(whole, arena);
    assert.equal(loaded, { state: { step: 3, own: { tokensSeen: 30 } }, trouble: null });
    assert.equal([...((await arena.read()).get("w") ?? [])], [1, 2, 3, 4, 5, 3]);
    assert.is(trainedSteps(whole), 3);
  });

  test("one flipped bit anywhere in the latest trainer.json: the state before is loaded, and it is told", async () => {
    const bytes = readFileSync(trainer(whole, 1));
    const folder = join(place, "flipped");
    cpSync(whole, folder, { recursive: true });
    for (let at = 0; at < bytes.length - 1; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at] ^= 1 << (at % 7);
      writeFileSync(trainer(folder, 1), damaged);
      const loaded = await loadState(folder, arena);
      // A flipped bit may spoil a key that is optional in the form; the checksum is then missing and nothing else is wrong.
      if (loaded?.trouble === null) assert.equal(loaded.state, { step: 3, own: { tokensSeen: 30 } }, `byte ${at}`);
      else {
        assert.is(loaded?.state.step, 2, `byte ${at}`);
        assert.match(loaded?.trouble ?? "", trainer(folder, 1));
      }
    }
  });

  test("a file of an earlier version, without a checksum, is read", async () => {
    const folder = join(place, "earlier");
    cpSync(whole, folder, { recursive: true });
    const { crc: _, ...before } = JSON.parse(readFileSync(trainer(folder, 1), "utf8"));
    writeFileSync(trainer(folder, 1), JSON.stringify(before));
    assert.equal(await loadState(folder, arena), { state: { step: 3, own: { tokensSeen: 30 } }, trouble: null });
  });

  test("both slots cut short: one message with both", async () => {
    const folder = join(place, "cut");
    cpSync(whole, folder, { recursive: true });
    for (const slot of [0, 1]) truncateSync(join(folder, `slot-${slot}`, "state.safetensors"), 20);
    const error = await throwsMessage(() => loadState(folder, arena), "no state can be loaded", "slot-0", "slot-1");
    assert.instance(error, RunFolderError);
  });
});
