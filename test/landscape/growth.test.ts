// Maps that grow end with the bytes of a fresh run of their size, and only what is new is computed.
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { nestedIndices } from "../../landscape/grid.ts";
import { describe, throwsMessage } from "../support.ts";
import { type Given, measuredIn, sweepCommand, sweepIn, warmModel } from "./given-sweep.ts";
import { contents, expectSame } from "./tiny-study.ts";

const larger: Given = {
  "landscape.points": 5,
  "landscape.radius": 0.1,
  "landscape.rollouts.prompts": 3,
  "landscape.rollouts.rollouts": 2,
  "landscape.reference.prompts": 3,
  "landscape.conversations": 3,
};

describe("landscape/growth", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-growth-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // The report shows a folder's name, so all have the same.
  const at = (name: string): string => join(place, name, "run");
  const begun: Given = { "landscape.conversations": 3 };

  test("grids nest by bits", () => {
    assert.equal(nestedIndices({ points: 3, radius: 0.05 }, { points: 5, radius: 0.05 }), [0, 2, 4]);
    assert.equal(nestedIndices({ points: 3, radius: 0.05 }, { points: 5, radius: 0.1 }), [1, 2, 3]);
    assert.is(nestedIndices({ points: 5, radius: 0.05 }, { points: 3, radius: 0.05 }), null);
    assert.is(nestedIndices({ points: 3, radius: 0.05 }, { points: 4, radius: 0.05 }), null);
  });

  test("a larger grid, more prompts and more rollouts", async () => {
    await sweepIn(at("grown"), [warmModel], begun);
    const before = measuredIn(at("grown"));
    assert.ok(before.tokens > 0 && before.completions > 0);
    await sweepIn(at("grown"), [warmModel], larger);
    await sweepIn(at("fresh"), [warmModel], larger);
    expectSame(contents(at("grown")), contents(at("fresh")));
    assert.equal(measuredIn(at("grown")), measuredIn(at("fresh")), `${before.tokens} tokens are kept`);
  });

  test("more completions per prompt, a slice and a checkpoint, killed in the middle", async () => {
    const most = { ...larger, "landscape.points": 3, "landscape.radius": 0.05 };
    const grown = { ...most, "landscape.reference.rollouts": 3, "landscape.slices": 2 };
    const two = [`${warmModel}=0`, `${warmModel}=1`];
    cpSync(at("grown"), at("unused"), { recursive: true });
    await sweepIn(at("more"), [warmModel], most);
    const killed = await sweepCommand(at("more"), two, grown, { FOOTHOLD_KILL_AT: "cells:4" });
    assert.is(killed.signal, "SIGKILL", killed.stderr);
    await sweepIn(at("more"), two, grown);
    await sweepIn(at("all"), two, grown);
    expectSame(contents(at("more")), contents(at("all")));
  });

  test("what alters is refused with the difference and a free folder; so is growing around grid points under way", async () => {
    const before = contents(at("grown"));
    const refused = (flags: Given, ...texts: string[]): Promise<Error> =>
      throwsMessage(() => sweepIn(at("grown"), [warmModel], { ...larger, ...flags }), ...texts);
    await refused({ "landscape.points": 4 }, "landscape.points: 5 -> 4", `--out ${at("grown")}-2`);
    await refused({ "landscape.radius": 0.15 }, "landscape.radius: 0.1 -> 0.15");
    await refused({ "landscape.rollouts.prompts": 2 }, "landscape.rollouts.prompts: 3 -> 2");
    await refused({ "landscape.maxNewTokens": 5 }, "landscape.maxNewTokens: 4 -> 5");
    const underWay = join(at("grown"), "landscape/step-000000/slice-0/under-way.jsonl");
    writeFileSync(underWay, "");
    await refused({ "landscape.rollouts.prompts": 4 }, "grid points are under way");
    rmSync(underWay);
    expectSame(contents(at("grown")), before);
  });
});
