// Saved states: whatever bit of a slot is flipped, the other slot is loaded and the damage is told; a wrong step never is.

import { deepStrictEqual } from "node:assert/strict";
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

  test("rollouts sampled for the next step come back; damaged ones are noticed like damaged weights", async () => {
    const folder = join(place, "pending");
    const pendingOf = (step: number) => Buffer.from(`rollouts of step ${step}`);
    for (const step of [2, 3]) await saveState(folder, arena, { step, own: {}, pending: pendingOf(step + 1) }, 1);
    assert.equal((await loadState(folder, arena))?.state, { step: 3, own: {}, pending: pendingOf(4) });
    const path = join(folder, "slot-1", "pending.jsonl.gz");
    truncateSync(path, 5);
    const loaded = await loadState(folder, arena);
    assert.equal(loaded?.state, { step: 2, own: {}, pending: pendingOf(3) });
    assert.match(loaded?.trouble ?? "", path);
    rmSync(path);
    assert.is((await loadState(folder, arena))?.state.step, 2);
  });

  test("an arena without moments writes the state of a training before its first step, and needs no moments to read it", async () => {
    const entries = new Map([["w", { shape: [2, 3], forwardCopy: false }]]);
    const values = Float32Array.from([1, 2, 3, 4, 5, 6]);
    const [trained, evaluated] = [true, false].map((trainable) => {
      const made = new ParameterArena(new CpuBackend(), entries, { trainable });
      made.load("w", values);
      return made;
    });
    assert.equal(evaluated.memory(), { ...trained.memory(), gradients: 0, moments: 0 });
    for (const [name, one] of Object.entries({ trained, evaluated }))
      await saveState(join(place, name), one, { step: 0, own: {} }, 1);
    for (const file of ["state.safetensors", "trainer.json"])
      assert.equal(
        readFileSync(join(place, "evaluated", "slot-0", file)),
        readFileSync(join(place, "trained", "slot-0", file)),
      );
    for (const one of [trained, evaluated]) {
      one.load("w", new Float32Array(6));
      assert.is((await loadState(join(place, "evaluated"), one))?.state.step, 0);
      deepStrictEqual((await one.read()).get("w"), values);
    }
    deepStrictEqual((await trained.read(["w"], "moment2")).get("w"), new Float32Array(6));
  });

  test("both slots cut short: one message with both", async () => {
    const folder = join(place, "cut");
    cpSync(whole, folder, { recursive: true });
    for (const slot of [0, 1]) truncateSync(join(folder, `slot-${slot}`, "state.safetensors"), 20);
    const error = await throwsMessage(() => loadState(folder, arena), "no state can be loaded", "slot-0", "slot-1");
    assert.instance(error, RunFolderError);
  });
});
